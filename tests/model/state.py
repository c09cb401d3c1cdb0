"""The state of the modelled world: one job, worker rows, processes, statements in flight.

Time is relative: leases and deadlines count down in ticks, so no clock is stored. Fields called
*ghost* are the model's own knowledge; no statement and no worker may decide by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .vocabulary import Excuse, Fault, Invariant, JobState, Status, Verdict

LEASE = 2
"""Ticks from a renewal to the end of the lease."""
DEADLINE = 1
"""Ticks from sending a renewal to the self-fence: the lease less a margin of one tick."""


class Job(NamedTuple):
    """The job's row."""

    state: JobState
    epoch: int
    worker: int | None
    retries: int
    run: int
    """Ghost: how many claims were committed; names the present run whatever the epoch says."""


class Row(NamedTuple):
    """A worker's row; `left` are the ticks until its lease ends, 0 when it has."""

    left: int
    dead: bool


class Beat(NamedTuple):
    """A renewal that was written and whose answer is still on its way."""

    deadline: int
    renewed: bool


class Claim(NamedTuple):
    """A claim in flight: an open transaction first, then an answer on its way."""

    open: bool
    row: int
    epoch: int
    run: int
    excuse: Excuse | None


class Body(NamedTuple):
    """User code that runs."""

    row: int
    epoch: int
    run: int
    excuse: Excuse | None


class Finish(NamedTuple):
    """A finish in flight; `accepted` is None until the statement ran."""

    epoch: int
    run: int
    row: int
    verdict: Verdict
    accepted: bool | None


class Worker(NamedTuple):
    """One process with one slot. A finish may still be in flight while the next job is claimed."""

    status: Status
    row: int
    deadline: int
    beat: Beat | None
    claim: Claim | None
    body: Body | None
    finish: Finish | None


class Rescue(NamedTuple):
    """A release whose victim has been selected and that has not been written yet."""

    epoch: int
    living: tuple[int, ...] | None
    """The rows that lived in the snapshot, of a one-statement sweep; None otherwise."""


class Budget(NamedTuple):
    """How many faults are left, in all and of each kind."""

    total: int
    kinds: tuple[int, ...]


class State(NamedTuple):
    """Everything at one instant."""

    job: Job
    rows: tuple[Row | None, ...]
    workers: tuple[Worker, ...]
    killing: int | None
    """The row that an uncommitted kill has locked."""
    rescues: tuple[Rescue, ...]
    strays: tuple[Finish, ...]
    """Finishes that the server still runs and whose sender has stopped listening."""
    recorded: tuple[tuple[int, Verdict], ...]
    """The attempt table: the verdict of each run that a finish in flight may ask for."""
    disowned: tuple[int, ...]
    """Ghost: runs that were reported lost while a finish of theirs was still in flight."""
    budget: Budget
    flaw: Invariant | None
    """Ghost: the invariant that the last step broke."""

    def __str__(self) -> str:
        """Return one line for a counter-example; what is idle is left out."""
        job = f"{self.job.state} e{self.job.epoch}"
        if self.job.worker is not None:
            job += f" of row {self.job.worker}"
        rows = ", ".join(
            f"{number}:{'dead' if row.dead else 'ok'}+{row.left}"
            for number, row in enumerate(self.rows)
            if row is not None
        )
        parts = [f"job {job}", f"rows {rows}", *map(_worker, self.workers)]
        if self.killing is not None:
            parts.append(f"killing row {self.killing}")
        parts += [f"release of e{rescue.epoch} pending" for rescue in self.rescues]
        parts += [f"stray {stray.verdict} of e{stray.epoch}" for stray in self.strays]
        return " | ".join(parts)


def _worker(worker: Worker) -> str:
    parts = [f"{worker.status} row {worker.row} fence {worker.deadline}"]
    if worker.claim is not None:
        parts.append("claim open" if worker.claim.open else f"claimed e{worker.claim.epoch}")
    if worker.body is not None:
        excuse = f" ({worker.body.excuse})" if worker.body.excuse else ""
        parts.append(f"body e{worker.body.epoch}{excuse}")
    if worker.finish is not None:
        parts.append(f"finish {worker.finish.verdict} e{worker.finish.epoch}")
    return " ".join(parts)


@dataclass(frozen=True, kw_only=True)
class World:
    """How large the modelled world is and what may go wrong in it."""

    workers: int = 2
    retries: int = 0
    """How many errors are retried; with none, bodies end well only."""
    slow_answers: bool = False
    """Whether time may pass between a renewal and its answer."""
    sweeps: int = 1
    """How many releases can be selected and not yet written at once."""
    faults: tuple[tuple[Fault, int], ...] = ()
    total: int = 0
    """How many faults in all; 0 means as many as `faults` add up to."""
    stopped_for_ever: bool = False
    """Whether DONE must stay reachable without waking a stopped worker."""
    excuses: frozenset[Excuse] = frozenset(Excuse)

    def budget(self) -> Budget:
        """Return the faults that this world starts with."""
        kinds = tuple(count for _, count in self.faults)
        return Budget(self.total or sum(kinds), kinds)

    def most_runs(self) -> int:
        """Return how often the job can be claimed: once, once a retry, once more for each fault.

        A clock that steps ahead can cost every worker a run. The cap is needed only when a dropped
        guard lets runs be lost for nothing; if it were reached otherwise, DONE would be out of reach.
        """
        shared = any(fault is Fault.CLOCK_AHEAD for fault, _ in self.faults)
        return 1 + self.retries + self.budget().total * (self.workers if shared else 1)
