"""One event loop in a thread: the default for ``async def`` tasks.

Each slot is one coroutine. Coroutines share one thread, and so one connection, for
the ORM's ``a`` methods (asgiref's thread-sensitive executor); it is tidied there
after each job. A body that is stopped gets ``asyncio.CancelledError``.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async

from .. import logs
from ..connections import close_thread_connections
from ..core.states import Executor as Kind
from ..run.pipeline import acall, conclude
from .base import Executor, tidy

if TYPE_CHECKING:
    from ..core.job import ClaimedJob
    from .base import Ledger

logger = logs.get_logger("jobs")


LEFT_BEHIND_WITHIN = 1.0
"""Seconds that asyncio tasks which bodies left behind get to end, once the loop does."""


class LoopExecutor(Executor):
    """``slots`` coroutines at a time. Everything prefixed ``_on_loop`` runs on the loop.

    ``_lock`` guards ``_loop`` too: None unless a loop serves, or is about to.
    """

    def __init__(self, slots: int, ledger: Ledger) -> None:
        super().__init__(Kind.ASYNCIO, slots, ledger)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # strong references; the loop's own

    def start(self) -> None:
        """See ``Executor.start``. Returns once the loop runs."""
        with self._lock:
            self._stopping = False
            if self._loop is not None:
                return
            loop = self._loop = asyncio.new_event_loop()
        running = threading.Event()
        loop.call_soon(running.set)
        loop.call_soon(self._on_loop_fill)
        threading.Thread(target=self._serve, args=(loop,), name="meanwhile-loop", daemon=True).start()
        running.wait()

    def stop(self) -> None:
        """See ``Executor.stop``."""
        super().stop()
        self._on_submit()

    def _on_submit(self) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # closed meanwhile: the job waits for a start
                loop.call_soon_threadsafe(self._on_loop_fill)

    def _replace_slot(self) -> None:
        self._on_submit()

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            while self._loop is loop:
                try:
                    loop.run_forever()
                except (KeyboardInterrupt, SystemExit) as error:
                    # asyncio lets these two through, from any task. Other bodies run on this loop.
                    logger.error("an asyncio task that a body left behind raised %r", error)  # noqa: TRY400
            loop.run_until_complete(_end_what_is_left())
            loop.run_until_complete(sync_to_async(close_thread_connections)())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
            close_thread_connections()

    def _on_loop_fill(self) -> None:
        """Begin waiting jobs while slots are free; end the loop once stopping and idle."""
        loop = asyncio.get_running_loop()
        while (job := self._on_loop_take()) is not None:
            # A context of its own: what a body sets in it ends with it.
            task = loop.create_task(self._on_loop_run(job), context=contextvars.Context())
            self._tasks.add(task)
            task.add_done_callback(self._on_loop_done)
        if self._loop is not loop:
            loop.stop()

    def _on_loop_take(self) -> ClaimedJob | None:
        with self._lock:
            busy = self._preparing + len(self._running)
            if self._inbox and busy < self.slots:
                self._preparing += 1
                return self._inbox.popleft()[0]
            if self._stopping and not (self._inbox or busy or self._written_off or self._tasks):
                self._loop = None  # whoever starts from here on makes a new one
        return None

    def _on_loop_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a coroutine's slot failed outside the body", exc_info=task.exception())
        self._on_loop_fill()

    async def _on_loop_run(self, job: ClaimedJob) -> None:
        bound = self._begin(job)
        if bound is None:
            return
        loop = asyncio.get_running_loop()
        started = self.ledger.clock.monotonic()
        body = asyncio.ensure_future(acall(bound))
        bound.handle.interrupt_with(functools.partial(loop.call_soon_threadsafe, body.cancel))
        try:
            outcome = await body
        except asyncio.CancelledError as error:  # a body that cancels its own task and then returns
            outcome = conclude(bound, error=error)
        with contextlib.suppress(asyncio.CancelledError):  # a body that cancels all tasks it can find
            await sync_to_async(tidy)()
        self._end(bound, outcome, self.ledger.clock.monotonic() - started)


async def _end_what_is_left() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=LEFT_BEHIND_WITHIN)
