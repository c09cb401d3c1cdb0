"""What a child's death means for each of its jobs."""

import itertools
import math
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_meanwhile.core.errors import Cancelled, TaskTimeout
from django_meanwhile.core.outcome import End
from django_meanwhile.core.text import class_path
from django_meanwhile.worker.slots import Entry
from django_meanwhile.worker.verdict import Cause, Death, describe_status, judge
from tests.worker.fakes import run

OURS = {Cause.OVERDUE, Cause.CANCELLED, Cause.GRACE, Cause.FENCED}
THEIRS = {Cause.ITSELF, Cause.HUNG}
A, B, C = run(1), run(2), run(3)


def entry(of, *, ended=False, deadline=math.inf):
    """An entry of the slot table."""
    return Entry(run=of, ended=ended, begun=0.0, deadline=deadline)


def death(cause, *entries, status=-9, at=100.0, **more):
    """A dead child."""
    return Death(cause=cause, status=status, at=at, entries=entries, **more)


@pytest.mark.parametrize("cause", Cause)
def test_a_run_that_had_not_begun_is_not_charged(cause):
    """Held in the database and not in the table: claimed ahead, and given back, whatever killed the child."""
    outcome = judge(death(cause, entry(B)), A)
    assert (outcome.end, outcome.begun) == (End.NOT_BEGUN, False)


def test_a_child_that_dies_with_one_body_has_crashed_by_it():
    """Alone in the process, the job is the suspect number one."""
    assert judge(death(Cause.ITSELF, entry(A)), A).end is End.CRASHED


def test_a_child_that_dies_with_several_bodies_shares_the_death():
    """None of the neighbours can be told from the culprit."""
    shared = death(Cause.ITSELF, entry(A), entry(B))
    assert {judge(shared, of).end for of in (A, B)} == {End.SHARED_DEATH}


def test_bodies_that_had_ended_are_innocent():
    """An unwritten ending is lost, not charged, and does not make company for the one body that ran."""
    crashed = death(Cause.ITSELF, entry(A), entry(B, ended=True), entry(C, ended=True))
    assert [judge(crashed, of).end for of in (A, B, C)] == [End.CRASHED, End.INTERRUPTED, End.INTERRUPTED]


def test_the_culprit_of_a_hung_child_is_not_known():
    """Whoever held the GIL: the only body may be innocent of it, so it is a shared death."""
    assert judge(death(Cause.HUNG, entry(A)), A).end is End.SHARED_DEATH


@pytest.mark.parametrize("cause", sorted(OURS, key=lambda cause: cause.name))
@pytest.mark.parametrize("neighbours", [0, 1])
def test_what_we_killed_for_reasons_of_ours_is_interrupted(cause, neighbours):
    """A deploy, a lost lease, a neighbour's timeout: nobody is charged but the job that it was for."""
    entries = [entry(A), entry(B)][: neighbours + 1]
    assert judge(death(cause, *entries), A).end is End.INTERRUPTED


@pytest.mark.parametrize("cause", sorted(OURS | THEIRS, key=lambda cause: cause.name))
def test_an_overdue_run_has_timed_out(cause):
    """The job for whose timeout the child was killed is a failed attempt; its neighbours are not."""
    killed = death(cause, entry(A), entry(B), overdue=frozenset({A}))
    assert (judge(killed, A).end, judge(killed, A).exception) == (End.FAILED, class_path(TaskTimeout))
    assert judge(killed, B).end is not End.FAILED
    assert judge(killed, A).retry_in is None, "the caller knows the task's policy"


def test_a_cancelled_run_is_cancelled():
    """The job for whose cancel the child was killed ends as CANCELLED; its neighbours go back."""
    killed = death(Cause.CANCELLED, entry(A), entry(B), cancelled=frozenset({A}))
    assert (judge(killed, A).end, judge(killed, A).exception) == (End.CANCELLED, class_path(Cancelled))
    assert judge(killed, B).end is End.INTERRUPTED


@pytest.mark.parametrize("cause", sorted(OURS, key=lambda cause: cause.name))
def test_a_body_that_we_killed_after_its_deadline_has_timed_out(cause):
    """A deaf body, killed with its recycled child, is not run again as if nothing had been: it would never end."""
    late = death(cause, entry(A, deadline=99.0), entry(B, deadline=101.0), entry(C, ended=True, deadline=99.0))
    assert [judge(late, of).end for of in (A, B, C)] == [End.FAILED, End.INTERRUPTED, End.INTERRUPTED]


@given(
    st.sampled_from(Cause),
    st.lists(
        st.tuples(st.integers(1, 5), st.booleans(), st.floats(0, 200) | st.just(math.inf)), unique_by=lambda e: e[0]
    ),
    st.sets(st.integers(1, 5)),
    st.sets(st.integers(1, 5)),
    st.integers(1, 5),
)
def test_every_run_gets_a_verdict(cause, entries, overdue, cancelled, number):
    """For every death and every run there is one outcome, and only runs that had begun are charged or told why."""
    killed = death(
        cause,
        *(entry(run(n), ended=ended, deadline=deadline) for n, ended, deadline in entries),
        overdue=frozenset(map(run, overdue)),
        cancelled=frozenset(map(run, cancelled)),
    )
    outcome = judge(killed, run(number))
    begun = number in {n for n, *_ in entries}
    assert (outcome.end is End.NOT_BEGUN) == (not begun)
    assert outcome.begun == begun
    assert bool(outcome.detail) == begun
    assert outcome.end is not End.SUCCEEDED


@pytest.mark.parametrize(
    ("status", "shown"),
    [(0, "0"), (1, "1"), (-9, "-9 (SIGKILL)"), (-signal.SIGSEGV, "-11 (SIGSEGV)"), (-200, "-200"), (75, "75")],
)
def test_a_status_is_shown_as_a_reader_knows_it(status, shown):
    """A signal by its name, an exit by its number."""
    assert describe_status(status) == shown


@pytest.mark.parametrize(("cause", "status"), list(itertools.product(Cause, [None, 0, -9])))
def test_a_death_is_described_for_the_attempt(cause, status):
    """Cause, exit status and the last stacks: what was seen, and no more than fits."""
    text = death(cause, status=status, stacks="Thread 0x1\n" + "  File x\n" * 100_000).describe()
    assert cause.value in text
    assert ("Exit status" in text) == (status is not None)
    assert "Thread 0x1" in text
    assert len(text) < 70_000
