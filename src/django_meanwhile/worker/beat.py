"""The beat: one UPDATE renews the leases of all children of this supervisor.

A thread and a connection of its own, with timeouts shorter than a beat: nothing
that user code or a slow sweep does may delay it. Each child's fence moves with
the *sending* of a renewal that succeeded, never with its reply.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from django.db import Error, OperationalError

from .. import logs
from ..connections import reset_service_connection, use_service_connection
from .part import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..core.clock import Clock
    from ..store.contract import Store
    from .offspring import Offspring
    from .plan import WorkerPlan

logger = logs.get_logger("worker")


class Beat(Part):
    """See the module. ``_lock`` guards ``renewals``, ``_failed_at`` and nothing else."""

    name = "beat"

    def __init__(
        self,
        plan: WorkerPlan,
        store: Store,
        clock: Clock,
        children: Callable[[], Iterable[Offspring]],
    ) -> None:
        super().__init__()
        self._plan = plan
        self._store = store
        self._clock = clock
        self._children = children
        self._poked = threading.Event()
        self._lock = threading.Lock()
        self._renewals = 0
        self._failed_at: float | None = None

    def wake(self) -> None:
        """See ``Part``."""
        self._poked.set()

    @property
    def renewals(self) -> int:
        """How many renewals in a row have succeeded, each one beat after the other."""
        with self._lock:
            return self._renewals

    def steady_for(self, seconds: float) -> bool:
        """Whether no renewal has failed in the last ``seconds``."""
        with self._lock:
            failed = self._failed_at
        return failed is None or self._clock.monotonic() - failed >= seconds

    def run(self) -> None:
        """Beat until stopped, at once again after a failure."""
        options = {
            **self._store.connection_options(),
            **self._store.beat_options(self._plan.beat),
        }
        use_service_connection(self._store.alias, options)
        while not self.is_stopping:
            pause = self._plan.beat if self.beat() else min(self._plan.beat / 4, 1.0)
            self._poked.wait(pause)
            self._poked.clear()

    def beat(self) -> bool:
        """Renew once; returns whether the database took it."""
        children = {child.worker_id: child for child in self._children() if child.deserves_beat()}
        if not children:
            return True
        sent = self._clock.monotonic()
        fence = sent + self._plan.lease - self._plan.margin
        try:
            renewed = self._store.renew(children, self._plan.lease)
        except Error as error:
            self._failed(error)
            if self._store.one_writer and _is_busy(error):
                # While nobody can write, nobody can sweep: that fences no one.
                for child in children.values():
                    child.table.fence = max(child.table.fence, fence)
            return False
        for worker_id, child in children.items():
            if worker_id in renewed:
                child.table.fence = fence
            else:
                child.declare_lost()
        with self._lock:
            self._renewals += 1
        return True

    def _failed(self, error: Error) -> None:
        with self._lock:
            first = self._renewals > 0 or self._failed_at is None
            self._renewals = 0
            self._failed_at = self._clock.monotonic()
        log = logger.warning if first else logger.debug
        log("the leases could not be renewed: %s: %s", type(error).__name__, error)
        if not _is_busy(error):
            reset_service_connection(self._store.alias)


def _is_busy(error: Error) -> bool:
    """Whether SQLite said SQLITE_BUSY: the file is locked by another writer."""
    return isinstance(error, OperationalError) and "locked" in str(error)
