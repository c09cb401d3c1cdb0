"""What the world does to the protocol; each move here spends one fault of the budget.

The exception is waking a stopped worker, which costs nothing; a world may forbid to rely on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from .checker import Move
from .database import Database, name, with_row, with_worker
from .processes import Processes, end_process
from .state import LEASE, Budget, State, Worker, World
from .vocabulary import Action, Excuse, Fault, Guard, Status

Moves = Iterator[Move[State]]


@dataclass(frozen=True)
class Faults:
    """The environment: pauses, deaths, lost answers, lost rows, a clock that steps back."""

    world: World
    kept: frozenset[Guard]
    database: Database
    processes: Processes

    def moves(self, state: State) -> Moves:
        """Yield every fault that can still strike, and the waking of the stopped."""
        for number, worker in enumerate(state.workers):
            if worker.status is Status.PAUSED:
                woken = with_worker(state, number, worker._replace(status=Status.UP))
                yield Move(Action.WAKE, name(number), woken, fault=self.world.stopped_for_ever)
        if not state.budget.total:
            return
        first = state.budget == self.world.budget()
        for place, (fault, _) in enumerate(self.world.faults):
            kinds = state.budget.kinds
            if kinds[place]:
                left = (*kinds[:place], kinds[place] - 1, *kinds[place + 1 :])
                spent = state._replace(budget=Budget(state.budget.total - 1, left))
                victims = 1 if first else len(state.rows)
                for actor, after in self.strike(fault, spent, victims):
                    yield Move(fault, actor, after, fault=True)

    def strike(self, fault: Fault, state: State, victims: int) -> Iterator[tuple[str, State]]:
        """Yield what this fault can do to the first so many workers.

        Before the first fault the workers are interchangeable, so it strikes worker 0.
        """
        if fault is Fault.CLOCK_BACK:
            yield from self.clock_back(state)
        elif fault is Fault.CLOCK_AHEAD:
            yield from self.clock_ahead(state)
        elif fault is Fault.VANISH:
            yield from self.vanish(state, victims)
        else:
            for number, worker in enumerate(state.workers[:victims]):
                after = self.strike_worker(fault, state, number, worker)
                if after is not None:
                    yield name(number), after

    def strike_worker(self, fault: Fault, state: State, number: int, worker: Worker) -> State | None:
        """Return what this fault makes of one worker, or None if it cannot."""
        if fault is Fault.LOST_ANSWER:
            return self.lose_answer(state, number, worker)
        if fault is Fault.CONDEMN and worker.status in {Status.UP, Status.PAUSED}:
            return self.condemn(state, number, worker)
        if fault in {Fault.CRASH, Fault.LOSE} and worker.status in {Status.UP, Status.PAUSED}:
            status = Status.DEAD if fault is Fault.CRASH else Status.GONE
            return end_process(state, number, status)
        if fault is Fault.PAUSE and worker.status is Status.UP:
            paused = excused(worker, Excuse.PAUSED)._replace(status=Status.PAUSED)
            return with_worker(state, number, paused)
        if fault is Fault.STALL and worker.status is Status.UP and worker.deadline == 0:
            return self.processes.fenced(state, number)
        return None

    @staticmethod
    def condemn(state: State, number: int, worker: Worker) -> State:
        """Send SIGKILL: nothing new begins, the body runs on until the process is dead."""
        claim = worker.claim if worker.claim is not None and worker.claim.open else None
        dying = worker._replace(status=Status.DYING, beat=None, claim=claim)
        return with_worker(state, number, dying)

    def lose_answer(self, state: State, number: int, worker: Worker) -> State | None:
        """Cut the connection under a finish; the worker sends it again on another one.

        The server may have run it, or may still do so.
        """
        finish = worker.finish
        if finish is None or worker.status not in {Status.UP, Status.FENCED}:
            return None
        if finish.accepted is None:
            state = state._replace(strays=tuple(sorted((*state.strays, finish))))
        answer = None if Guard.FINISH_SENT_AGAIN in self.kept else False
        again = worker._replace(finish=finish._replace(accepted=answer))
        return with_worker(state, number, again)

    @staticmethod
    def clock_ahead(state: State) -> Iterator[tuple[str, State]]:
        """Step the database's clock ahead by a tick: leases end, deadlines do not."""
        rows = tuple(row if row is None else row._replace(left=max(0, row.left - 1)) for row in state.rows)
        if rows != state.rows:
            yield "database", state._replace(rows=rows)

    def vanish(self, state: State, victims: int) -> Iterator[tuple[str, State]]:
        """Delete a worker row; like every DELETE it waits for the row's locks."""
        for number, row in enumerate(state.rows[:victims]):
            if row is None or self.database.row_is_held(state, number):
                continue
            workers = tuple(excused(worker, Excuse.ROW_GONE, rows={number}) for worker in state.workers)
            yield f"row {number}", with_row(state, number, None)._replace(workers=workers)

    @staticmethod
    def clock_back(state: State) -> Iterator[tuple[str, State]]:
        """Step the database's clock back by a tick: every lease seems longer."""
        rows = tuple(row if row is None else row._replace(left=min(LEASE, row.left + 1)) for row in state.rows)
        if rows != state.rows:
            yield "database", state._replace(rows=rows)


def excused(worker: Worker, excuse: Excuse, rows: Collection[int] | None = None) -> Worker:
    """Let what the worker runs, or has asked for, overlap; the first excuse stays.

    With `rows`, only what was claimed under one of these rows.
    """
    claim, body = worker.claim, worker.body
    if claim is not None and claim.excuse is None and (rows is None or claim.row in rows):
        claim = claim._replace(excuse=excuse)
    if body is not None and body.excuse is None and (rows is None or body.row in rows):
        body = body._replace(excuse=excuse)
    return worker._replace(claim=claim, body=body)
