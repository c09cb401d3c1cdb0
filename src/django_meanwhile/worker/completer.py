"""Writes outcomes: many in one statement, each once, none lost.

Fed by the executors' threads, flushed by the child's courier thread. What could
not be written stays here until it can be: the database may be away for minutes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError, OperationalError

from .. import logs
from ..core.outcome import End, Outcome, decide
from ..core.states import JobState
from ..core.text import class_path

if TYPE_CHECKING:
    from ..core.job import Run
    from ..core.outcome import Charged, Decision
    from ..store.contract import Store

logger = logs.get_logger("worker")

BATCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A decision on its way to the store, with what is needed once it has been accepted."""

    task: str
    charged: Charged
    decision: Decision
    #: Called with the written state, or None if the run was lost to another worker.
    on_written: Callable[[JobState | None], None]
    #: It stands for one whose row the database did not take.
    refused: bool = False


class Completer:
    """See the module. ``_lock`` guards ``_pending``; ``flush`` has one caller at a time, who alone touches its head."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._pending: deque[Ending] = deque()
        #: The last flush may have been committed without our knowing.
        self._in_doubt = False

    def add(self, ending: Ending) -> None:
        """Queue an ending. Never blocks."""
        with self._lock:
            self._pending.append(ending)

    @property
    def pending(self) -> int:
        """How many endings are not written yet."""
        with self._lock:
            return len(self._pending)

    def runs(self) -> set[Run]:
        """Return the runs whose endings are not written yet."""
        with self._lock:
            return {ending.decision.run for ending in self._pending}

    def flush(self) -> None:
        """Write everything that is pending.

        Raises the database's ``OperationalError`` or ``InterfaceError`` with nothing
        lost: call it again.
        """
        while batch := self._peek():
            try:
                self._write(batch)
            except (OperationalError, InterfaceError):
                self._in_doubt = True
                raise
            self._in_doubt = False

    def _peek(self) -> list[Ending]:
        with self._lock:
            return [self._pending[i] for i in range(min(BATCH, len(self._pending)))]

    def _write(self, batch: list[Ending]) -> None:
        """Write ``batch``; a batch that the database refuses is split until the bad row is alone."""
        try:
            written = self._store.finish([ending.decision for ending in batch])
        except (OperationalError, InterfaceError):
            raise
        except DatabaseError as error:
            if len(batch) == 1:
                if batch[0].refused:
                    raise
                self._write_refused(batch[0], error)
                return
            middle = len(batch) // 2
            self._write(batch[:middle])
            self._write(batch[middle:])
            return
        missing = [e.decision.run for e in batch if e.decision.run not in written]
        if missing and self._in_doubt:
            # The reply to an earlier COMMIT was lost. Refused when sent again, it was either accepted
            # then, and the row shows it at our epoch, or somebody else has ended the run.
            recorded = self._store.recorded(missing)
            written |= {
                ending.decision.run: state
                for ending in batch
                if (state := recorded.get(ending.decision.run)) in {ending.decision.state, JobState.CANCELLED}
                and state is not None
            }
        for ending in batch:
            self._report(ending, written.get(ending.decision.run))

    def _write_refused(self, ending: Ending, error: DatabaseError) -> None:
        """Record a failed attempt in place of a row that the database does not take."""
        log = logs.for_job(logger, ending.decision.run.job_id, ending.task)
        log.error("the database refused the outcome: %s", error)
        outcome = Outcome(
            end=End.FAILED,
            exception=class_path(error),
            detail=f"The outcome could not be stored: {class_path(error)}",
        )
        decision = replace(decide(ending.charged, outcome), progress=None)
        # From here on it is what is sent again if the reply is lost.
        failure = self._pending[0] = replace(ending, decision=decision, refused=True)
        try:
            self._write([failure])
        except (OperationalError, InterfaceError):
            raise
        except DatabaseError:
            self._pending[0] = ending  # nothing can be written now: it was not about this row
            raise

    def _report(self, ending: Ending, state: JobState | None) -> None:
        run: Run = ending.decision.run
        if state is None:
            logs.for_job(logger, run.job_id, ending.task).warning(
                "run %d lost: the job belongs to another run by now; outcome discarded", run.epoch
            )
        with self._lock:
            self._pending.popleft()  # at once: the rest of its batch may fail, and be sent again
        ending.on_written(state)
