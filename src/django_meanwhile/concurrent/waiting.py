"""Refuse to wait where that would stop an event loop. Called by what waits, before anything starts."""

from __future__ import annotations

import asyncio
import os

from django.core.exceptions import SynchronousOnlyOperation


def refuse_on_a_loop(what: str, instead: str) -> None:
    """Raise ``SynchronousOnlyOperation`` if an event loop runs in the calling thread; ``instead`` says what to write.

    ``DJANGO_ALLOW_ASYNC_UNSAFE`` allows it, as it allows Django's ORM there: in a notebook, say.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if not os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"):
        raise SynchronousOnlyOperation(f"{what} waits, and would stop the event loop of this thread. Write: {instead}")
