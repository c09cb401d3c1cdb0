"""Items of an iterable in chunks. Called by ``mapping`` and ``amapping``."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from typing import Any, TypeVar

from asgiref.sync import sync_to_async

T = TypeVar("T")

_COLLECTIONS = (list, tuple, range, dict, set, frozenset, str, bytes, deque)
"""To take the next item of these waits for nothing."""

_END: Any = object()


def chunks(iterator: Iterator[T], size: int) -> Iterator[list[T]]:
    """Yield lists of ``size`` items; a shorter one at the end, or before an error of the iterator."""
    chunk: list[T] = []
    try:
        for item in iterator:
            chunk.append(item)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except Exception:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


async def achunks(iterable: Any, size: int) -> AsyncGenerator[list[Any], None]:
    """Do as ``chunks``, on an event loop. What may wait, as a query or a file, is asked in the thread of the ORM."""
    if isinstance(iterable, AsyncIterable):
        chunk: list[Any] = []
        try:
            async for item in iterable:
                chunk.append(item)
                if len(chunk) == size:
                    yield chunk
                    chunk = []
        except Exception:
            if chunk:
                yield chunk
            raise
        if chunk:
            yield chunk
    elif isinstance(iterable, _COLLECTIONS):
        for chunk in chunks(iter(iterable), size):
            yield chunk
    else:
        source: Iterator[list[Any]] = await sync_to_async(lambda: chunks(iter(iterable), size))()
        pull: Any = sync_to_async(next)
        while (found := await pull(source, _END)) is not _END:
            yield found
