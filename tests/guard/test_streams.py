"""Streaming responses that keep a connection: told, and the connection given back before the first chunk."""

from __future__ import annotations

import asyncio
from functools import partial
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.wsgi import WSGIHandler
from django.db import InterfaceError, connections
from django.test import Client, RequestFactory
from django.utils.connection import ConnectionProxy
from django.views.generic import TemplateView

from django_meanwhile.guard import streams
from tests.guard import views

from .conftest import is_closed, query

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _pages(settings, database, monkeypatch):
    """The views, on the database under test."""
    settings.ROOT_URLCONF = "tests.guard.views"
    settings.ALLOWED_HOSTS = ["*"]
    monkeypatch.setattr(views, "connection", ConnectionProxy(connections, database))
    monkeypatch.setattr(views.transaction, "get_connection", lambda using=None: connections[using or database])
    monkeypatch.setattr(ContentType.objects, "_db", database)


class Answer:
    """An answer of a WSGI handler, as a server has it."""

    def __init__(self, path: str, database: str, **environ: Any) -> None:
        self.raw: Any = None
        environ = {**RequestFactory()._base_environ(), "PATH_INFO": path, **environ}
        self.response = WSGIHandler()(environ, lambda status, headers: None)
        self.is_open = connections[database].connection is not None

    def read(self) -> bytes:
        """Read it to its end, as a server does."""
        body = b"".join(self.response)
        self.response.close()
        return body


@pytest.mark.parametrize("page", ["stream", "file"])
def test_a_connection_is_given_back_before_the_first_chunk(database, mode, told, page):
    """One warning that names view, address and database; by repair it is closed, and all is sent."""
    answer = Answer(f"/{page}/", database)
    assert answer.is_open == (mode == "warn")
    assert answer.read() == b"first last"
    (message,) = told()
    assert message.startswith(
        f"the streaming response of tests.guard.views.{page} (/{page}/) keeps a connection to database '{database}' "
    )
    assert ("it was closed" if mode == "repair" else "call connections.close_all()") in message
    assert "in ask\n" in told.stacks()
    assert Answer(f"/{page}/", database).read() == b"first last"
    assert len(told()) == 1


def test_a_file_that_the_server_sends_by_itself_keeps_none(database, repair, told):
    """With wsgi.file_wrapper the response is never iterated: the connection is closed all the same."""

    class Wrapper:
        def __init__(self, file: Any, size: int) -> None:
            self.file = file

        def __iter__(self) -> Any:
            return iter([self.file.read()])

        def close(self) -> None:
            self.file.close()

    answer = Answer("/file/", database, **{"wsgi.file_wrapper": Wrapper})
    assert isinstance(answer.response, Wrapper)
    assert not answer.is_open
    assert answer.read() == b"first last"
    assert len(told()) == 1


@pytest.mark.parametrize(("page", "is_open"), [("plain", True), ("silent", False)])
def test_what_keeps_no_connection_is_not_told(database, repair, told, page, is_open):
    """A response that does not stream, which ends with the request, and one that asked nobody."""
    assert Answer(f"/{page}/", database).is_open == is_open
    assert told() == []
    connections[database].close()


@pytest.mark.parametrize("page", ["begun", "inside"])
def test_what_is_in_use_is_not_broken(database, repair, told, page):
    """An iterator() that has begun, and a transaction: both stay open, are read to their end, and are told."""
    answer = Answer(f"/{page}/", database)
    assert answer.is_open
    body = answer.read()
    if page == "begun":
        assert body.decode().split() == [str(pk) for pk in _keys(database)]
    else:
        assert body == b"first last"
    (message,) = told()
    assert "it stays open, for " in message


def test_a_stream_that_asks_by_itself_opens_what_it_needs(database, repair, told):
    """An iterator() that has not begun is read from a connection of its own."""
    answer = Answer("/lazy/", database)
    assert not answer.is_open
    assert answer.read().decode().split() == [str(pk) for pk in _keys(database)]
    assert "it was closed" in told()[0]


def test_what_conn_max_age_keeps_for_the_thread_is_not_told(database, repair, told, monkeypatch):
    """Under WSGI the thread has it whether it streams or not."""
    monkeypatch.setitem(connections.settings[database], "CONN_MAX_AGE", 60)
    connections[database].close()
    del connections[database]
    try:
        answer = Answer("/stream/", database)
        assert answer.is_open
        assert answer.read() == b"first last"
        assert told() == []
    finally:
        connections[database].close()
        del connections[database]


def test_what_is_shared_on_purpose_is_left_alone(database, repair, told):
    """A live server's connection, which other threads use."""
    connections[database].inc_thread_sharing()
    try:
        answer = Answer("/stream/", database)
        assert answer.is_open
        assert answer.read() == b"first last"
        assert told() == []
    finally:
        connections[database].dec_thread_sharing()
        connections[database].close()


def test_closing_that_fails_is_told(database, repair, told, monkeypatch):
    """With the database's words; the response is sent all the same."""

    def gone() -> None:
        raise InterfaceError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(connections[database], "close", gone)
        patched.setattr("django.db.close_old_connections", lambda **_: None)
        answer = Answer("/stream/", database)
    assert answer.read() == b"first last"
    assert "closing it failed: gone" in told()[0]


def test_a_view_class_is_named_as_such():
    """Not as the function that as_view() makes of it."""
    match = SimpleNamespace(func=TemplateView.as_view())
    assert streams._view(SimpleNamespace(resolver_match=match)) == "django.views.generic.base.TemplateView"
    match.func = partial(views.stream)
    assert streams._view(SimpleNamespace(resolver_match=match)) == "functools.partial"


def test_the_test_client_is_no_server(database, repair, told):
    """A test's own connection stays open."""
    connections[database].connect()
    assert Client().get("/stream/").getvalue() == b"first last"
    assert told() == []


@pytest.mark.parametrize("page", ["stream", "astream", "file"])
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous")
def test_under_asgi_it_is_closed_in_the_thread_that_has_it(database, mode, told, page):
    """A sync view and a coroutine: when the first bytes are sent, the request's own thread has no connection."""
    sent: list[bytes] = []
    was_open: list[bool] = []

    async def receive() -> dict[str, Any]:
        if not sent and not was_open:
            was_open.append(True)
            return {"type": "http.request"}
        await asyncio.sleep(60)
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            was_open.append(await sync_to_async(lambda: connections[database].connection is not None)())
        sent.append(message.get("body", b""))

    scope = {"type": "http", "method": "GET", "path": f"/{page}/", "headers": [], "query_string": b""}
    asyncio.run(ASGIHandler()(scope, receive, send))
    assert b"".join(sent) == b"first last"
    assert was_open == [True, mode == "warn"]
    (message,) = told()
    assert message.startswith(f"the streaming response of tests.guard.views.{page} (/{page}/) ")


def test_under_asgi_conn_max_age_keeps_nothing(database, repair, told, monkeypatch):
    """The request's thread ends with it, whatever the setting says."""
    monkeypatch.setitem(connections.settings[database], "CONN_MAX_AGE", 60)
    connections[database].close()
    del connections[database]
    raw = query(database)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    streams._look(ASGIRequest(scope, BytesIO()))
    assert is_closed(raw)
    assert len(told()) == 1
    del connections[database]


def _keys(database: str) -> list[int]:
    keys = list(ContentType.objects.using(database).order_by("pk").values_list("pk", flat=True))
    connections[database].close()
    assert len(keys) > 5
    return keys
