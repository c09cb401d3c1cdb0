"""Real servers under the guard: streams that would empty a pool, and silence where nothing is wrong."""

from __future__ import annotations

import http.client
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.embedded import servers
from tests.embedded.servers import Server, serve
from tests.playground import Playground, Project, eventually
from tests.servers import Server as Database

_WSGI, _ASGI = "tests.project.wsgi:application", "tests.project.asgi:application"
_LOGGED = {"DJANGO_SETTINGS_MODULE": "tests.guard.settings"}
CLIENTS = 6


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of one process each, with a thread for each client."""
    gunicorn = ["-m", "gunicorn", f"--threads={CLIENTS + 2}", "--bind=127.0.0.1:{port}", _WSGI]
    monkeypatch.setitem(servers.COMMANDS, "one-gunicorn", gunicorn)
    monkeypatch.setitem(servers.COMMANDS, "one-uvicorn", ["-m", "uvicorn", "--port={port}", _ASGI])


@pytest.fixture
def pooled(playground: Playground, postgresql_server: Database, tmp_path: Path) -> Iterator[Project]:
    """A project whose server process has a pool of two connections."""
    with playground.project("postgresql", tmp_path, migrated=True) as project:
        project.database["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 2, "timeout": 1}}
        yield project


def _guards(server: Server) -> list[str]:
    """What the guard said in the server: the last resort of logging prints the bare message."""
    said = ("ended with an open", "ended inside", "a fork while", "the streaming response of", "a finding of")
    return [line for line in server.running.log.splitlines() if any(text in line for text in said)]


def _ask(server: Server, page: str) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", page)
    return connection


@pytest.mark.parametrize(
    ("kind", "page"),
    [("one-gunicorn", "slow"), ("one-gunicorn", "big"), ("one-uvicorn", "slow"), ("one-uvicorn", "aslow")],
)
@pytest.mark.parametrize("guard", ["off", "repair"])
def test_six_streams_need_no_six_connections(pooled, guard, kind, page):
    """Six clients that read slowly, a pool of two: four errors without the guard; with it none, and every client
    gets all of its answer.
    """
    if (page, guard) == ("slow", "off") and kind == "one-uvicorn":
        page = "aslow"  # under ASGI a stream that is no coroutine's is buffered first: nothing to pin
    pooled.meanwhile = {"GUARD": guard}
    # Seconds to wait for one of the two: who gets none is to be told soon, who gets one may have to wait for others.
    pooled.database["OPTIONS"]["pool"]["timeout"] = 30 if guard == "repair" else 3
    size = 64 * 1024 * 1024
    with (pooled.path / "big").open("wb") as big:
        big.truncate(size)
    server = serve(pooled, kind, **_LOGGED)
    with ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as pool:
        clients = [stack.enter_context(closing(_ask(server, f"/{page}/"))) for _ in range(CLIENTS)]
        answers = list(pool.map(lambda client: client.getresponse(), clients))
        failed = [answer for answer in answers if answer.status != 200]
        assert len(failed) == (0 if guard == "repair" else CLIENTS - 2)
        (pooled.path / "go").touch()
        bodies = list(pool.map(lambda answer: answer.read(), answers))
    whole = [body for body, answer in zip(bodies, answers, strict=True) if answer.status == 200]
    assert all(body == b"first last" or len(body) == size for body in whole)
    assert len(_guards(server)) == (guard == "repair")


_ON_WSGI = ("runserver-noreload", "gunicorn", "one-gunicorn", "gunicorn-preload", "granian-wsgi")


@pytest.mark.parametrize(
    ("kind", "age"),
    [*((kind, age) for kind in _ON_WSGI for age in (0, None)), ("one-uvicorn", 0), ("granian", 0)],
)
def test_servers_that_do_nothing_wrong_are_not_told(playground, tmp_path, kind, age):
    """Requests one after the other and at once, with an embedded worker and a job beside them, kept connections or
    none, from the first request to the end of the server: not a word.
    """
    with playground.project("sqlite", tmp_path, migrated=True) as project:
        project.database["CONN_MAX_AGE"] = age
        project.meanwhile = {"GUARD": "repair", **servers.EMBEDDED}
        server = serve(project, kind)
        assert server.get("/ping/") == "pong"
        servers.wait_for_worker(project)
        with ThreadPoolExecutor(4) as pool:
            ids = list(pool.map(lambda _: server.enqueue("add", 1, 2), range(12)))
        assert len(set(ids)) == 12
        server.end(signal.SIGTERM)
        server.running.wait(20)
        eventually(lambda: not project.processes(), within=20, what="all has ended")
        assert _guards(server) == []


def test_conn_max_age_under_asgi_is_told(playground, tmp_path):
    """Each request has a thread of its own, which ends with it: what CONN_MAX_AGE keeps there is lost."""
    with playground.project("sqlite", tmp_path, migrated=True) as project:
        project.database["CONN_MAX_AGE"] = None
        project.meanwhile = {"GUARD": "repair"}
        server = serve(project, "one-uvicorn", **_LOGGED)
        for _ in range(3):
            assert server.get("/plain/") == "plain"
        (message,) = eventually(lambda: _guards(server), what="it is told")
        assert "ended with an open connection to database 'default': it was closed" in message
