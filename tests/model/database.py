"""The statements of the protocol, as PostgreSQL runs them under READ COMMITTED.

A statement reads a snapshot, waits for a lock, and then asks its WHERE again *of the locked row
only*. From that follows what is one step here and what is two:

- A statement whose whole condition lies on the row that it writes (renew, finish, release by
  epoch) is one step, possible when no open transaction holds that row: the recheck sees the row
  as it is then.
- A statement that reads one row and writes another (claim, sweep) is two steps, and what it read
  in the first may have changed by the second, unless it holds a lock on it.
- Kill is two steps, too, since what others see of an uncommitted kill is the point of a guard.

Seen on PostgreSQL 15: a sweep in one statement (NOT EXISTS, NOT IN, or a join) that waits for the
job's row while another session releases it and a worker newly joined claims it, steals it from
that worker; and FOR SHARE held by an idle transaction blocks both the beat and the kill.

A statement in flight needs no client: it is written whether or not its sender still moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .checker import Move
from .state import LEASE, Claim, Finish, Job, Rescue, Row, State, Worker, World
from .vocabulary import Action, Guard, Invariant, JobState, Status, Verdict

Moves = Iterator[Move[State]]


def with_worker(state: State, number: int, worker: Worker) -> State:
    """Return the state with one worker replaced."""
    workers = (*state.workers[:number], worker, *state.workers[number + 1 :])
    return state._replace(workers=workers)


def with_row(state: State, number: int, row: Row | None) -> State:
    """Return the state with one worker row replaced, or deleted by None."""
    return state._replace(rows=(*state.rows[:number], row, *state.rows[number + 1 :]))


def name(number: int) -> str:
    """Return how a counter-example calls a worker."""
    return f"worker {number}"


@dataclass(frozen=True)
class Database:
    """The server: every move that reads or writes a row."""

    world: World
    kept: frozenset[Guard]

    def moves(self, state: State) -> Moves:
        """Yield every statement that can run, or go on, now."""
        for number, worker in enumerate(state.workers):
            yield from self.claim(state, number, worker)
            yield from self.finish(state, number, worker)
            yield from self.select_own(state, number, worker)
        yield from self.finish_stray(state)
        yield from self.kill(state)
        yield from self.sweep(state)
        yield from self.release(state)

    # -- locks

    def row_is_shared(self, state: State, row: int) -> bool:
        """Say whether an open claim holds this worker row FOR SHARE."""
        return Guard.CLAIM_SHARES_WORKER_ROW in self.kept and any(
            worker.claim is not None and worker.claim.open and worker.claim.row == row for worker in state.workers
        )

    def row_is_held(self, state: State, row: int) -> bool:
        """Say whether an UPDATE or DELETE of this worker row has to wait."""
        return state.killing == row or self.row_is_shared(state, row)

    def job_is_held(self, state: State) -> bool:
        """Say whether an open claim holds the job's row FOR UPDATE."""
        return Guard.CLAIM_LOCKS_JOB in self.kept and any(
            worker.claim is not None and worker.claim.open for worker in state.workers
        )

    # -- the lease

    def renew(self, state: State, number: int) -> tuple[bool, State] | None:
        """`UPDATE worker SET lease_until = now + lease WHERE id = ? AND dead_at IS NULL`.

        Return whether a row was changed and the state after it; None while the row is held.
        """
        if self.row_is_held(state, number):
            return None
        row = state.rows[number]
        if row is None:
            if Guard.RENEW_NEVER_INSERTS in self.kept:
                return False, state
            row = Row(LEASE, dead=False)
        if row.dead and Guard.RENEW_NOT_DEAD in self.kept:
            return False, state
        return True, with_row(state, number, row._replace(left=LEASE))

    def kill(self, state: State) -> Moves:
        """`UPDATE worker SET dead_at = now WHERE id = ? AND dead_at IS NULL AND lease < now`."""
        if state.killing is not None:
            row = state.rows[state.killing]
            assert row is not None
            dead = with_row(state, state.killing, row._replace(dead=True))
            yield Move(Action.KILL_COMMIT, "sweeper", dead._replace(killing=None))
            return
        for number, row in enumerate(state.rows):
            if row is None or row.dead or self.row_is_held(state, number):
                continue
            if row.left == 0 or Guard.KILL_EXPIRED_ONLY not in self.kept:
                yield Move(Action.KILL, "sweeper", state._replace(killing=number))

    # -- the claim

    def claim(self, state: State, number: int, worker: Worker) -> Moves:
        """Read the worker row and pick the job; later, commit."""
        if worker.claim is not None and worker.claim.open:
            yield from self.commit_claim(state, number, worker)
            return
        idle = worker.status is Status.UP and worker.claim is None and worker.body is None
        if idle and self.job_is_due(state) and self.worker_may_claim(state, worker.row):
            claim = Claim(open=True, row=worker.row, epoch=0, run=0, excuse=None)
            opened = with_worker(state, number, worker._replace(claim=claim))
            yield Move(Action.CLAIM, name(number), opened)

    def job_is_due(self, state: State) -> bool:
        """`SELECT id FROM job WHERE state = READY FOR UPDATE SKIP LOCKED`."""
        if self.job_is_held(state) or state.job.run >= self.world.most_runs():
            return False
        return state.job.state is JobState.READY or Guard.CLAIM_READY_ONLY not in self.kept

    def worker_may_claim(self, state: State, number: int) -> bool:
        """`… FROM worker WHERE id = ? AND dead_at IS NULL AND lease_until > now FOR SHARE`."""
        row = state.rows[number]
        if row is None:
            return Guard.CLAIM_ROW_EXISTS not in self.kept
        if row.dead and Guard.CLAIM_WORKER_NOT_DEAD in self.kept:
            return False
        if row.left == 0 and Guard.CLAIM_LEASE_UNEXPIRED in self.kept:
            return False
        return state.killing != number or Guard.CLAIM_SHARES_WORKER_ROW not in self.kept

    def commit_claim(self, state: State, number: int, worker: Worker) -> Moves:
        """`UPDATE job SET state = RUNNING, worker_id = ?, epoch = epoch + 1`, by primary key."""
        alone = Guard.CLAIM_COMMITS_ALONE in self.kept
        if worker.claim is None or (worker.status is Status.PAUSED and not alone):
            return
        raised = state.job.epoch + (Guard.CLAIM_RAISES_EPOCH in self.kept)
        flaw = Invariant.ONE_OUTCOME if state.job.state is JobState.DONE else state.flaw
        job = state.job._replace(state=JobState.RUNNING, worker=worker.claim.row, epoch=raised, run=state.job.run + 1)
        heard = worker.status in {Status.UP, Status.PAUSED} or (
            worker.status is Status.FENCED and Guard.BEGIN_ONLY_UNFENCED not in self.kept
        )
        answer = worker.claim._replace(open=False, epoch=raised, run=job.run)
        claimed = with_worker(state, number, worker._replace(claim=answer if heard else None))
        yield Move(Action.CLAIM_COMMIT, name(number), claimed._replace(job=job, flaw=flaw))

    # -- the finish

    def finish(self, state: State, number: int, worker: Worker) -> Moves:
        """Run the finish that a worker has sent; it holds the answer until that is heard."""
        if worker.finish is None or worker.finish.accepted is not None:
            return
        for accepted, after in self.write_finish(state, worker.finish):
            finish = worker.finish._replace(accepted=accepted)
            answered = with_worker(after, number, worker._replace(finish=finish))
            yield Move(Action.FINISH, name(number), answered)

    def finish_stray(self, state: State) -> Moves:
        """Run a finish whose sender has stopped listening."""
        for stray in sorted(set(state.strays)):
            rest = list(state.strays)
            rest.remove(stray)
            for accepted, after in self.write_finish(state, stray):
                untrue = accepted and stray.run in state.disowned
                flaw = after.flaw or (Invariant.TRUE_REPORT if untrue else None)
                written = after._replace(strays=tuple(rest), flaw=flaw)
                yield Move(Action.FINISH_STRAY, "server", written)

    def write_finish(self, state: State, finish: Finish) -> Iterator[tuple[bool, State]]:
        """`UPDATE job … WHERE id = ? AND epoch = ? AND state = RUNNING`; nothing while it waits."""
        job = state.job
        owns = job.epoch == finish.epoch
        if Guard.FINISH_BY_EPOCH not in self.kept:
            owns = job.worker == finish.row
        needs_running = Guard.FINISH_RUNNING_ONLY in self.kept
        if not owns or (needs_running and job.state is not JobState.RUNNING):
            yield False, state
        elif not self.job_is_held(state):
            stale = Invariant.CURRENT_EPOCH if finish.run != job.run else None
            after = self.settle(state, finish.verdict, finish.run, stale)
            if after is not None:
                yield True, after

    def settle(self, state: State, verdict: Verdict, run: int, flaw: Invariant | None) -> State | None:
        """Write a run's verdict into the job and the attempt table; None if the check refuses."""
        job = state.job
        if job.state is not JobState.RUNNING:
            flaw = flaw or Invariant.ONE_OUTCOME
        again = verdict is Verdict.RELEASED or (verdict is Verdict.ERROR and job.retries > 0)
        if verdict is Verdict.RELEASED and Guard.RELEASE_CLEARS_WORKER not in self.kept:
            return None  # CHECK (RUNNING <=> worker_id) fails, the statement raises
        lowered = verdict is Verdict.RELEASED and Guard.RELEASE_KEEPS_EPOCH not in self.kept
        settled = Job(
            state=JobState.READY if again else JobState.DONE,
            epoch=job.epoch - lowered,
            worker=None,
            retries=job.retries - (verdict is Verdict.ERROR and job.retries > 0),
            run=job.run,
        )
        recorded = tuple(sorted({*state.recorded, (run, verdict)}))
        return state._replace(job=settled, recorded=recorded, flaw=flaw or state.flaw)

    # -- the rescue

    def sweep(self, state: State) -> Moves:
        """`SELECT id, epoch FROM job LEFT JOIN worker … WHERE RUNNING AND dead or missing`."""
        job = state.job
        if job.state is not JobState.RUNNING or len(state.rescues) >= self.world.sweeps:
            return
        if job.worker is not None and self.is_orphaned(state.rows[job.worker]):
            living: tuple[int, ...] | None = None
            if Guard.SWEEP_TWO_STATEMENTS not in self.kept:
                living = self.living(state)
            yield Move(Action.SELECT_ORPHAN, "sweeper", self._pending(state, Rescue(job.epoch, living)))

    def is_orphaned(self, row: Row | None) -> bool:
        """Say whether a job of this worker row has lost its worker."""
        if row is None:
            return Guard.SWEEP_MISSING in self.kept
        return row.dead or (row.left == 0 and Guard.SWEEP_DEAD_ONLY not in self.kept)

    def living(self, state: State) -> tuple[int, ...]:
        """Return the rows that are neither missing nor dead."""
        return tuple(number for number, row in enumerate(state.rows) if row is not None and not row.dead)

    def select_own(self, state: State, number: int, worker: Worker) -> Moves:
        """Let a supervisor take the job of its dead child, or a fenced worker give its own back."""
        dead = {Status.DEAD, Status.FENCED}
        if Guard.RESCUE_AFTER_DEATH not in self.kept:
            dead.add(Status.DYING)
        job = state.job
        if worker.status not in dead or len(state.rescues) >= self.world.sweeps:
            return
        if job.state is JobState.RUNNING and job.worker == worker.row:
            yield Move(Action.SELECT_OWN, name(number), self._pending(state, Rescue(job.epoch, None)))

    @staticmethod
    def _pending(state: State, rescue: Rescue) -> State:
        return state._replace(rescues=(*state.rescues, rescue))

    def release(self, state: State) -> Moves:
        """`UPDATE job SET state = READY … WHERE id = ? AND epoch = ? AND state = RUNNING`."""
        for number, rescue in enumerate(state.rescues):
            if rescue in state.rescues[:number]:
                continue
            rest = (*state.rescues[:number], *state.rescues[number + 1 :])
            after: State | None = state
            if self.may_release(state.job, rescue):
                if self.job_is_held(state):
                    continue
                flaw = Invariant.NO_THEFT if self.is_theft(state) else None
                after = self.settle(state, Verdict.RELEASED, state.job.run, flaw)
            if after is not None:
                yield Move(Action.RELEASE, "sweeper", after._replace(rescues=rest))

    def may_release(self, job: Job, rescue: Rescue) -> bool:
        """Ask the release's WHERE of the job's row as it is now."""
        if rescue.living is not None:  # one statement: the workers are those of the old snapshot
            return job.state is JobState.RUNNING and job.worker not in rescue.living
        if Guard.RELEASE_BY_EPOCH in self.kept and job.epoch != rescue.epoch:
            return False
        return job.state is JobState.RUNNING or Guard.RELEASE_RUNNING_ONLY not in self.kept

    def is_theft(self, state: State) -> bool:
        """Say whether the present run belongs to a living worker with a valid lease."""
        for worker in state.workers:
            if worker.status not in {Status.UP, Status.PAUSED}:
                continue
            for held in (worker.claim, worker.body):
                if held is None or (held.row, held.run) != (worker.row, state.job.run):
                    continue
                row = state.rows[held.row]
                if row is not None and not row.dead and row.left > 0:
                    return True
        return False
