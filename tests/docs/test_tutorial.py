"""The tutorial, done to the letter: its files, its commands, a real server with its worker, in an empty folder.

What differs from a reader: a free port in place of 8000, the tested package in place of `pip install`, and the
servers of this test, by their ids, in place of `pkill`. An answer of `curl` and of `show` is asked for again until it
is the one that is printed, as a reader would: not too often, for the worker steps back for requests.
"""

import re
import shlex
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.playground import Project, Running, eventually
from tests.ports import free_port
from tests.processes.harness import kill

from .pages import Block, page

pytestmark = pytest.mark.slow

TUTORIAL = page("tutorial")
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Reader(Project):
    """Somebody who follows the tutorial in ``path``."""

    def __init__(self, path: Path) -> None:
        super().__init__("sqlite", path, {"NAME": str(path / "db.sqlite3")}, NotImplemented)
        self.port = free_port()
        self.job = "no job yet"
        self.server: Running | None = None

    @property
    def env(self) -> dict[str, str]:
        """As for every project of the tests, without their settings: manage.py names those of the tutorial."""
        return {name: value for name, value in super().env.items() if name != "DJANGO_SETTINGS_MODULE"}

    def read(self, block: Block) -> None:
        """Do what a block is for."""
        if block.file:
            path = self.path / block.file
            path.parent.mkdir(exist_ok=True)
            with path.open("a") as file:
                file.write(f"\n\n{block.text.partition(chr(10))[2]}\n")
        elif block.language == "console":
            for typed, shown in _dialogue(block):
                self.type(typed, shown)
        elif block.language == "text":
            assert self.server
            eventually(lambda: _matches(block.text, self.server.log), what=block.text)
        else:
            pytest.fail(f"{block}: nobody knows what to do with it")

    def type(self, typed: str, shown: str) -> None:
        """Run one command until it shows what is printed below it."""
        words = [word.replace("JOB", self.job) for word in shlex.split(typed)]
        match words:
            case ["pip", "install", "django-meanwhile"]:
                pass
            case ["django-admin", *rest]:
                self._run([sys.executable, "-m", "django", *rest], check=True, within=60)
            case ["pkill", "-9", "-f", "manage.py runserver"]:
                self.kill_server()
            case ["python", "manage.py", "runserver"]:
                command = [sys.executable, "manage.py", "runserver", f"127.0.0.1:{self.port}"]
                self.server = self._start(command, "runserver", {})
                self.server.wait_for("Quit the server")
            case ["python", "manage.py", *_]:
                self.until(shown, lambda: self._run([sys.executable, *words[1:]], check=True, within=60).stdout)
            case ["curl", url]:
                self.until(shown, lambda: self.get(url.replace("8000", str(self.port))))
            case _:
                pytest.fail(f"the tutorial says {typed!r}, and nobody knows what that does")

    def until(self, shown: str, ask) -> None:
        """Ask until the answer is the one that is shown; an id in it is the job that the reader follows from now on."""
        if UUID.fullmatch(shown):  # a new job: once, as soon as anything answers
            answer = eventually(ask, within=60, what=shown)
            assert UUID.fullmatch(answer.strip()), answer
            self.job = answer.strip()
        elif shown:
            last = [""]

            def is_shown() -> bool:
                last.append(ask())
                return _matches(shown, last[-1]) or threading.Event().wait(0.3)

            try:
                eventually(is_shown, within=120, what=shown)
            except AssertionError:
                log = self.server.log if self.server else ""
                pytest.fail(f"expected:\n{shown}\nlast answer:\n{last[-1:]}\nserver:\n{log}")
        else:
            ask()

    def get(self, url: str) -> str:
        """Return the text of a page; nothing while the server reloads or does not know it yet."""
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            error.close()  # a file that Python 3.14 wants closed
            return ""
        except OSError:
            return ""

    def kill_server(self) -> None:
        """SIGKILL runserver and the process that it reloads, and see the worker end by itself."""
        kill([process for process in self.processes() if "runserver" in process.cmdline()])
        self.server.popen.wait()
        eventually(lambda: not self.processes(), what="the worker is gone as well")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """A reader in an empty folder; what still runs at the end is killed."""
    reader = Reader(tmp_path)
    yield reader
    reader.kill_everything()


def _dialogue(block: Block) -> list[tuple[str, str]]:
    """Return what is typed and what is shown below it."""
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
    return [(typed.strip(), shown.strip()) for typed, _, shown in (part.partition("\n") for part in parts)]


def _matches(shown: str, text: str) -> bool:
    """Say whether the text is, or somewhere has, what is shown; an ellipsis stands for anything."""
    pattern = ".*".join(re.escape(part.strip("\n")) for part in shown.split("…"))
    return bool(re.search(pattern, text, re.DOTALL))


def test_the_tutorial_works_to_the_letter(reader: Reader) -> None:
    """Who does what the tutorial says, from the first block to the last, sees what it says."""
    for block in TUTORIAL.blocks():
        reader.read(block)
    assert {path.name for path in reader.path.iterdir()} >= {"manage.py", "mysite", "reports", "db.sqlite3"}


def test_an_ellipsis_stands_for_anything_and_nothing_else_does() -> None:
    """The test above cannot be satisfied by another answer than the one that is printed."""
    assert _matches('{"state": "RUNNING", "percent": …}', '{"state": "RUNNING", "percent": 3.0}')
    assert not _matches('{"state": "RUNNING", "percent": …}', '{"state": "READY"}')
    assert _matches("…\n  state         READY\n…", "Job 1\n  state         READY\n  queue")
    assert not _matches("…\n  state         READY\n…", "Job 1\n  state         RUNNING\n  queue")
