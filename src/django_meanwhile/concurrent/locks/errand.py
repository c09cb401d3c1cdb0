"""A coroutine has something done that blocks, by a thread of its own, and may be cancelled meanwhile.

Called by ``lock``, and by ``hold`` for what is done on nobody's behalf. Not by the loop's own
executor: a few waits for locks would leave no thread there for anybody else.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ...connections import close_thread_connections
from ...logs import get_logger
from ..threads.daemons import daemon

T = TypeVar("T")

logger = get_logger("concurrent")


class Errand(Generic[T]):
    """One function, one thread, one result: it reaches the coroutine, or it is undone.

    ``_guard`` guards the fields. ``stop`` is called in a thread if the coroutine is cancelled while the function
    runs, ``undo`` with a result that nobody will get.
    """

    def __init__(
        self, function: Callable[[], T], *, stop: Callable[[], None] | None = None, undo: Callable[[T], object]
    ) -> None:
        self._function = function
        self._stop = stop
        self._undo = undo
        self._guard = threading.RLock()  # the collector may close the coroutine in a thread that has it
        self._is_abandoned = False
        self._is_over = False
        self._result: list[T] = []  # popped by whoever takes charge of it

    async def run(self, name: str) -> T:
        """Return what the function returns, or raise what it raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        start(lambda: self._work(loop, future), name)
        try:
            await future
        except BaseException as error:  # cancelled; or closed, where its loop lets go of it
            if future.done() and not future.cancelled() and future.exception() is error:
                raise  # the function's own
            with self._guard:
                self._is_abandoned = True
                is_over = self._is_over
            if not is_over:
                if self._stop is not None:
                    start(self._stop, name)
            elif self._result:  # it was on its way
                start(self._undo_result, name)
            elif future.done() and not future.cancelled():
                logger.debug("nobody waits any more for the end of this: %s", future.exception())
            raise
        return self._result.pop()

    def _work(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
        error: BaseException | None = None
        try:
            self._result.append(self._function())
        except BaseException as raised:  # noqa: BLE001 - it is the coroutine's
            error = raised
        with self._guard:
            self._is_over = True
            is_abandoned = self._is_abandoned
        if not is_abandoned:
            try:
                loop.call_soon_threadsafe(_tell, future, error)
            except RuntimeError:  # the loop was closed, and its coroutines with it
                is_abandoned = True
        if is_abandoned:
            self._undo_result()
            if error is not None:
                logger.debug("nobody waits any more for the end of this: %s", error)

    def _undo_result(self) -> None:
        try:
            result = self._result.pop()
        except IndexError:  # none came, or another took charge of it
            return
        self._undo(result)


def _tell(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():  # cancelled
        if error is not None:
            logger.debug("nobody waits any more for the end of this: %s", error)
    elif error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def start(function: Callable[[], object], name: str) -> None:
    """Have a thread of its own call ``function``, which closes its connections and keeps nobody from ending."""

    def main() -> None:
        try:
            function()
        finally:
            close_thread_connections()

    daemon(main, name=name).start()
