"""``create_task()``: a coroutine that outlives its request. Called by users, in async views.

It finds out whether there is a loop that lasts, and sees to it that no failure is lost. What holds and drains the
coroutines is in ``residents``.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar, cast

from django.dispatch import Signal

from ... import logs
from ...core.errors import NoLastingLoop, NotAllowed
from ...surroundings import capture_hooks, restored_hooks
from .residents import is_private, residents_of, surroundings

logger = logs.get_logger("concurrent")
R = TypeVar("R")

background_task_failed = Signal()
"""Sent when a coroutine of ``create_task()`` has raised: ``name``, ``exception``. ``sender`` is ``create_task``."""


def create_task(coroutine: Coroutine[Any, Any, R], *, name: str | None = None) -> asyncio.Task[R]:
    """Run a coroutine beside the request and beyond it. Not durable: for work that must survive, use @task.

    Returns an ``asyncio.Task`` that is held until it is done. What it raises is logged and sent by
    ``background_task_failed``. When the server ends it has ``MEANWHILE["CONCURRENT"]["drain"]`` seconds. The ORM calls
    of all such coroutines share one thread and one connection.

    Raises ``NoLastingLoop`` where nobody would run it to its end: without an event loop, on one that ``async_to_sync``
    made for a single call, on one that is ending. ``NotAllowed`` for what is no coroutine.
    """
    if not inspect.iscoroutine(coroutine):
        raise NotAllowed(_not_a_coroutine(coroutine))
    name = name or coroutine.__qualname__
    try:
        loop = _lasting_loop(name)
        hooks = capture_hooks(f"create_task({name})", "not started")
    except BaseException:
        coroutine.close()
        raise
    watched = _watched(coroutine, name, hooks)
    return cast("asyncio.Task[R]", residents_of(loop).admit(watched, name, surroundings(loop), loop))


async def _watched(coroutine: Coroutine[Any, Any, R], name: str, hooks: Mapping[str, Any]) -> R:
    """Run it, and tell of its failure before anybody else can see it."""
    try:
        with restored_hooks(hooks, f"create_task({name})"):
            return await coroutine
    except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        logger.exception("background coroutine %s failed", name)
        await background_task_failed.asend_robust(sender=create_task, name=name, exception=error)
        if isinstance(error, Exception):
            if is_under_test():
                residents_of(asyncio.get_running_loop()).failed.append((name, error))
            raise
        # asyncio lets SystemExit through: it would end the server.
        raise RuntimeError(f"background coroutine {name} raised {error!r}, which ends nothing but itself") from error


def _lasting_loop(name: str) -> asyncio.AbstractEventLoop:
    """Return the running loop, or refuse."""
    mend = "For work that outlives its caller anywhere, declare a function with @task and enqueue() it"
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise NoLastingLoop(
            f"create_task({name}): no event loop runs in this thread, so nobody would run the coroutine. {mend}; or "
            "call create_task() in an async view, and serve the project by an ASGI server: "
            "manage.py serve --interface asgi."
        ) from None
    if is_private(loop) and not is_under_test():
        raise NoLastingLoop(
            f"create_task({name}): this event loop is a private one of async_to_sync(), which ends with its one call "
            f"and would cancel the coroutine half-way. Under WSGI, runserver's too, every async view has such a loop. "
            f"{mend}; or serve the project by an ASGI server: manage.py serve --interface asgi."
        )
    if residents_of(loop).is_ending:
        raise NoLastingLoop(
            f"create_task({name}): the event loop is ending and waits for the coroutines that it has. {mend}."
        )
    return loop


def is_under_test() -> bool:
    """Whether Django's test environment is set up: tests run on private loops, which wait for their coroutines."""
    return hasattr(getattr(sys.modules.get("django.test.utils"), "_TestState", None), "saved_data")


def _not_a_coroutine(value: object) -> str:
    shown = getattr(value, "__qualname__", None) or type(value).__qualname__
    said = f"create_task({shown}): takes a coroutine, and was given "
    if inspect.iscoroutinefunction(value):
        return f"{said}the function: call it, as in create_task({shown}(...))."
    if isinstance(value, asyncio.Future):
        return f"{said}a {type(value).__name__}, which runs already: keep it, or pass the coroutine itself."
    if inspect.isawaitable(value):
        return f"{said}another awaitable: await it in an async def function, and pass create_task() its call."
    if inspect.isasyncgen(value):
        return f"{said}an async generator: loop over it in an async def function, and pass create_task() its call."
    if callable(value):
        return f"{said}a function that is not async: run it in a thread by parallel() or default_executor().submit()."
    return f"{said}{type(value).__qualname__}."
