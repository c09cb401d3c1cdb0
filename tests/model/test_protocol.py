"""The lease protocol, explored: it holds with every guard, and with no guard less.

`design.md` states the protocol in prose, the stores write it in SQL; this model is the proof that
the rules are enough, and that none of them is for show. When a guard of a statement is changed,
change it here first. `MEANWHILE_DEEP_MODEL=1` adds the larger worlds (a minute or two).
"""

from __future__ import annotations

import os
from functools import cache
from typing import NamedTuple

import pytest

from .checker import Exploration, explore
from .protocol import LeaseProtocol
from .state import State
from .vocabulary import Action, Excuse, Fault, Guard, Invariant
from .worlds import DEEP_WORLDS, LIMITS, PROMISED, WORLDS


class Fall(NamedTuple):
    """What the loss of a guard brings down, and the faults that it takes."""

    world: str
    invariant: Invariant


FALLS = {
    Guard.CLAIM_READY_ONLY: Fall("calm", Invariant.NO_OVERLAP),
    Guard.CLAIM_LOCKS_JOB: Fall("calm", Invariant.NO_OVERLAP),
    Guard.CLAIM_RAISES_EPOCH: Fall("lost answer", Invariant.CURRENT_EPOCH),
    Guard.CLAIM_ROW_EXISTS: Fall("vanished row", Invariant.NO_OVERLAP),
    # With a clock that never steps back, dead implies expired: the next guard alone would do.
    Guard.CLAIM_WORKER_NOT_DEAD: Fall("pause and clock back", Invariant.NO_OVERLAP),
    Guard.CLAIM_LEASE_UNEXPIRED: Fall("pause", Invariant.NO_OVERLAP),
    Guard.CLAIM_SHARES_WORKER_ROW: Fall("pause and clock back", Invariant.NO_OVERLAP),
    Guard.CLAIM_COMMITS_ALONE: Fall("stop for ever", Invariant.DONE_REACHABLE),
    Guard.BEGIN_ONLY_UNFENCED: Fall("stall", Invariant.NO_OVERLAP),
    Guard.BEGIN_UNDER_OWN_ID: Fall("stall", Invariant.NO_OVERLAP),
    Guard.FINISH_BY_EPOCH: Fall("lost answer", Invariant.CURRENT_EPOCH),
    Guard.FINISH_RUNNING_ONLY: Fall("lost answer", Invariant.ONE_OUTCOME),
    Guard.FINISH_SENT_AGAIN: Fall("lost answer", Invariant.TRUE_REPORT),
    Guard.FINISH_READS_AGAIN: Fall("lost answer", Invariant.TRUE_REPORT),
    Guard.READ_AGAIN_BY_ATTEMPT: Fall("lost answer", Invariant.TRUE_REPORT),
    Guard.RENEW_NOT_DEAD: Fall("pause of a lone worker", Invariant.DONE_REACHABLE),
    Guard.RENEW_NEVER_INSERTS: Fall("vanished row", Invariant.NO_THEFT),
    Guard.BEAT_FOR_THE_MOVING: Fall("stop for ever", Invariant.DONE_REACHABLE),
    Guard.FENCE_BEFORE_LEASE_ENDS: Fall("calm", Invariant.NO_OVERLAP),
    Guard.FENCE_FROM_SENDING: Fall("slow answers", Invariant.NO_OVERLAP),
    Guard.REJOIN_UNDER_NEW_ID: Fall("stall", Invariant.DONE_REACHABLE),
    Guard.KILL_EXPIRED_ONLY: Fall("calm", Invariant.NO_OVERLAP),
    Guard.SWEEP_DEAD_ONLY: Fall("pause", Invariant.NO_THEFT),
    Guard.SWEEP_MISSING: Fall("vanished row", Invariant.DONE_REACHABLE),
    Guard.SWEEP_TWO_STATEMENTS: Fall("two sweepers", Invariant.NO_THEFT),
    Guard.RELEASE_BY_EPOCH: Fall("two sweepers", Invariant.NO_THEFT),
    Guard.RELEASE_RUNNING_ONLY: Fall("crash", Invariant.ONE_OUTCOME),
    Guard.RELEASE_CLEARS_WORKER: Fall("crash", Invariant.DONE_REACHABLE),
    Guard.RELEASE_KEEPS_EPOCH: Fall("crash", Invariant.CURRENT_EPOCH),
    Guard.RESCUE_AFTER_DEATH: Fall("condemned child", Invariant.NO_OVERLAP),
}

FLOORS = {
    "calm": 150,
    "slow answers": 1_000,
    "lost answer": 500,
    "pause": 800,
    "pause of a lone worker": 200,
    "stop for ever": 800,
    "pause and clock back": 3_000,
    "two sweepers": 5_000,
    "stall": 600,
    "crash": 500,
    "condemned child": 500,
    "vanished row": 400,
    "lone worker, any two faults": 20_000,
    "any fault, then a retry": 20_000,
}


@cache
def explored(name: str) -> Exploration[State]:
    """Explore a world with every guard in force, once a session."""
    return explore(LeaseProtocol(WORLDS[name]))


@pytest.mark.parametrize("name", WORLDS)
def test_with_every_guard_every_invariant_holds(name: str) -> None:
    """In every reachable state all invariants hold, and from every one DONE is in reach."""
    found = explored(name).counter_example

    assert found is None, str(found)


@pytest.mark.skipif(
    "MEANWHILE_DEEP_MODEL" not in os.environ, reason="takes a minute or two; MEANWHILE_DEEP_MODEL=1 runs it"
)
@pytest.mark.parametrize("name", DEEP_WORLDS)
def test_with_every_guard_every_invariant_holds_in_larger_worlds(name: str) -> None:
    """The same in worlds with more faults, more workers, and answers that take their time."""
    found = explore(LeaseProtocol(DEEP_WORLDS[name])).counter_example

    assert found is None, str(found)


@pytest.mark.parametrize("guard", Guard)
def test_without_a_guard_an_invariant_falls(guard: Guard) -> None:
    """Every guard is load-bearing: without it alone, a shortest counter-example exists.

    The protocol cannot be made simpler by leaving out a rule, and no rule hides behind another.
    """
    fall = FALLS[guard]
    found = explore(LeaseProtocol(WORLDS[fall.world], dropped=guard)).counter_example

    assert found is not None, f"{guard} can be dropped in the world '{fall.world}': nothing falls"
    assert found.invariant == fall.invariant, f"without {guard}: {found}"


def test_every_invariant_falls_for_some_guard() -> None:
    """No invariant is vacuous: each of them is what some guard is there for."""
    assert {fall.invariant for fall in FALLS.values()} == set(Invariant)


@pytest.mark.parametrize("name", LIMITS)
def test_the_promise_ends_here(name: str) -> None:
    """The exceptions are needed: without them two bodies overlap though every guard is in force.

    So the documentation must print them: a paused process, a worker row deleted by hand, a
    database clock that steps ahead by more than the margin.
    """
    found = explore(LeaseProtocol(LIMITS[name])).counter_example

    assert found is not None
    assert found.invariant == Invariant.NO_OVERLAP, str(found)


@pytest.mark.parametrize("name", LIMITS)
def test_beyond_the_promise_the_record_stays_true(name: str) -> None:
    """Where bodies may overlap there is still one outcome, from the current epoch, in the end."""
    world = LIMITS[name]
    found = explore(LeaseProtocol(world, watched=frozenset(Invariant) - {Invariant.NO_OVERLAP}))

    assert found.counter_example is None, str(found.counter_example)


@pytest.mark.parametrize("name", WORLDS)
def test_the_explored_space_stays_large(name: str) -> None:
    """A model that has silently lost most of its behaviour proves nothing, and fails here."""
    assert explored(name).states >= FLOORS[name]


def test_every_action_and_every_promised_fault_fires() -> None:
    """No rule is proven by never being tried: each action and each fault happens somewhere."""
    fired = {action for name in WORLDS for action in explored(name).fired}

    assert fired == {*Action, *PROMISED}


def test_the_tables_are_complete() -> None:
    """A new guard, fault, excuse or world cannot be forgotten in the tables above."""
    assert set(FALLS) == set(Guard)
    assert set(FLOORS) == set(WORLDS)
    assert set(PROMISED) == set(Fault) - {Fault.CLOCK_AHEAD}
    assert {excuse for world in LIMITS.values() for excuse in set(Excuse) - world.excuses} == set(Excuse)
