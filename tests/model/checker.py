"""A breadth-first explorer of every state that a model can reach.

It knows nothing of jobs or leases: a model hands it a first state, the moves of a state, a verdict
on a state, and says which states are the goal. `explore` answers with one `Exploration`:

- *safety*: the shortest path to a state that breaks an invariant, if there is one;
- *liveness*: the shortest path to a state from which no fault-free path leads to the goal. Such a
  state is a trap: faults may stop there, and the goal is never reached all the same.

States must be hashable and frozen. The order of the search follows the order in which the model
lists its moves, never a hash, so the same model gives the same counter-example every time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)


class Move(NamedTuple, Generic[S]):
    """One step: what happens, who does it, where it leads; a fault may never be relied upon."""

    action: str
    actor: str
    state: S
    fault: bool = False


class Model(Protocol[S]):
    """What `explore` asks of a model."""

    trap: str
    """How this model calls the invariant that the goal stays in reach."""

    def start(self) -> S:
        """Return the state in which everything begins."""
        ...

    def moves(self, state: S) -> Iterable[Move[S]]:
        """Yield every step that is possible in this state, in a fixed order."""
        ...

    def broken(self, state: S) -> str | None:
        """Name the invariant that this state breaks, or None."""
        ...

    def is_goal(self, state: S) -> bool:
        """Say whether the goal is reached in this state."""
        ...


class Step(NamedTuple, Generic[S]):
    """One line of a counter-example."""

    action: str
    actor: str
    state: S


@dataclass(frozen=True, kw_only=True)
class CounterExample(Generic[S]):
    """A shortest path to a state that should not exist."""

    invariant: str
    steps: tuple[Step[S], ...]

    def __len__(self) -> int:
        """Return the number of steps after the first state."""
        return len(self.steps)

    def __str__(self) -> str:
        """Return the path, one numbered line a step."""
        lines = [f"{self.invariant} falls after {len(self)} steps:"]
        lines += [
            f"{number:4}. {step.actor:>10}  {step.action:<24} {step.state}" for number, step in enumerate(self.steps, 1)
        ]
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Exploration(Generic[S]):
    """What a search saw: its size, how often each action fired, and what it found wrong."""

    states: int
    moves: int
    fired: Counter[str]
    counter_example: CounterExample[S] | None


class _Search(Generic[S]):
    """The growing graph of one exploration; states are numbered in the order of discovery."""

    def __init__(self, model: Model[S]) -> None:
        self.model = model
        start = model.start()
        self.states: list[S] = [start]
        self.numbers: dict[S, int] = {start: 0}
        self.origins: list[tuple[int, str, str]] = [(-1, "", "")]
        self.sources: list[list[int]] = [[]]
        """For each state, the states one fault-free step before it."""
        self.fired: Counter[str] = Counter()

    def expand(self, number: int) -> int | None:
        """Follow every move of one state; return the first new state that is broken."""
        for move in self.model.moves(self.states[number]):
            self.fired[move.action] += 1
            target = self.numbers.get(move.state)
            new = target is None
            if target is None:
                target = self._add(move, number)
            if not move.fault:
                self.sources[target].append(number)
            if new and self.model.broken(move.state) is not None:
                return target
        return None

    def _add(self, move: Move[S], origin: int) -> int:
        number = len(self.states)
        self.numbers[move.state] = number
        self.states.append(move.state)
        self.origins.append((origin, move.action, move.actor))
        self.sources.append([])
        return number

    def trap(self) -> int | None:
        """Return the first state from which no fault-free path leads to the goal."""
        reaches = [self.model.is_goal(state) for state in self.states]
        front = [number for number, goal in enumerate(reaches) if goal]
        while front:
            for source in self.sources[front.pop()]:
                if not reaches[source]:
                    reaches[source] = True
                    front.append(source)
        return next((number for number, reached in enumerate(reaches) if not reached), None)

    def path(self, number: int) -> tuple[Step[S], ...]:
        """Return the steps by which a state was first reached."""
        steps: list[Step[S]] = []
        while number:
            origin, action, actor = self.origins[number]
            steps.append(Step(action, actor, self.states[number]))
            number = origin
        return tuple(reversed(steps))


def explore(model: Model[S], *, limit: int = 1_000_000) -> Exploration[S]:
    """Visit every reachable state, or stop at the first one that breaks an invariant.

    Raises RuntimeError past `limit` states: a model that grew so far is no longer a test.
    """
    search = _Search(model)
    number, wrong = 0, None
    while wrong is None and number < len(search.states):
        wrong = search.expand(number)
        number += 1
        if len(search.states) > limit:
            message = f"more than {limit} states: make the world smaller or its faults fewer"
            raise RuntimeError(message)
    counter_example: CounterExample[S] | None = None
    if wrong is not None:
        invariant = model.broken(search.states[wrong]) or "nothing"
        counter_example = CounterExample(invariant=invariant, steps=search.path(wrong))
    elif (trap := search.trap()) is not None:
        counter_example = CounterExample(invariant=model.trap, steps=search.path(trap))
    return Exploration(
        states=len(search.states),
        moves=sum(search.fired.values()),
        fired=search.fired,
        counter_example=counter_example,
    )
