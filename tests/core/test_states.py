"""The states of a job: a closed vocabulary with a closed table of transitions."""

import json

import pytest

from django_meanwhile.core.states import LIVE, TERMINAL, TRANSITIONS, AttemptKind, Executor, JobState


def test_stored_numbers_and_words_never_change():
    """Rows, partial indexes and literals in SQL carry these values: each stands for the same state for ever."""
    assert {state.name: state.value for state in JobState} == {
        "SCHEDULED": 1,
        "READY": 2,
        "RUNNING": 3,
        "SUCCESSFUL": 4,
        "FAILED": 5,
        "CANCELLED": 6,
        "QUARANTINED": 7,
    }
    assert {kind.value for kind in AttemptKind} == {"failed", "crash", "interrupted"}
    assert {executor.value for executor in Executor} == {"thread", "asyncio", "process"}


def test_the_table_is_closed():
    """Every state has an entry, every transition leads to a state, and none leads nowhere new."""
    assert set(TRANSITIONS) == set(JobState)
    for state, targets in TRANSITIONS.items():
        assert targets <= set(JobState)
        assert state not in targets


def test_live_and_terminal_divide_the_states():
    """Each state is live or terminal, never both, and knows which."""
    assert set(JobState) == LIVE | TERMINAL
    assert not LIVE & TERMINAL
    assert {state for state in JobState if state.is_terminal} == TERMINAL


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_only_an_operators_retry_leads_out_of_an_end(state):
    """A job that has ended comes back as READY or not at all."""
    assert TRANSITIONS[state] == {JobState.READY}


def test_only_a_claim_leads_to_running():
    """RUNNING is entered from READY alone: what runs was claimed."""
    assert {state for state, targets in TRANSITIONS.items() if JobState.RUNNING in targets} == {JobState.READY}


def test_nothing_ends_but_what_runs_or_is_cancelled():
    """A waiting job can be cancelled, and ends in no other way without having run."""
    for state in (JobState.SCHEDULED, JobState.READY):
        assert TRANSITIONS[state] & TERMINAL == {JobState.CANCELLED}
    assert TRANSITIONS[JobState.RUNNING] >= TERMINAL


@pytest.mark.parametrize("start", list(JobState))
def test_every_state_can_be_reached_from_every_other(start):
    """No state is a trap, and none is out of reach."""
    reached, new = set(), {start}
    while new:
        reached |= new
        new = set().union(*(TRANSITIONS[state] for state in new)) - reached
    assert reached == set(JobState)


def test_as_text_a_state_is_its_name():
    """Printed, formatted or logged, a state reads as what it is compared with; as a number it stays one."""
    state = JobState.FAILED
    assert (str(state), f"{state}", f"{state:>8}", "%s" % state) == ("FAILED", "FAILED", "  FAILED", "FAILED")  # noqa: UP031
    assert (int(state), state.value, json.dumps(state), "%d" % state) == (5, 5, "5", "5")  # noqa: UP031
    assert type(int(state)) is int
