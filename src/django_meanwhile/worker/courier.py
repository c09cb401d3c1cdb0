"""The child's one thread that talks to the queue's tables.

::

    loop: write outcomes ▶ write progress ▶ claim ▶ wait for a reason to go on

One thread and one connection per child: the claim after a finish sees its own
slots free, and nothing in a child waits for a lock that the child itself holds.
When the database is away it keeps what it has, tries again and says so once.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from django.db import Error, IntegrityError

from .. import logs
from ..connections import reset_service_connection, use_service_connection
from ..core.errors import Cancelled, LeaseLost
from ..core.job import Progress
from ..core.outcome import End, Outcome, decide
from .part import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..core.clock import Clock
    from ..core.job import WorkerRow
    from ..executors.base import Executor, Ledger
    from ..store.contract import Store
    from .claimer import Claimer
    from .completer import Completer
    from .slots import SlotTable

logger = logs.get_logger("worker")

PROGRESS_EVERY = 1.0
"""Seconds between two writes of progress."""

LAST_ROUNDS = 0.05
"""Seconds between two looks whether a draining child is done."""

STALE = 1.0
"""Seconds after which a job that was claimed ahead is given back."""

RETRY_FIRST, RETRY_LAST = 0.1, 1.0


class Courier(Part):
    """See the module. ``poke`` is the way in for every other thread."""

    name = "courier"

    def __init__(
        self,
        *,
        store: Store,
        row: WorkerRow,
        lease: float,
        claimer: Claimer,
        completer: Completer,
        executors: Sequence[Executor],
        ledger: Ledger,
        table: SlotTable,
        clock: Clock,
        on_registered: Callable[[float], None],
        on_failure: Callable[[], None],
    ) -> None:
        super().__init__()
        self._store = store
        self._row = row
        self._lease = lease
        self._claimer = claimer
        self._completer = completer
        self._executors = executors
        self._ledger = ledger
        self._table = table
        self._clock = clock
        self._on_registered = on_registered
        self._on_failure = on_failure
        self._poked = threading.Event()
        #: Set once nothing is claimed any more, nothing runs and everything is written.
        self.done = threading.Event()
        self._claiming = True
        self._registered = False
        self._claim_in_doubt = False
        self._progress_due = 0.0

    # --- from other threads -------------------------------------------------------------

    def poke(self) -> None:
        """Say that there may be something to write or claim."""
        self._poked.set()

    wake = poke

    def stop_claiming(self) -> None:
        """Claim no more and give back what was not begun."""
        self._claiming = False
        self.poke()

    @property
    def is_claiming(self) -> bool:
        """Whether this child still takes jobs."""
        return self._claiming

    # --- the thread ---------------------------------------------------------------------

    def on_failure(self) -> None:
        """A child without its courier is of no use: end it."""
        self._on_failure()

    def run(self) -> None:
        """See the module."""
        use_service_connection(self._store.alias, self._store.connection_options())
        failures = 0
        while not (self.is_stopping and not self._completer.pending):
            try:
                self._round()
            except Error as error:
                failures += 1
                self._complain(error, failures)
                reset_service_connection(self._store.alias)
                pause = min(RETRY_LAST, RETRY_FIRST * 2 ** min(failures, 10))
            else:
                if failures:
                    logger.info("the database is back after %d failed tries", failures)
                    failures = 0
                pause = self._pause()
            self._poked.wait(pause)
            self._poked.clear()  # before anything is looked at: what comes from here on wakes the next wait

    def _round(self) -> None:
        if not self._registered:
            sent = self._clock.monotonic()
            self._register()
            self._registered = True
            self._on_registered(sent)
        if not self._claiming:
            self._give_back(0.0)
        self._completer.flush()
        self._write_progress()
        if self._claim_in_doubt:
            self._release_unknown()
            self._claim_in_doubt = False
        if self._claiming and not self.is_stopping:
            self._give_back(STALE)
            self._claim_in_doubt = True
            self._claimer.claim(self._room)
            self._claim_in_doubt = False
        elif all(e.is_idle for e in self._executors) and not self._completer.pending:
            self.done.set()

    def _register(self) -> None:
        try:
            self._store.register(self._row, self._lease)
        except IntegrityError:
            # The reply to an earlier INSERT was lost. The id is random, so the row is ours.
            if self._row.id not in self._store.renew([self._row.id], self._lease):
                raise

    @property
    def _room(self) -> int:
        """How many more jobs may be claimed before older outcomes are written."""
        # In this order: a job that begins in between is counted twice, not missed.
        waiting = sum(executor.waiting for executor in self._executors)
        return self._table.room - waiting

    def _pause(self) -> float:
        """Seconds to wait for a poke."""
        if not self._claiming:
            return LAST_ROUNDS
        return min(PROGRESS_EVERY, self._claimer.due_in(self._room))

    def _give_back(self, waited: float) -> None:
        """Release jobs that were claimed ahead and are not begun, uncharged."""
        for executor in self._executors:
            for job in executor.withdraw(waited):
                self._ledger.ended(job, Outcome(end=End.NOT_BEGUN, begun=False), None)

    def _release_unknown(self) -> None:
        """Give back jobs of a claim that was committed, but whose reply was lost.

        They are RUNNING in our name, and nobody would ever run them.
        """
        held = self._store.held(self._row.id)
        # In this order: a run is in the completer before its executor forgets it.
        known = {run for executor in self._executors for run in executor.runs()}
        known |= self._completer.runs()
        unknown = [charged for charged in held if charged.run not in known]
        if unknown:
            logger.warning("%d jobs were claimed by a statement whose reply was lost; given back", len(unknown))
            self._store.finish([decide(charged, Outcome(end=End.NOT_BEGUN, begun=False)) for charged in unknown])

    def _write_progress(self) -> None:
        """Write the newest progress of every run; learn of cancels and lost leases by it."""
        now = self._clock.monotonic()
        if now < self._progress_due:
            return
        self._progress_due = now + PROGRESS_EVERY
        handles = {h.job.run: h for e in self._executors for h in e.handles()}
        fresh = [
            Progress(run=run, progress=text)
            for run, handle in handles.items()
            if (text := handle.take_progress()) is not None
        ]
        if not fresh:
            return
        try:
            accepted = self._store.write_progress(fresh)
        except Error:
            for item in fresh:
                handles[item.run].keep_progress()
            raise
        for item in fresh:
            if item.run not in accepted:
                handles[item.run].stop(LeaseLost)
            elif accepted[item.run]:
                handles[item.run].stop(Cancelled)

    def _complain(self, error: Error, failures: int) -> None:
        """Log the first failure of a row loudly, the others quietly."""
        log = logger.warning if failures == 1 else logger.debug
        log(
            "database %r: %s: %s; %d outcomes wait to be written; trying again",
            self._store.alias, type(error).__name__, error, self._completer.pending,
        )  # fmt: skip
