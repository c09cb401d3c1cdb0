"""Pooled threads: the default for ``def`` tasks.

Each thread is one slot and keeps its database connections warm between jobs. A
thread cannot be stopped from outside: a body that overruns is told by its handle,
and if it does not listen its slot is written off.
"""

from __future__ import annotations

import contextvars
import itertools
import threading
from typing import TYPE_CHECKING

from ..connections import close_thread_connections
from ..core.states import Executor as Kind
from ..run.pipeline import call
from .base import Executor, tidy

if TYPE_CHECKING:
    from .base import Ledger


class ThreadExecutor(Executor):
    """``slots`` threads, replaced when written off. Daemons: a stuck one ends with its process.

    ``_lock`` guards ``_living`` too.
    """

    def __init__(self, slots: int, ledger: Ledger) -> None:
        super().__init__(Kind.THREAD, slots, ledger)
        self._numbers = itertools.count(1)
        self._living = 0  # threads that have not ended and are not written off

    def start(self) -> None:
        """See ``Executor.start``."""
        with self._lock:
            self._stopping = False
            missing = self.slots - self._living
            self._living = self.slots
        for _ in range(missing):
            self._replace_slot()

    def _leave(self) -> None:
        self._living -= 1

    def _replace_slot(self) -> None:
        name = f"meanwhile-slot-{next(self._numbers)}"
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def _serve(self) -> None:
        try:
            while (job := self._take()) is not None:
                bound = self._begin(job)
                if bound is None:
                    continue
                started = self.ledger.clock.monotonic()
                outcome = contextvars.Context().run(call, bound)
                tidy()
                if self._end(bound, outcome, self.ledger.clock.monotonic() - started):
                    return
        finally:
            close_thread_connections()
