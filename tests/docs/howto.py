"""What the tests of `docs/how-to/` share: blocks by their first line, commands as an operator would give them."""

import os
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from django_meanwhile import conf
from django_meanwhile.management.commands.meanwhile import Command
from django_meanwhile.worker.supervisor import SETTLE_WITHIN
from tests.playground import Running

from .pages import Page
from .site import Site

PARTS = 4  # beat, upkeep, listener, herald: a stopping supervisor waits for each, and for the settling before


def block(page: Page, first_line: str) -> str:
    """Return the text of the page's block that begins with that line."""
    found = [each.text for each in page.blocks() if each.text.startswith(f"{first_line}\n")]
    assert len(found) == 1, f"{page.name}: {len(found)} blocks begin with {first_line!r}"
    return found[0]


def worker_options(words: list[str]) -> dict[str, Any]:
    """Parse a worker's command line as its own command does, from `manage.py` on."""
    words = words[words.index("manage.py") + 1 :]
    assert words[:2] == ["meanwhile", "worker"], words
    return vars(Command().create_parser("manage.py", "meanwhile").parse_args(words[1:]))


def longest_stop(grace: float | None = None) -> float:
    """Return how many seconds a worker takes to end after SIGTERM, at most."""
    settings = conf.Settings()
    return (settings.grace if grace is None else grace) + settings.stop_grace + SETTLE_WITHIN * (1 + PARTS)


def path() -> str:
    """Return a PATH on which `python` and the servers are those of the tests."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def shell(site: Site, command: str | list[str], within: float = 120) -> "subprocess.CompletedProcess[str]":
    """Run a command of a page in the site, through a shell if it is a line; its status is the caller's business."""
    return subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=site.path,
        env=site.env | {"PATH": path()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )


def start(site: Site, line: str, **env: str) -> Running:
    """Start a command line of a page in the site, and let it run."""
    words = shlex.split(line)
    return site._start(words, Path(words[0]).name, {"PATH": path(), **env})


def fetch(port: int, place: str) -> str:
    """Return what the site's server answers, or nothing while it does not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{place}", timeout=10) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, OSError):
        return ""
