"""docs/how-to/servers.md: each server is started with the page's line, answers, and the job of its view is done."""

import json
import re
import socket
import urllib.request

import pytest

from django_meanwhile import conf
from tests.playground import Running, eventually
from tests.ports import free_port

from .howto import fetch, start
from .pages import README, page
from .site import Site

PAGE = page("how-to/servers")
LINES = [line for each in PAGE.blocks() for line in each.commands if not line.startswith("python")]
WITH = next(block.text for block in PAGE.blocks() if '"EMBEDDED": True' in block.text)
WITHOUT = next(block.text for block in PAGE.blocks() if '"EMBEDDED": False' in block.text)


@pytest.fixture(params=["sqlite"], scope="module")
def _vendor_of_project(request: pytest.FixtureRequest) -> str:
    return request.param


def _serve(site: Site, line: str, settings: str) -> tuple[Running, int]:
    """Start the page's line on a free port, in the README's project with the page's settings."""
    site.kill_everything()
    site.use(README)
    site.write("mysite/settings.py", settings)
    for table in ("job", "worker"):
        site.sql(f"DELETE FROM meanwhile_{table}")
    port = free_port()
    # The locks of an embedded worker lie in TMPDIR. The servers' own warnings are not ours.
    server = start(site, line.replace("8000", str(port)), TMPDIR=str(site.path), PYTHONWARNINGS="default")
    return server, port


def _report(site: Site, port: int) -> None:
    """Ask the README's views for a report, until it is there."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/start/", timeout=60) as answer:
        assert answer.status == 202
        job = answer.read().decode().rpartition(" ")[2]
    eventually(
        lambda: json.loads(fetch(port, f"/report/{job}/") or '{"state": ""}')["state"] == "SUCCESSFUL",
        within=60,
        what=f"the report is there; {site.failures()}",
    )


def test_the_lines_are_those_of_three_servers() -> None:
    """Each server of the title has a line, and nothing else is started."""
    assert {line.split()[0] for line in LINES} == set(PAGE.text.partition("\n")[0].removeprefix("# ").split(", "))


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES, ids=[re.sub(r"\W+", "-", line)[:20] for line in LINES])
def test_a_server_brings_its_worker_along(site: Site, line: str) -> None:
    """With EMBEDDED the page's line alone serves a view and does its job; SIGTERM ends server and worker."""
    if "gunicorn.conf" in line:
        site.write(
            "mysite/gunicorn.conf.py", next(b.text for b in PAGE.blocks() if b.file and b.file.endswith("conf.py"))
        )
    server, port = _serve(site, line, WITH)
    if "gunicorn.conf" in line:  # before any request
        eventually(site.workers, within=30, what="the hook has started a worker")
    eventually(lambda: _listens(server, port), within=30, what="the server answers")
    _report(site, port)
    eventually(lambda: len(site.workers()) == 2, what="one worker: a shared child and one process")
    assert server.stop() in {0, -15}, server.log
    eventually(lambda: not site.processes(), what="the worker has ended as well")


def test_the_asgi_file_starts_it_before_any_request(site: Site) -> None:
    """`mysite/asgi.py` as the page has it starts the worker with the server, under uvicorn."""
    kept = (site.path / "mysite/asgi.py").read_text()
    site.write("mysite/asgi.py", next(block.text for block in PAGE.blocks() if block.file == "mysite/asgi.py"))
    server, _ = _serve(site, next(line for line in LINES if line.startswith("uvicorn")), WITHOUT)
    eventually(site.workers, within=30, what="a worker has registered")
    server.stop()
    eventually(lambda: not site.processes(), what="the worker has ended as well")
    site.write("mysite/asgi.py", kept)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uvicorn", "granian"])
def test_beside_a_worker_of_its_own(site: Site, name: str) -> None:
    """Without EMBEDDED the server starts no worker; one that runs beside it does the job. (gunicorn: the Procfile.)"""
    server, port = _serve(site, next(line for line in LINES if line.startswith(name)), WITHOUT)
    eventually(lambda: _listens(server, port), within=30, what="the server answers")
    fetch(port, "/start/")
    assert not site.workers()
    worker = site.start_worker("--threads", "1", "--coroutines", "0", "--processes", "1")
    _report(site, port)
    assert worker.stop() == 0
    server.stop()


def test_the_default_is_what_the_page_says() -> None:
    """With DEBUG off no worker is brought along."""
    assert conf.Settings().embedded is False
    assert "With `DEBUG` off the default is a worker of its own" in PAGE.text


def _listens(server: Running, port: int) -> bool:
    assert server.is_running(), server.log
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
