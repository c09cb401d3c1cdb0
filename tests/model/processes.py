"""What goes on inside the worker processes: memory, local deadlines, user code. No row is touched.

The model is of the *weakest* worker that the protocol allows: its fence is an event that comes
before time passes on, not a check that every thread makes, so after a pause its claimer may be
quicker than its fence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .checker import Move
from .database import Database, name, with_row, with_worker
from .state import DEADLINE, LEASE, Beat, Body, Finish, Row, State, Worker, World
from .vocabulary import Action, Guard, Invariant, JobState, Status, Verdict

Moves = Iterator[Move[State]]


def end_process(state: State, number: int, status: Status) -> State:
    """End a process: memory is lost, what the server has been sent stays in flight."""
    worker = state.workers[number]
    claim = worker.claim if worker.claim is not None and worker.claim.open else None
    if worker.finish is not None and worker.finish.accepted is None:
        state = state._replace(strays=tuple(sorted((*state.strays, worker.finish))))
    ended = worker._replace(status=status, beat=None, claim=claim, body=None, finish=None)
    return with_worker(state, number, ended._replace(deadline=0))


@dataclass(frozen=True)
class Processes:
    """The workers and their supervisors: every move that touches no row."""

    world: World
    kept: frozenset[Guard]
    database: Database

    def moves(self, state: State) -> Moves:
        """Yield everything that a process can do by itself now."""
        for number, worker in enumerate(state.workers):
            yield from self.beat(state, number, worker)
            if worker.beat is not None and self.beats(worker):
                yield from self.hear_beat(state, number, worker, worker.beat)
            if worker.status is Status.UP:
                yield from self.end_body(state, number, worker)
                yield from self.fence_overdue(state, number, worker)
            if worker.status is Status.DYING:
                yield Move(Action.DIE, name(number), end_process(state, number, Status.DEAD))
            yield from self.begin(state, number, worker)
            yield from self.hear_finish(state, number, worker)
            yield from self.rejoin(state, number, worker)
        yield from self.tick(state)

    # -- the lease

    def beats(self, worker: Worker) -> bool:
        """Say whether somebody sends renewals for this worker."""
        if worker.status is Status.PAUSED:
            return Guard.BEAT_FOR_THE_MOVING not in self.kept
        return worker.status is Status.UP

    def beat(self, state: State, number: int, worker: Worker) -> Moves:
        """Send a renewal, and hear the answer at once unless the world has slow answers."""
        if worker.beat is not None or not self.beats(worker):
            return
        fresh = state.rows[worker.row] == (LEASE, False) and worker.deadline == DEADLINE
        if fresh and not self.world.slow_answers:
            return  # nothing would change
        answer = self.database.renew(state, worker.row)
        if answer is None:
            return
        renewed, state = answer
        beat = Beat(DEADLINE, renewed)
        if self.world.slow_answers:
            sent = with_worker(state, number, worker._replace(beat=beat))
            yield Move(Action.RENEW, name(number), sent)
        else:
            yield from self.hear_beat(state, number, worker, beat)

    def hear_beat(self, state: State, number: int, worker: Worker, beat: Beat) -> Moves:
        """Move the deadline on after a good renewal; fence after a refused one."""
        if not beat.renewed:
            if worker.status is Status.UP:
                yield Move(Action.FENCE_TOLD, name(number), self.fenced(state, number))
            return
        deadline = beat.deadline if Guard.FENCE_FROM_SENDING in self.kept else DEADLINE
        heard = worker._replace(beat=None, deadline=max(worker.deadline, deadline))
        yield Move(Action.RENEWED, name(number), with_worker(state, number, heard))

    def fenced(self, state: State, number: int) -> State:
        """End the bodies and forget the claim's answer; a finish in flight may still be heard."""
        worker = state.workers[number]
        keeps_answer = Guard.BEGIN_ONLY_UNFENCED not in self.kept
        claim = worker.claim
        if claim is not None and not claim.open and not keeps_answer:
            claim = None
        fenced = worker._replace(status=Status.FENCED, beat=None, claim=claim, body=None)
        return with_worker(state, number, fenced._replace(deadline=0))

    def fence_overdue(self, state: State, number: int, worker: Worker) -> Moves:
        """Fence a worker whose deadline passed while it could not move.

        A deadline that passes although the worker moves is the fault `STALL`.
        """
        row = state.rows[worker.row]
        if worker.deadline == 0 and (row is None or row.left == 0):
            yield Move(Action.FENCE_OVERDUE, name(number), self.fenced(state, number))

    def tick(self, state: State) -> Moves:
        """Let time pass, unless a moving worker has to fence itself, or be dead, before."""
        if Guard.FENCE_BEFORE_LEASE_ENDS in self.kept:
            for worker in state.workers:
                if worker.deadline == 0 and self.is_urgent(state, worker):
                    return
        rows = tuple(row if row is None else row._replace(left=max(0, row.left - 1)) for row in state.rows)
        workers = tuple(self._older(worker) for worker in state.workers)
        if (rows, workers) != (state.rows, state.workers):
            yield Move(Action.TICK, "clock", state._replace(rows=rows, workers=workers))

    def is_urgent(self, state: State, worker: Worker) -> bool:
        """Say whether the worker, its death or its supervisor's beat comes before the next tick."""
        if worker.status is Status.PAUSED and self.beats(worker):
            row = state.rows[worker.row]
            return row is not None and not row.dead
        return worker.status in {Status.UP, Status.DYING}

    @staticmethod
    def _older(worker: Worker) -> Worker:
        beat = worker.beat
        if beat is not None:
            beat = beat._replace(deadline=max(0, beat.deadline - 1))
        return worker._replace(beat=beat, deadline=max(0, worker.deadline - 1))

    def rejoin(self, state: State, number: int, worker: Worker) -> Moves:
        """Start again after a fence or a death, whatever the server still does for the old id."""
        down = {Status.FENCED, Status.DEAD, Status.GONE}
        if worker.status not in down or worker.body is not None:
            return
        row = worker.row
        if Guard.REJOIN_UNDER_NEW_ID in self.kept:
            row = self.free_row(state)
        elif state.killing == row:
            return
        again = worker._replace(status=Status.UP, row=row, deadline=DEADLINE)
        state = with_row(state, row, Row(LEASE, dead=False))
        yield Move(Action.REJOIN, name(number), with_worker(state, number, again))

    @staticmethod
    def free_row(state: State) -> int:
        """Return the first row number that nothing in the world remembers."""
        used = {worker.row for worker in state.workers} | {state.job.worker, state.killing}
        used |= {worker.claim.row for worker in state.workers if worker.claim is not None}
        used |= {stray.row for stray in state.strays}
        used |= {worker.finish.row for worker in state.workers if worker.finish is not None}
        for rescue in state.rescues:
            used |= set(rescue.living or ())
        return next(number for number in range(len(state.rows)) if number not in used)

    # -- the run

    def begin(self, state: State, number: int, worker: Worker) -> Moves:
        """Hear the claim's answer and start the body."""
        claim = worker.claim
        listens = worker.status is Status.UP or (
            worker.status is Status.FENCED and Guard.BEGIN_ONLY_UNFENCED not in self.kept
        )
        if not listens or claim is None or claim.open:
            return
        if claim.row != worker.row and Guard.BEGIN_UNDER_OWN_ID in self.kept:
            deaf = worker._replace(claim=None)
            yield Move(Action.CLAIM_DISCARD, name(number), with_worker(state, number, deaf))
        elif worker.body is None:
            body = Body(claim.row, claim.epoch, claim.run, claim.excuse)
            begun = worker._replace(claim=None, body=body)
            yield Move(Action.BEGIN, name(number), with_worker(state, number, begun))

    def end_body(self, state: State, number: int, worker: Worker) -> Moves:
        """End the body with a result or an exception, and send the finish."""
        body = worker.body
        if body is None or worker.finish is not None:
            return
        verdicts = (Verdict.OK, Verdict.ERROR) if self.world.retries else (Verdict.OK,)
        for verdict in verdicts:
            finish = Finish(body.epoch, body.run, body.row, verdict, accepted=None)
            ended = worker._replace(body=None, finish=finish)
            yield Move(Action.END, name(number), with_worker(state, number, ended))

    def hear_finish(self, state: State, number: int, worker: Worker) -> Moves:
        """Hear whether the finish was accepted; after zero rows, read the row again."""
        finish = worker.finish
        if worker.status not in {Status.UP, Status.FENCED}:
            return
        if finish is None or finish.accepted is None:
            return
        believed = finish.accepted or self.read_again(state, finish)
        true = believed == ((finish.run, finish.verdict) in state.recorded)
        heard = with_worker(state, number, worker._replace(finish=None))
        if not true:
            heard = heard._replace(flaw=heard.flaw or Invariant.TRUE_REPORT)
        if not believed and any(stray.run == finish.run for stray in state.strays):
            heard = heard._replace(disowned=(*heard.disowned, finish.run))
        action = Action.REPORT_RECORDED if believed else Action.REPORT_LOST
        yield Move(action, name(number), heard)

    def read_again(self, state: State, finish: Finish) -> bool:
        """Say whether a finish that changed zero rows had been accepted before."""
        if Guard.FINISH_READS_AGAIN not in self.kept:
            return False
        if Guard.READ_AGAIN_BY_ATTEMPT not in self.kept:
            job = state.job
            return job.epoch == finish.epoch and job.state is not JobState.RUNNING
        return (finish.run, finish.verdict) in state.recorded
