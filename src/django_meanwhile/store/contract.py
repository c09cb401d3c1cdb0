"""The contract between everything above and the database.

One implementation per vendor, one conformance suite for all of them
(``tests/store``). Shared verbs stand in ``shared``; a vendor's file holds the
statements that differ and says why.

Rules for every verb:

* It runs on ``connections[alias]`` of the calling thread and makes one
  transaction of its own, except ``enqueue``, which joins the caller's.
* Time is the database's. ``offset`` seconds are added to it: a hook for tests.
* A verb that writes is fenced: ``epoch`` for jobs, ``dead_at`` for workers. What
  it could not write, because somebody else owns it by now, is missing from its
  return value; that is never an error.
* Errors of the driver come out as Django's (``OperationalError`` …). Nothing is
  retried in here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from ..core.job import ClaimedJob, Depth, Enqueued, Lease, NewJob, Progress, Run, WorkerRow
from ..core.outcome import Charged, Decision
from ..core.states import Executor, JobState


class Store(ABC):
    """See the module. ``alias`` is the Django database alias."""

    vendor: str

    #: Can a waiting worker be woken by the database itself (LISTEN)?
    supports_notify = False

    #: Does one writer keep all others waiting, sweepers included? (See ``Upkeep``.)
    one_writer = False

    def __init__(self, alias: str, *, offset: float = 0.0) -> None:
        self.alias = alias
        self.offset = offset

    # --- for everybody ------------------------------------------------------------------

    @abstractmethod
    def now(self) -> datetime:
        """Return the database's time, aware, UTC."""

    @abstractmethod
    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        """Insert the jobs in one statement per batch, inside the caller's transaction.

        No SELECT comes before it. Returns one ``Enqueued`` per job, in the given order.
        """

    @abstractmethod
    def cancel(self, job_ids: Collection[UUID]) -> dict[UUID, JobState]:
        """Cancel: READY and SCHEDULED at once, RUNNING by request.

        Returns the new state of every job that was not terminal yet.
        """

    @abstractmethod
    def retry(self, job_ids: Collection[UUID]) -> set[UUID]:
        """Bring terminal jobs back to READY with fresh counters, by an operator's wish.

        The epoch stays (a claim, and nothing else, raises it), attempt rows stay, the
        result goes. Returns the ids of the jobs that were terminal.
        """

    # --- workers ------------------------------------------------------------------------

    @abstractmethod
    def register(self, worker: WorkerRow, lease: float) -> None:
        """Insert the row of a child that is about to run, alive for ``lease`` seconds.

        Sent again after a lost reply it renews the lease; a row that is dead stays dead.
        """

    @abstractmethod
    def renew(self, worker_ids: Collection[UUID], lease: float) -> set[UUID]:
        """Renew all leases in one UPDATE. Returns those that are not dead."""

    @abstractmethod
    def leases(self) -> list[Lease]:
        """Return every worker row that is not dead."""

    @abstractmethod
    def kill(self, worker_ids: Collection[UUID]) -> set[UUID]:
        """Declare dead those whose lease *has run out*. Returns the ones it killed."""

    @abstractmethod
    def bury(self, worker_ids: Collection[UUID]) -> None:
        """Declare dead, lease or not: for a supervisor that saw its own child's end."""

    @abstractmethod
    def unregister(self, worker_ids: Collection[UUID]) -> None:
        """Delete rows of children that have ended and hold no job."""

    # --- jobs, by workers ---------------------------------------------------------------

    @abstractmethod
    def claim(
        self,
        worker_id: UUID,
        executor: Executor,
        queues: Sequence[str],
        limit: int,
        *,
        suspects: bool = False,
    ) -> list[ClaimedJob]:
        """Claim up to ``limit`` READY jobs, in (rank, id) order over all ``queues``.

        Only a worker whose row is neither dead nor expired gets any; the row stays
        locked until the claim is committed. Normal claims skip suspects; with
        ``suspects`` only suspects are claimed. An empty ``queues`` means every queue
        that has due work.
        """

    @abstractmethod
    def finish(self, decisions: Sequence[Decision]) -> dict[Run, JobState]:
        """Write decisions, fenced by (id, epoch, RUNNING), in one transaction.

        Serves every ending: success, failure, retry, release, rescue. Rows are locked
        in id order. READY/SCHEDULED becomes CANCELLED where a cancel was requested.
        Attempt rows are written for decisions with a ``kind``. Returns the accepted
        runs with the state that was written. The same decisions sent twice are
        accepted once.
        """

    @abstractmethod
    def recorded(self, runs: Collection[Run]) -> dict[Run, JobState]:
        """Return the state of jobs still at the given epoch: how a lost reply is settled.

        A job that has been claimed again since is missing. A run that is not RUNNING
        any more at its own epoch has been recorded.
        """

    @abstractmethod
    def write_progress(self, progress: Sequence[Progress]) -> dict[Run, bool]:
        """Write progress under the fence. Returns accepted runs: is a cancel requested?"""

    @abstractmethod
    def cancel_requests(self, worker_ids: Collection[UUID]) -> list[tuple[UUID, Run]]:
        """Return (worker, run) of RUNNING jobs whose cancel was requested."""

    @abstractmethod
    def held(self, worker_id: UUID) -> list[Charged]:
        """Return the RUNNING jobs of one worker."""

    # --- upkeep -------------------------------------------------------------------------

    @abstractmethod
    def orphans(self, limit: int = 500) -> list[Charged]:
        """Return RUNNING jobs whose worker row is dead or missing: a sweep's first half.

        The second half is ``finish``, by (id, epoch). One statement for both would steal.
        """

    @abstractmethod
    def promote(self, limit: int = 500) -> dict[str, int]:
        """Make due SCHEDULED jobs READY. Returns queue -> number."""

    @abstractmethod
    def suspects(self, queues: Sequence[str], limit: int) -> int:
        """Count READY suspects, up to ``limit``."""

    @abstractmethod
    def prune(self, state: JobState, age: float, limit: int = 500) -> int:
        """Delete up to ``limit`` jobs of ``state`` finished over ``age`` seconds ago."""

    @abstractmethod
    def prune_workers(self, age: float) -> int:
        """Delete rows dead for over ``age`` seconds that hold no RUNNING job."""

    # --- reading ------------------------------------------------------------------------

    @abstractmethod
    def depths(self, limit: int = 1000) -> list[Depth]:
        """Return live jobs per queue and executor; each count stops at ``limit``.

        ``ready`` leaves suspects out. Of the SCHEDULED, of the RUNNING and of the suspect jobs the
        first ``10 * limit`` are looked at.
        """

    @abstractmethod
    def workers(self) -> list[WorkerRow]:
        """Return the rows of living workers (not dead, lease not run out)."""

    # --- set-up -------------------------------------------------------------------------

    @abstractmethod
    def connection_options(self) -> Mapping[str, object]:
        """Return the connection OPTIONS that a worker's service thread needs."""

    @abstractmethod
    def beat_options(self, beat: float) -> Mapping[str, object]:
        """Return what the beat's connection needs besides: to give up within ``beat`` seconds."""

    @abstractmethod
    def prepare(self) -> None:
        """Do once per worker what the database wants done (SQLite: WAL)."""

    @abstractmethod
    def notify(self, queues: Iterable[str]) -> None:
        """Wake waiting workers, after the commit. An accelerator, never a condition."""
