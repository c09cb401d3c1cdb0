"""Pages that stream, for the tests of the guard: a project's URLs, in this process and in real servers."""

import asyncio
import contextlib
import io
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path


def ask() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def goes() -> bool:
    return (Path(os.environ["MEANWHILE_TEST_PATH"]) / "go").exists()


def plain(request: HttpRequest) -> HttpResponse:
    ask()
    return HttpResponse("plain")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    ask()
    return StreamingHttpResponse(["first ", "last"])


async def astream(request: HttpRequest) -> StreamingHttpResponse:
    await ContentType.objects.afirst()

    async def chunks() -> AsyncIterator[str]:
        yield "first "
        yield "last"

    return StreamingHttpResponse(chunks())


def slow(request: HttpRequest) -> StreamingHttpResponse:
    """Ask, and send the second chunk when the test says so."""
    ask()

    def chunks() -> Iterator[str]:
        yield "first "
        while not goes():
            time.sleep(0.02)
        yield "last"

    return StreamingHttpResponse(chunks())


async def aslow(request: HttpRequest) -> StreamingHttpResponse:
    await ContentType.objects.afirst()

    async def chunks() -> AsyncIterator[str]:
        yield "first "
        while not goes():  # noqa: ASYNC110 - the event is in another process
            await asyncio.sleep(0.02)
        yield "last"

    return StreamingHttpResponse(chunks())


def silent(request: HttpRequest) -> StreamingHttpResponse:
    """Ask nobody."""
    return StreamingHttpResponse(["first ", "last"])


def file(request: HttpRequest) -> FileResponse:
    ask()
    return FileResponse(io.BytesIO(b"first last"))


def big(request: HttpRequest) -> FileResponse:
    """A file that no socket's buffer can hold."""
    ask()
    return FileResponse((Path(os.environ["MEANWHILE_TEST_PATH"]) / "big").open("rb"))


def begun(request: HttpRequest) -> StreamingHttpResponse:
    """Stream the rest of an iterator() whose first row is read already."""
    rows = ContentType.objects.order_by("pk").iterator(chunk_size=1)
    first = next(rows)

    def chunks() -> Iterator[str]:
        yield f"{first.pk}"
        for row in rows:
            yield f" {row.pk}"

    return StreamingHttpResponse(chunks())


def lazy(request: HttpRequest) -> StreamingHttpResponse:
    """Ask, and stream an iterator() that has not begun: it opens what it needs."""
    ask()
    return StreamingHttpResponse(f"{row.pk} " for row in ContentType.objects.order_by("pk").iterator(chunk_size=1))


def inside(request: HttpRequest) -> StreamingHttpResponse:
    """Stream inside a transaction, which the stream ends."""
    stack = contextlib.ExitStack()
    stack.enter_context(transaction.atomic())
    ask()

    def chunks() -> Iterator[str]:
        with stack:
            yield "first "
            ask()
            yield "last"

    return StreamingHttpResponse(chunks())


urlpatterns = [
    path(f"{view.__name__}/", view)
    for view in (plain, stream, astream, slow, aslow, silent, file, big, begun, lazy, inside)
]
