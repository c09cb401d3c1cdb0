"""The lease protocol as a model: the database, the processes and the faults in one world.

`LeaseProtocol` is what the checker explores. Its vocabulary (guards, invariants, faults, actions)
is in `vocabulary`, the shape of a state in `state`, the steps in `database`, `processes` and
`faults`, the sizes in `worlds`.

Left out, because another test shows it or one row cannot: cancellation, suspects and quarantine,
batches (the order of their locks), SQLite's rule of two renewals, a sweeper that was cut off. Two
simplifications: a fence ends the bodies at once, so a real worker's margin must cover the time
that takes; and every local clock runs as fast as the database's.
"""

from __future__ import annotations

from collections.abc import Iterator

from .checker import Move
from .database import Database, with_row
from .faults import Faults
from .processes import Processes
from .state import DEADLINE, LEASE, Job, Row, State, Worker, World
from .vocabulary import Guard, Invariant, JobState, Status


class LeaseProtocol:
    """One job in one world, under every guard but the dropped one; what the checker explores.

    `watched` are the invariants that a search looks for; DONE_REACHABLE is always among them. Only
    NO_OVERLAP can be left out without hiding others: it is read off a state, not left by a step.
    """

    trap: str = Invariant.DONE_REACHABLE

    def __init__(
        self,
        world: World,
        *,
        dropped: Guard | None = None,
        watched: frozenset[Invariant] = frozenset(Invariant),
    ) -> None:
        """Put the database, the processes and the faults together."""
        self.watched = watched
        self.world = world
        self.dropped = dropped
        kept = frozenset(Guard) - {dropped}
        database = Database(world, kept)
        processes = Processes(world, kept, database)
        self._parts = (database, processes, Faults(world, kept, database, processes))

    def start(self) -> State:
        """Return a world in which every worker is up and the job is ready."""
        count = self.world.workers
        spare = (None,) * (count + self.world.budget().total + 2)
        return State(
            job=Job(JobState.READY, epoch=0, worker=None, retries=self.world.retries, run=0),
            rows=(*(Row(LEASE, dead=False) for _ in range(count)), *spare),
            workers=tuple(Worker(Status.UP, number, DEADLINE, None, None, None, None) for number in range(count)),
            killing=None,
            rescues=(),
            strays=(),
            recorded=(),
            disowned=(),
            budget=self.world.budget(),
            flaw=None,
        )

    def moves(self, state: State) -> Iterator[Move[State]]:
        """Yield every step that the database, a process or a fault can take."""
        for part in self._parts:
            for move in part.moves(state):
                yield Move(move.action, move.actor, forget(move.state), move.fault)

    def broken(self, state: State) -> Invariant | None:
        """Return the invariant that this state, or the step into it, breaks."""
        if state.flaw in self.watched:
            return state.flaw
        running = [
            worker.body for worker in state.workers if worker.body is not None and worker.status is not Status.PAUSED
        ]
        unexcused = [body for body in running if body.excuse not in self.world.excuses]
        overlap = len(unexcused) > 1 and Invariant.NO_OVERLAP in self.watched
        return Invariant.NO_OVERLAP if overlap else None

    def is_goal(self, state: State) -> bool:
        """Say whether the job is done.

        Without a guard, the cap on runs may end the story early; that is not held against it.
        """
        capped = state.job.state is JobState.READY and state.job.run >= self.world.most_runs()
        return state.job.state is JobState.DONE or (capped and self.dropped is not None)


def forget(state: State) -> State:
    """Drop what nothing can ask for any more, so that equal futures are equal states."""
    asked = {state.job.worker, state.killing}
    runs = set()
    for worker in state.workers:
        asked.add(worker.row)
        for held in (worker.claim, worker.body, worker.finish):
            if held is not None:
                runs.add(held.run)
        for begun in (worker.claim, worker.body):
            if begun is not None:
                asked.add(begun.row)
    for number, row in enumerate(state.rows):
        if row is not None and number not in asked:
            state = with_row(state, number, None)
    if state.recorded:
        recorded = tuple(entry for entry in state.recorded if entry[0] in runs)
        state = state._replace(recorded=recorded)
    if state.disowned:
        strays = {stray.run for stray in state.strays}
        state = state._replace(disowned=tuple(run for run in state.disowned if run in strays))
    return state
