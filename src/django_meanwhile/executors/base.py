"""What all executors share: an inbox, the runs that go on, and the one way to run a job.

::

    claimer ──submit──▶ inbox ──take──▶ slot: prepare ▶ begun ▶ call ▶ ended ──▶ Ledger
                          └─withdraw──▶ (given back, never begun)
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Protocol

from .. import logs
from ..connections import close_thread_connections, tidy_thread_connections
from ..core.outcome import End, Outcome
from ..core.text import class_path, describe
from ..run.pipeline import Call, prepare

if TYPE_CHECKING:
    from ..core.clock import Clock
    from ..core.job import ClaimedJob, Run
    from ..core.states import Executor as Kind
    from ..run.handle import RunHandle


logger = logs.get_logger("jobs")


class Ledger(Protocol):
    """Who is told of every step of a run. Implemented by the worker's child."""

    clock: Clock

    def begun(self, handle: RunHandle) -> None:
        """The body is about to be called."""

    def ended(self, job: ClaimedJob, outcome: Outcome, bound: Call | None) -> None:
        """The run has an outcome. ``bound`` is None if its body was never called."""


class Executor(ABC):
    """Runs claimed jobs in ``slots`` slots. Restartable; ``stop`` before ``start`` is fine.

    ``_lock`` guards the inbox, ``_running`` and ``_written_off``.
    """

    def __init__(self, kind: Kind, slots: int, ledger: Ledger) -> None:
        self.kind = kind
        self.slots = slots
        self.ledger = ledger
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._inbox: deque[tuple[ClaimedJob, float]] = deque()  # with the time of arrival
        self._running: dict[Run, RunHandle] = {}
        self._written_off: dict[Run, RunHandle] = {}
        self._here: set[Run] = set()  # submitted, and neither withdrawn nor handed over
        self._preparing = 0
        self._ending = 0  # over, but the ledger has not taken note yet: not idle
        self._stopping = False
        #: Seconds that recent runs took, smoothed. Short ones may be claimed ahead.
        self.usual_seconds = 1.0

    # --- the claimer's side -------------------------------------------------------------

    @property
    def load(self) -> int:
        """Jobs that are here and not written off: waiting, prepared or running."""
        with self._lock:
            return len(self._inbox) + self._preparing + len(self._running)

    @property
    def waiting(self) -> int:
        """Jobs that are here and have not been begun."""
        with self._lock:
            return len(self._inbox) + self._preparing

    @property
    def is_idle(self) -> bool:
        """Whether no body runs and none waits, written-off ones included."""
        with self._lock:
            busy = self._preparing or self._running or self._written_off or self._ending
            return not (self._inbox or busy)

    def submit(self, job: ClaimedJob) -> None:
        """Take a claimed job. It is begun as soon as a slot is free."""
        with self._lock:
            self._here.add(job.run)
            self._inbox.append((job, self.ledger.clock.monotonic()))
            self._arrived.notify()
        self._on_submit()

    def withdraw(self, waited: float = 0.0) -> list[ClaimedJob]:
        """Take back every job that has waited that many seconds and has not been begun."""
        jobs = []
        with self._lock:
            latest = self.ledger.clock.monotonic() - waited
            while self._inbox and self._inbox[0][1] <= latest:
                jobs.append(self._inbox.popleft()[0])
            self._here.difference_update(job.run for job in jobs)
        return jobs

    def runs(self) -> set[Run]:
        """Return every run that was submitted, and neither withdrawn nor handed to the ledger."""
        with self._lock:
            return set(self._here)

    # --- the sentinel's side ------------------------------------------------------------

    def handles(self) -> list[RunHandle]:
        """Return every run whose body goes on, written-off ones included."""
        with self._lock:
            return [*self._running.values(), *self._written_off.values()]

    def written_off(self) -> list[RunHandle]:
        """Return the runs whose slots are stuck and were replaced."""
        with self._lock:
            return list(self._written_off.values())

    def write_off(self, handle: RunHandle) -> bool:
        """Give up the slot of a body that does not stop; another takes its place.

        The job stays RUNNING: it is over when its body ends or its process is gone.
        Returns whether the run was still going on.
        """
        with self._lock:
            if self._running.pop(handle.job.run, None) is None:
                return False
            self._written_off[handle.job.run] = handle
        self._replace_slot()
        return True

    def insist(self, handle: RunHandle) -> None:  # noqa: B027 - most interruptions cannot be missed
        """Break again into a body that was told to stop, if it may have missed the first time."""

    # --- life ---------------------------------------------------------------------------

    @abstractmethod
    def start(self) -> None:
        """Make the slots. Idempotent."""

    def stop(self) -> None:
        """Let idle slots end; busy ones end after their body. Does not wait. Idempotent."""
        with self._lock:
            self._stopping = True
            self._arrived.notify_all()

    # --- for the slots ------------------------------------------------------------------

    def _on_submit(self) -> None:  # noqa: B027 - most have nobody to wake
        """Wake a slot that does not wait on ``_arrived``."""

    @abstractmethod
    def _replace_slot(self) -> None:
        """Make a new slot in place of a stuck one."""

    def _take(self) -> ClaimedJob | None:
        """Wait for the next job; None once stopping."""
        with self._lock:
            while not self._inbox:
                if self._stopping:
                    self._leave()
                    return None
                self._arrived.wait()
            self._preparing += 1
            return self._inbox.popleft()[0]

    def _leave(self) -> None:  # noqa: B027 - most do not count
        """Note that the calling slot ends. Called under ``_lock``."""

    def _begin(self, job: ClaimedJob) -> Call | None:
        """Prepare a taken job and mark it as begun; None if there is nothing to call."""
        try:
            bound = prepare(job, self.ledger.clock)
            if isinstance(bound, Call):
                self.ledger.begun(bound.handle)
        except BaseException as error:  # noqa: BLE001 - whatever it was, the job must end and the slot live on
            bound = Outcome(end=End.FAILED, exception=class_path(error), detail=describe(error), begun=False)
        if isinstance(bound, Outcome):
            with self._lock:
                self._preparing -= 1
                self._ending += 1
            self._report(job, bound, None)
            return None
        with self._lock:
            self._preparing -= 1
            self._running[job.run] = bound.handle
        return bound

    def _end(self, bound: Call, outcome: Outcome, seconds: float) -> bool:
        """Hand the outcome over. Returns whether this slot had been written off."""
        run = bound.handle.job.run
        with self._lock:
            self._running.pop(run, None)
            stuck = self._written_off.pop(run, None) is not None
            self.usual_seconds += (seconds - self.usual_seconds) * 0.2
            self._ending += 1
        self._report(bound.handle.job, outcome, bound)
        return stuck

    def _report(self, job: ClaimedJob, outcome: Outcome, bound: Call | None) -> None:
        self.ledger.ended(job, outcome, bound)
        with self._lock:
            self._ending -= 1
            self._here.discard(job.run)


def tidy() -> None:
    """Leave the calling thread's connections as the next body may expect them. Never raises."""
    try:
        tidy_thread_connections()
    except Exception:
        logger.exception("the connections of a slot could not be tidied; they are closed")
        close_thread_connections()
