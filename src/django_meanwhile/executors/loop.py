"""One event loop in a thread: the default for ``async def`` tasks.

Each slot is one coroutine. Coroutines share one thread, and so one connection, for
the ORM's ``a`` methods (asgiref's thread-sensitive executor); it is tidied there
after each job. A body that is stopped gets ``asyncio.CancelledError``.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async

from .. import logs
from ..connections import close_thread_connections, tidy_thread_connections
from ..core.states import Executor as Kind
from ..run.pipeline import acall
from .base import Executor

if TYPE_CHECKING:
    from ..core.job import ClaimedJob
    from .base import Ledger

logger = logs.get_logger("jobs")


class LoopExecutor(Executor):
    """``slots`` coroutines at a time. Everything prefixed ``_on_loop`` runs on the loop."""

    def __init__(self, slots: int, ledger: Ledger) -> None:
        super().__init__(Kind.ASYNCIO, slots, ledger)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # strong references; the loop's own
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """See ``Executor.start``. Returns once the loop runs."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stopping = False
        running = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(running,), name="meanwhile-loop", daemon=True)
        self._thread.start()
        running.wait()

    def stop(self) -> None:
        """See ``Executor.stop``."""
        super().stop()
        self._on_submit()

    def _on_submit(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._on_loop_fill)

    def _replace_slot(self) -> None:
        self._on_submit()

    def _serve(self, running: threading.Event) -> None:
        loop = self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.call_soon(running.set)
        try:
            loop.run_forever()
            loop.run_until_complete(sync_to_async(close_thread_connections)())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            self._loop = None
            loop.close()
            close_thread_connections()

    def _on_loop_fill(self) -> None:
        """Begin waiting jobs while slots are free; end the loop once stopping and idle."""
        while True:
            with self._lock:
                busy = self._preparing + len(self._running)
                job = self._inbox.popleft()[0] if self._inbox and busy < self.slots else None
                self._preparing += job is not None
                over = self._stopping and not (self._inbox or busy or self._written_off)
            if job is None:
                break
            # A context of its own: what a body sets in it ends with it.
            task = asyncio.get_running_loop().create_task(self._on_loop_run(job), context=contextvars.Context())
            self._tasks.add(task)
            task.add_done_callback(self._on_loop_done)
        if over and not self._tasks:
            asyncio.get_running_loop().stop()

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
        outcome = await body
        await sync_to_async(tidy_thread_connections)()
        self._end(bound, outcome, self.ledger.clock.monotonic() - started)
