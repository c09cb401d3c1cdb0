"""The checker itself, on models small enough to be read at a glance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .checker import Move, explore


class Counter:
    """A number that goes up to `top`, by ones or, as a fault, straight into a pit below zero."""

    trap = "five stays in reach"

    def __init__(self, *, top: int = 5, pit: bool = False, way_out: bool = False, forbidden: int | None = None) -> None:
        """Choose how the number moves and which number is forbidden."""
        self.top, self.pit, self.way_out, self.forbidden = top, pit, way_out, forbidden

    def start(self) -> int:
        """Begin at zero."""
        return 0

    def moves(self, state: int) -> Iterator[Move[int]]:
        """Go up by one or two; fall into the pit; climb out of it, which is a fault as well."""
        if 0 <= state < self.top:
            yield Move("one", "it", state + 1)
            yield Move("two", "it", min(state + 2, self.top))
            if self.pit:
                yield Move("fall", "world", -1, fault=True)
        if state < 0 and self.way_out:
            yield Move("climb", "world", 0, fault=True)

    def broken(self, state: int) -> str | None:
        """Name the rule that the forbidden number breaks."""
        return "never that number" if state == self.forbidden else None

    def is_goal(self, state: int) -> bool:
        """Be done at five."""
        return state == 5


def test_a_sound_model_has_no_counter_example() -> None:
    """Every state is visited once, every move counted, and nothing is found."""
    seen = explore(Counter())

    assert seen.counter_example is None
    assert (seen.states, seen.moves) == (6, 10)
    assert seen.fired == {"one": 5, "two": 5}


def test_a_broken_state_is_reached_by_a_shortest_path() -> None:
    """Three is two steps away, by two and one, and by no path shorter than that."""
    found = explore(Counter(forbidden=3)).counter_example

    assert found is not None
    assert found.invariant == "never that number"
    assert [step.state for step in found.steps] in ([1, 3], [2, 3])
    assert "2." in str(found)


def test_a_state_without_a_way_to_the_goal_is_a_trap() -> None:
    """A goal that lies beyond the top is out of reach from the first state on."""
    found = explore(Counter(top=4)).counter_example

    assert found is not None
    assert (found.invariant, len(found)) == ("five stays in reach", 0)


@pytest.mark.parametrize("way_out", [False, True])
def test_a_fault_leads_into_a_trap_and_never_out_of_it(*, way_out: bool) -> None:
    """Faults are followed when states are sought, and never relied upon to reach the goal."""
    found = explore(Counter(pit=True, way_out=way_out)).counter_example

    assert found is not None
    assert [step.action for step in found.steps] == ["fall"]


def test_a_model_that_grows_past_its_limit_is_refused() -> None:
    """A runaway model is an error, not a test that never ends."""
    with pytest.raises(RuntimeError, match="more than 100 states"):
        explore(Counter(top=10**9), limit=100)
