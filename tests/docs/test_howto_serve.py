"""`manage.py serve` in the documentation: its table of settings, and the recipes that start it."""

import argparse
import configparser
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import override_settings

from django_meanwhile.conf import SERVER, ServerSettings, get_settings
from django_meanwhile.management.commands.serve import Command
from django_meanwhile.serve import main
from django_meanwhile.serve.plan import ASGI_THREADS, WSGI_THREADS
from tests.playground import Running, eventually
from tests.ports import free_port

from .howto import block, fetch, shell, start
from .pages import README, code, page
from .site import Site

SERVE, SERVERS = page("reference/serve"), page("how-to/servers")
PRODUCTION, DOCKER, PROCFILE = (page(f"how-to/{name}") for name in ("production", "docker", "procfile"))
UNIT = "# /etc/systemd/system/mysite.service"


@pytest.fixture(params=["sqlite"], scope="module")
def _vendor_of_project(request: pytest.FixtureRequest) -> str:
    return request.param


def _options(words: list[str]) -> dict[str, object]:
    words = words[words.index("manage.py") + 1 :]
    assert words[0] == "serve", words
    return vars(Command().create_parser("manage.py", "serve").parse_args(words[1:]))


# --- the reference --------------------------------------------------------------------------------


def test_the_table_is_the_schema() -> None:
    """Each key has its row, in order, with its flags, its default and its range; no other key has one."""
    table = SERVE.table("What each setting does", "key and flag", "default", "range")
    parser = Command().create_parser("manage.py", "serve")
    flags = {each.dest: each.option_strings for each in parser._actions if each.help != argparse.SUPPRESS}
    assert [code(cell)[0] for cell in table.column("key and flag")] == list(SERVER)
    for cell, default, accepted, _ in table.rows:
        name, *told = code(cell)
        assert told == flags[name], name
        if default == "the value of `DEBUG`":
            with override_settings(DEBUG=True, MEANWHILE={}):
                assert getattr(get_settings().server, name) is True
        else:
            value = getattr(ServerSettings(), name)
            assert default == (f'"{value}"' if isinstance(value, str) else f"{value:g}" if value else str(value)), name
        if bounds := re.match(r"(\d+) to (\d+)(, or None)?$", accepted):
            low, high = int(bounds[1]), int(bounds[2])
            for inside in (low, high):
                assert SERVER[name](inside) == inside
            for outside in (low - 1, high + 1):
                with pytest.raises(ValueError, match="must be"):
                    SERVER[name](outside)
        elif words := re.findall(r'"(\w+)"', accepted):
            assert all(SERVER[name](word) == word for word in words)
            with pytest.raises(ValueError, match=" or ".join(f"'{word}'" for word in words)):
                SERVER[name]("other")


def test_the_page_s_numbers_are_those_of_the_code() -> None:
    """Threads where none are given, seconds while files are watched."""
    threads = next(row for row in SERVE.table("What each setting does", "key and flag").rows if "`threads`" in row[0])
    assert f"requests at once in each process; {WSGI_THREADS}." in threads[3]
    assert threads[3].endswith(f"; {ASGI_THREADS}")
    grace = next(row for row in SERVE.table("What each setting does", "key and flag").rows if "`graceful" in row[0])
    assert f" At most {main.DEVELOPMENT_GRACE:g} while files are watched." in grace[3]


def test_every_command_line_can_be_parsed() -> None:
    """Each `manage.py serve` of these pages is one that the command takes."""
    lines = [
        line
        for each in (SERVE, SERVERS, PRODUCTION, PROCFILE, DOCKER)
        for block in each.blocks()
        for line in block.commands
        if "manage.py serve" in line
    ]
    assert len(lines) >= 2
    for line in lines:
        _options(shlex.split(line))


# --- the recipes ----------------------------------------------------------------------------------


def _answers(server: Running, port: int) -> bool:
    assert server.is_running(), server.log
    return bool(fetch(port, "/start/"))


@pytest.mark.slow
def test_the_servers_line_serves(site: Site) -> None:
    """The how-to's line answers, with the worker along if EMBEDDED says so, and SIGTERM ends both with status 0."""
    site.use(README)
    site.write("mysite/settings.py", 'MEANWHILE = {"EMBEDDED": True}')
    (line,) = [line for each in SERVERS.blocks() for line in each.commands if "serve" in line]
    port = free_port()
    server = start(site, line.replace("8000", str(port)), TMPDIR=str(site.path))
    eventually(lambda: _answers(server, port), within=60, what="it answers")
    eventually(site.workers, within=30, what="the worker has come along")
    assert server.stop(30) == 0, server.log
    eventually(lambda: not site.processes())


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say about the unit, apart from where Python is; its times fit."""
    text = block(PRODUCTION, UNIT)
    unit = configparser.ConfigParser(interpolation=None)
    unit.read_string(text)
    words = shlex.split(unit["Service"]["ExecStart"])
    options = _options(words)
    assert float(unit["Service"]["TimeoutStopSec"]) > ServerSettings().graceful_timeout + 3
    assert str(options["address"]).startswith("127.0.0.1:"), "on a Unix socket one process would have most connections"
    product = int(str(options["workers"])) * int(str(options["threads"]))
    assert f"`threads`, {product} here" in PRODUCTION.text
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze on this machine: the unit is only read as a file of sections")
    file = tmp_path / "mysite.service"
    file.write_text(text.replace(words[0], sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mysite.service" not in done.stderr


@pytest.mark.slow
def test_the_procfile_runs(site: Site) -> None:
    """Web and worker start under honcho and the web server answers; SIGTERM ends both before honcho's patience."""
    site.use(README)
    site.write("mysite/settings.py", 'MEANWHILE = {"EMBEDDED": False}')
    port = free_port()
    (site.path / "Procfile").write_text(block(PROCFILE, "# Procfile, with serve"))
    (site.path / ".env").write_text(block(PROCFILE, "# .env").replace("8000", str(port)))
    assert "web, worker" in shell(site, "honcho check").stderr
    honcho = start(site, "honcho start")
    eventually(lambda: _answers(honcho, port), within=60, what="the web server answers")
    eventually(site.workers, within=60, what="the worker has registered")
    honcho.stop(30)
    eventually(lambda: not site.processes())


@pytest.mark.slow
def test_the_dockerfile_s_command_runs(site: Site) -> None:
    """The CMD, as a list, serves the README's project, and SIGTERM ends it before Docker's patience does."""
    site.use(README)
    site.write("mysite/settings.py", 'MEANWHILE = {"EMBEDDED": False}')
    words = json.loads(block(DOCKER, "# Dockerfile, the last line").splitlines()[1].removeprefix("CMD "))
    assert float(str(_options(words)["graceful_timeout"])) < 10
    assert "STOPSIGNAL SIGTERM" in block(DOCKER, "# Dockerfile")
    port = free_port()
    server = start(site, shlex.join(words).replace("0.0.0.0:8000", f"127.0.0.1:{port}"))
    eventually(lambda: _answers(server, port), within=60, what="it answers")
    server.send(signal.SIGTERM)
    assert server.wait(30) == 0, server.log
    eventually(lambda: not site.processes())
