"""Items of an iterable in chunks. Called by ``mapping`` and ``amapping``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


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
