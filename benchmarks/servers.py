"""`make bench-servers`: requests per second of runserver, gunicorn, uvicorn and `manage.py serve`, side by side.

    make bench-servers
    make bench-servers ARGS="--rounds 5 --seconds 5 --json docs/images"

Each server serves the example site, with one server process and with two: a page that does nothing, and one that asks
the database (SQLite) for a row; and `manage.py serve` with its `workers` and `threads` set in several ways a page that
waits and one that computes. wrk keeps 16 connections busy. Servers take turns, in rounds, so that what else the machine
does touches all of them. wrk runs on the same machine and takes its share of the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.run import describe_machine, positive
from benchmarks.sides import Sides, table
from tests.playground import Running, eventually

EXAMPLE = Path(__file__).resolve().parent.parent / "example"
CONNECTIONS = 16
THREADS = 8

_SETTINGS = """\
from mysite.settings import *
DEBUG = False
ROOT_URLCONF = "bench_urls"
MEANWHILE = {"EMBEDDED": False}
LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "CRITICAL"},
           "loggers": {"django.server": {"level": "CRITICAL", "propagate": False}}}
"""
_URLS = """\
import time
from django.http import HttpResponse, JsonResponse
from django.urls import include, path
from django_meanwhile.models import Job

def row(request):
    return JsonResponse(Job.objects.values("task", "state").first())

def wait(request):
    time.sleep(0.05)
    return HttpResponse("waited")

def compute(request):
    return HttpResponse(sum(n * n for n in range(200_000)))

urlpatterns = [path("", include("mysite.urls")), path("row/", row), path("wait/", wait), path("compute/", compute)]
"""
_WSGI = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"
_ENQUEUE = """\
import django
django.setup()
from reports import tasks
tasks.find_twins.enqueue(1.0)
"""


@dataclass(frozen=True)
class Way:
    """A server: the words after ``python -m``. ``{port}`` and ``{workers}`` are filled in."""

    name: str
    words: str
    workers: tuple[int, ...] = (1, 2)


WAYS = (
    Way("runserver", "django runserver --noreload 127.0.0.1:{port}", (1,)),
    Way(
        "gunicorn, threads",
        f"gunicorn --log-level=error --workers={{workers}} --threads={THREADS} --bind=127.0.0.1:{{port}} "
        "bench_wsgi:application",
    ),
    Way(
        "uvicorn", "uvicorn --log-level=error --no-access-log --workers={workers} --port={port} bench_asgi:application"
    ),
    Way("serve, WSGI", f"django serve --interface=wsgi --workers={{workers}} --threads={THREADS} 127.0.0.1:{{port}}"),
    Way("serve, ASGI", "django serve --interface=asgi --workers={workers} 127.0.0.1:{port}"),
)
BASE = "gunicorn, threads"
SETTINGS = ((1, 1), (1, 8), (2, 1), (2, 8))
"""``workers`` and ``threads`` of serve, by which a page that waits and one that computes are measured."""


def main() -> int:
    """Measure, print, tidy up."""
    parser = argparse.ArgumentParser(
        prog="make bench-servers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=positive, default=3, metavar="N", help="of each server (3)")
    parser.add_argument("--seconds", type=positive, default=3, metavar="N", help="of each measure (3)")
    parser.add_argument("--json", type=Path, metavar="DIR", help="also write servers.json into this folder")
    args = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("This needs wrk, which is not installed. Debian, Ubuntu: apt install wrk. macOS: brew install wrk.")
    about = [
        describe_machine(),
        f"{args.rounds} rounds of {args.seconds} s, {CONNECTIONS} connections: median (min - max)",
    ]
    with tempfile.TemporaryDirectory() as directory:
        place = Place(Path(directory))
        measured = measure(place, args.rounds, args.seconds)
        measured += measure_settings(place, args.rounds, args.seconds)
    print("\n".join(["", *about, "", table(measured)]))
    if args.json:
        args.json.mkdir(parents=True, exist_ok=True)
        found = {"about": about, "figures": [each.as_dict() for each in measured]}
        (args.json / "servers.json").write_text(json.dumps(found, indent=2) + "\n")
    return 0


class Place:
    """The example site with a database of its own, and one job in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name, text in (
            ("bench_settings", _SETTINGS),
            ("bench_urls", _URLS),
            ("bench_wsgi", _WSGI),
            ("bench_asgi", _WSGI.replace("wsgi", "asgi")),
        ):
            (directory / f"{name}.py").write_text(text)
        path = [str(directory), str(EXAMPLE), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.env = os.environ | {
            "DJANGO_SETTINGS_MODULE": "bench_settings",
            "EXAMPLE_DIRECTORY": str(directory),
            "PYTHONPATH": os.pathsep.join(path),
        }
        self._python("-m", "django", "migrate", "--verbosity=0")
        self._python("-c", _ENQUEUE)
        self.pages = {"a page that does nothing": "/ping/", "a page with a query": "/row/"}
        self.working = {"serve, a page that waits 50 ms": "/wait/", "serve, a page that computes": "/compute/"}

    def _python(self, *words: str) -> str:
        done = subprocess.run([sys.executable, *words], env=self.env, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        return done.stdout

    @contextmanager
    def served(self, way: Way, workers: int) -> Iterator[int]:
        """Run the server for the block; yield its port."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = way.words.format(port=port, workers=workers).split()
        running = Running([sys.executable, "-m", *words], self.env, self.directory / "server.log")
        try:
            eventually(lambda: _answers(running, port), within=60, what=f"{way.name} answers")
            yield port
            running.stop()
        finally:
            running.kill()


def measure(place: Place, rounds: int, seconds: int) -> list[Sides]:
    """Return a measure for each page and number of server processes."""
    found: dict[tuple[str, int], dict[str, list[float]]] = {}
    for _ in range(rounds):
        for way in WAYS:
            for workers in way.workers:
                with place.served(way, workers) as port:
                    for page, path in place.pages.items():
                        requests_per_second(port, path, 1)  # each process has answered, each cache is warm
                        rate = requests_per_second(port, path, seconds)
                        found.setdefault((page, workers), {}).setdefault(way.name, []).append(rate)
    return [
        Sides(
            measure=f"{page}, {workers} process{'es' if workers > 1 else ''}",
            database="SQLite",
            unit="requests/s",
            ways=ways,
            base={name: BASE for name in ways if name != BASE},
            notes={},
        )
        for (page, workers), ways in sorted(found.items())
    ]


def measure_settings(place: Place, rounds: int, seconds: int) -> list[Sides]:
    """Return a measure for each working page, of serve with each number of processes and threads."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for workers, threads in SETTINGS:
            way = Way("serve", f"django serve --interface=wsgi --workers={{workers}} --threads={threads} {{port}}")
            name = f"workers={workers}, threads={threads}"
            with place.served(way, workers) as port:
                for page, path in place.working.items():
                    requests_per_second(port, path, 1, connections=workers)  # few: none is left to be answered later
                    rate = requests_per_second(port, path, seconds)
                    found.setdefault(page, {}).setdefault(name, []).append(rate)
    first, *others = (f"workers={workers}, threads={threads}" for workers, threads in SETTINGS)
    return [
        Sides(
            measure=page, database="SQLite", unit="requests/s", ways=ways, base=dict.fromkeys(others, first), notes={}
        )
        for page, ways in found.items()
    ]


def requests_per_second(port: int, path: str, seconds: int, *, connections: int = CONNECTIONS) -> float:
    """Let wrk ask for one page; RuntimeError if an answer is none."""
    command = ["wrk", f"-t{min(2, connections)}", f"-c{connections}", f"-d{seconds}s", f"http://127.0.0.1:{port}{path}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        message = f"{' '.join(command)}\n{said}"
        raise RuntimeError(message)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])  # type: ignore[index]


def _answers(running: Running, port: int) -> bool:
    if not running.is_running():
        raise RuntimeError(running.log)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping/", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(main())
