"""Colours and bars on a terminal, and plain text everywhere else: real terminals, real pipes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from .newcomer import Newcomer

ESCAPE = "\x1b["
ENQUEUE = (
    "import django; django.setup(); from reports.tasks import generate; "
    "generate.enqueue_many([(n,) for n in range(1000)])"
)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    """A migrated project with a warning to give (SQLite begins deferred) and a thousand jobs that wait."""
    newcomer = Newcomer(tmp_path_factory.mktemp("terminal"))
    newcomer.settings('del DATABASES["default"]["OPTIONS"]')
    newcomer.manage("migrate", "--verbosity", "0")
    newcomer.run("-c", ENQUEUE)
    return newcomer


def on_terminal(newcomer, *args, streams=("stdout", "stderr"), **env):
    """Run ``manage.py meanwhile ARGS`` with these streams on a terminal; return what that and the pipe got."""
    master, slave = pty.openpty()
    given = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE) | dict.fromkeys(streams, slave)
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "meanwhile", *args],
        cwd=newcomer.path,
        env={**newcomer.env, "TERM": "xterm", **env},
        stdin=subprocess.DEVNULL,
        text=True,
        **given,
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            break
        if not part:
            break
        shown += part
    os.close(master)
    piped = "".join(text or "" for text in process.communicate(timeout=60))
    return shown.decode(), piped


COLOURED = [["status"], ["check"], []]


@pytest.mark.parametrize("args", COLOURED, ids=["status", "check", "alone"])
def test_colours_are_for_terminals(newcomer, args):
    """On a terminal there are some; with NO_COLOR or --no-color there are none, and none in a pipe."""
    no_color = [[*args, "--no-color"]] if args else []
    assert ESCAPE in on_terminal(newcomer, *args)[0]
    assert ESCAPE not in on_terminal(newcomer, *args, NO_COLOR="1")[0]
    for given in no_color:
        assert ESCAPE not in on_terminal(newcomer, *given)[0]
    ran = newcomer.manage("meanwhile", *args)
    assert ESCAPE not in ran.stdout + ran.stderr
    assert ran.stdout


def test_colours_can_be_had_in_a_pipe(newcomer):
    """--force-color is the user's own wish, and outranks NO_COLOR."""
    assert ESCAPE in newcomer.manage("meanwhile", "status", "--force-color", NO_COLOR="1").stdout


def test_each_stream_is_judged_by_itself(newcomer):
    """Warnings that go into a file are plain, although stdout is a terminal; and the other way round."""
    args = ("worker", "--drain", "--queues", "default", "--threads", "0", "--coroutines", "0", "--processes", "1")
    shown, piped = on_terminal(newcomer, *args, streams=["stdout"])
    assert ESCAPE in shown
    assert "meanwhile.W002" in piped
    assert ESCAPE not in piped
    shown, piped = on_terminal(newcomer, "status", streams=["stderr"])
    assert "QUEUE" in piped
    assert ESCAPE not in piped


@pytest.mark.parametrize("name", ["worker", "check", "status", "show", "retry", "cancel", "prune"])
def test_help_in_a_pipe_is_plain(newcomer, name):
    """Whatever the version of Python colours by itself."""
    ran = newcomer.manage("meanwhile", name, "--help")
    assert ran.returncode == 0
    assert ESCAPE not in ran.stdout + ran.stderr


def test_a_bar_shows_how_far_a_long_change_is_and_leaves_no_trace(newcomer):
    """Redrawn in place on a terminal, without paint, erased before the result; a pipe gets the result alone."""
    shown, _ = on_terminal(newcomer, "cancel", "--queue", "default", "--limit", "500", "--yes", NO_COLOR="1")
    assert "] 0 of 500" in shown
    assert "] 400 of 500" in shown
    before, _, after = shown.rpartition("\r\x1b[K")
    assert "500 of 500" in before
    assert after.strip() == "500 jobs cancelled"
    assert "\x1b[31" not in shown
    plain = newcomer.manage("meanwhile", "cancel", "--queue", "default", "--limit", "300", "--yes")
    assert (plain.stdout.strip(), plain.stderr) == ("300 jobs cancelled", "")


def test_a_terminal_that_knows_no_escapes_gets_no_bar(newcomer):
    """TERM=dumb, as in an editor: the result alone."""
    shown, _ = on_terminal(newcomer, "cancel", "--queue", "default", "--limit", "1", "--yes", NO_COLOR="1", TERM="dumb")
    assert shown.strip() == "1 job cancelled"
