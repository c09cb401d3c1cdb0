"""Outcomes on their way to the store: many at once, each exactly once, none lost, whatever the database does."""

import random
import threading
from collections import Counter

import pytest
from django.db import DataError, InterfaceError, InternalError, OperationalError
from hypothesis import given
from hypothesis import strategies as st

from django_meanwhile.core.outcome import Charged, End, Outcome, decide
from django_meanwhile.core.states import JobState
from django_meanwhile.worker.completer import BATCH, Completer, Ending
from tests.worker.fakes import FakeStore, away, run


class Written:
    """Counts what was reported of each run."""

    def __init__(self):
        self.states = []
        self.times = Counter()

    def ending(self, number, end=End.SUCCEEDED, **more):
        charged = Charged(run=run(number), crashes=0, deaths=0, suspect=False, retry_on_crash=True)

        def on_written(state):
            self.times[number] += 1
            self.states.append((number, state))

        decision = decide(charged, Outcome(end=end, result="5", **more))
        return Ending(task="demo", charged=charged, decision=decision, on_written=on_written)


@pytest.fixture
def store():
    """Accepts everything."""
    return FakeStore()


@pytest.fixture
def completer(store):
    """Nothing is pending."""
    return Completer(store)


@pytest.fixture
def written():
    """Nothing has been reported."""
    return Written()


def add(completer, written, numbers, **more):
    """Queue endings of these runs."""
    for number in numbers:
        completer.add(written.ending(number, **more))


def numbers_of(calls):
    """The runs of each statement."""
    return [[decision.run.job_id.int for decision in decisions] for (decisions,) in calls]


def test_many_outcomes_are_one_statement(store, completer, written):
    """A hundred endings are written by one call, reported in order, and are no longer pending."""
    add(completer, written, range(100))
    assert completer.pending == 100
    completer.flush()
    assert numbers_of(store.called("finish")) == [list(range(100))]
    assert written.states == [(number, JobState.SUCCESSFUL) for number in range(100)]
    assert completer.pending == 0
    completer.flush()
    assert len(store.called("finish")) == 1, "nothing to write, nothing asked"


def test_a_flood_is_cut_into_batches_in_order(store, completer, written):
    """No statement grows without bound, and first come is first written."""
    add(completer, written, range(2 * BATCH + 1))
    completer.flush()
    sizes = [len(numbers) for numbers in numbers_of(store.called("finish"))]
    assert sizes == [BATCH, BATCH, 1]
    assert [number for number, _ in written.states] == list(range(2 * BATCH + 1))


def test_a_run_that_was_lost_is_reported_as_lost(store, completer, written):
    """What the fence refuses belongs to another run by now: reported once, with no state, and forgotten."""
    store.rows[run(2)] = JobState.READY  # somebody else's doing
    add(completer, written, [1, 2, 3])
    completer.flush()
    assert written.states == [(1, JobState.SUCCESSFUL), (2, None), (3, JobState.SUCCESSFUL)]
    assert not store.called("recorded"), "there was no doubt"


def test_the_written_state_is_reported_not_the_wished_one(store, completer, written):
    """A retry of a job whose cancel was requested is CANCELLED: the store says so."""
    store.plan("finish", {run(1): JobState.CANCELLED})
    add(completer, written, [1], end=End.FAILED, retry_in=5.0)
    completer.flush()
    assert written.states == [(1, JobState.CANCELLED)]


# --- the database is away -------------------------------------------------------------------


@pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("closed"), InternalError("read only")])
def test_an_error_of_the_database_loses_nothing(store, completer, written, error):
    """It is raised to the courier with everything still pending; the next flush writes it all."""
    # What is not about the connection may be about the row: that is tried as a failure, in vain.
    store.plan("finish", *[error] * (2 if isinstance(error, InternalError) else 1))
    add(completer, written, [1])
    with pytest.raises(type(error)):
        completer.flush()
    assert completer.pending == 1
    assert not written.states
    add(completer, written, [2])
    completer.flush()
    assert written.states == [(1, JobState.SUCCESSFUL), (2, JobState.SUCCESSFUL)]


def lost_reply(store):
    """Commit, and lose the reply."""

    def commit(decisions):
        FakeStore._finish(store, decisions)
        raise away("server closed the connection unexpectedly")

    return commit


def test_a_lost_reply_is_settled_by_looking(store, completer, written):
    """The COMMIT went through and its reply did not: sent again, the fence refuses, the row says it: written, once."""
    store.plan("finish", lost_reply(store))
    add(completer, written, [1, 2, 3])
    with pytest.raises(OperationalError):
        completer.flush()
    assert not written.states
    completer.flush()
    assert written.states == [(number, JobState.SUCCESSFUL) for number in (1, 2, 3)]
    assert len(store.finished) == 3
    add(completer, written, [4])
    completer.flush()
    assert len(store.called("recorded")) == 1, "the doubt is over"


def test_a_lost_reply_of_a_statement_that_was_rolled_back(store, completer, written):
    """The reply was lost and the COMMIT was not made: it is written now, and nobody needs to look."""
    store.plan("finish", away())
    add(completer, written, [1])
    with pytest.raises(OperationalError):
        completer.flush()
    completer.flush()
    assert written.states == [(1, JobState.SUCCESSFUL)]
    assert not store.called("recorded")


def test_in_doubt_a_run_that_somebody_else_took_is_lost(store, completer, written):
    """A sweeper released the job while we were cut off: its READY is not our SUCCESSFUL."""
    store.plan("finish", away())
    add(completer, written, [1])
    with pytest.raises(OperationalError):
        completer.flush()
    store.rows[run(1)] = JobState.READY
    completer.flush()
    assert written.states == [(1, None)]


def test_a_doubt_that_cannot_be_settled_yet_is_kept(store, completer, written):
    """Looking fails too: everything stays as it was, and is settled when it can be."""
    store.plan("finish", lost_reply(store))
    store.plan("recorded", away(), away())
    add(completer, written, [1])
    for _ in range(3):
        with pytest.raises(OperationalError):
            completer.flush()
        assert completer.pending == 1
    completer.flush()
    assert written.states == [(1, JobState.SUCCESSFUL)]


# --- a row that the database does not take --------------------------------------------------


def refusing(store, *bad, error=DataError):
    """A store that does not take a success of these runs."""

    def finish(decisions):
        if any(d.run.job_id.int in bad and d.state is JobState.SUCCESSFUL for d in decisions):
            raise error("invalid byte sequence")
        return FakeStore._finish(store, decisions)

    store.finish = finish


@pytest.mark.parametrize("bad", [[0], [99], [50], [3, 4], [0, 33, 66, 99], range(100)])
def test_a_bad_row_is_found_and_the_others_are_written(store, completer, written, bad):
    """The batch is split until the bad row stands alone; it becomes a failed attempt, its neighbours succeed."""
    refusing(store, *bad)
    add(completer, written, range(100))
    completer.flush()
    expected = {number: JobState.FAILED if number in bad else JobState.SUCCESSFUL for number in range(100)}
    assert dict(written.states) == expected
    assert set(written.times.values()) == {1}
    assert [number for number, _ in written.states] == list(range(100))
    failed = [decision for decision in store.finished if decision.state is JobState.FAILED]
    assert all("could not be stored" in decision.detail and decision.result is None for decision in failed)


def test_splitting_costs_no_more_than_it_must(store, completer, written):
    """One bad row in 200 is found with some sixteen statements, not with 200."""
    calls = []
    refusing(store, 123)
    finish = store.finish

    def counting(decisions):
        calls.append(len(decisions))
        return finish(decisions)

    store.finish = counting
    add(completer, written, range(200))
    completer.flush()
    assert len(calls) <= 20


def test_an_outage_in_the_middle_of_a_split_reports_nothing_twice(store, completer, written):
    """The first half was written when the database went: it is not sent again, and its receivers hear of it once."""
    refusing(store, 3)
    finish, calls = store.finish, []

    def failing(decisions):
        calls.append(len(decisions))
        if len(calls) == 4:
            raise away()
        return finish(decisions)

    store.finish = failing
    add(completer, written, range(8))
    with pytest.raises(OperationalError):
        completer.flush()
    assert 0 < len(written.states) < 8
    assert completer.pending == 8 - len(written.states)
    completer.flush()
    assert set(written.times.values()) == {1}
    assert dict(written.states)[3] is JobState.FAILED
    assert None not in dict(written.states).values()


def test_a_table_that_cannot_be_written_at_all_keeps_everything(store, completer, written):
    """No permission, or read-only after a failover: even the note of failure is refused, and nothing is given up."""

    def finish(decisions):
        raise InternalError("cannot execute UPDATE in a read-only transaction")

    store.finish = finish
    add(completer, written, range(5))
    for _ in range(3):
        with pytest.raises(InternalError):
            completer.flush()
    assert (completer.pending, written.states) == (5, [])
    del store.finish
    completer.flush()
    assert [state for _, state in written.states] == [JobState.SUCCESSFUL] * 5


class _Chaos:
    """A store that commits or not, replies or not, and refuses bad rows, as chance will have it."""

    def __init__(self, seed, bad, trouble):
        self.store = FakeStore()
        self.random = random.Random(seed)
        self.bad = bad
        self.trouble = trouble
        self.store.finish = self.finish
        self.store.recorded = self.recorded

    def finish(self, decisions):
        fate = self.random.random()
        if fate < self.trouble / 2:
            raise away("before")
        if any(d.run.job_id.int in self.bad and d.state is JobState.SUCCESSFUL for d in decisions):
            raise DataError("bad row")
        accepted = FakeStore._finish(self.store, decisions)
        if fate < self.trouble:
            raise away("after")
        return accepted

    def recorded(self, runs):
        if self.random.random() < self.trouble:
            raise away()
        return FakeStore._recorded(self.store, runs)


@given(st.integers(0, 10**9), st.sets(st.integers(0, 30), max_size=4), st.floats(0, 0.6))
def test_in_any_weather_each_ending_is_written_and_reported_once(seed, bad, trouble):
    """However statements fail, before or after their commit, each run ends once in the table and once in our books."""
    chaos, written = _Chaos(seed, bad, trouble), Written()
    completer = Completer(chaos.store)
    add(completer, written, range(31))
    for _ in range(500):
        try:
            completer.flush()
        except OperationalError:
            continue
        break
    assert completer.pending == 0
    assert set(written.times.values()) == {1}
    assert [number for number, _ in written.states] == list(range(31))
    assert {decision.run: decision.state for decision in chaos.store.finished} == {
        run(number): JobState.FAILED if number in bad else JobState.SUCCESSFUL for number in range(31)
    }
    assert dict(written.states) == {
        number: JobState.FAILED if number in bad else JobState.SUCCESSFUL for number in range(31)
    }


# --- fed by many threads --------------------------------------------------------------------


def test_threads_add_while_the_courier_flushes(store, completer, written):
    """Eight threads feed it while it is flushed: every ending is written, each thread's own in its order."""
    barrier = threading.Barrier(9)

    def feed(first):
        barrier.wait()
        add(completer, written, range(first, first + 250))

    threads = [threading.Thread(target=feed, args=(n * 1000,)) for n in range(8)]
    for thread in threads:
        thread.start()
    barrier.wait()
    while any(thread.is_alive() for thread in threads):
        completer.flush()
    completer.flush()
    assert len(written.times) == 2000
    assert set(written.times.values()) == {1}
    order = [number for number, _ in written.states]
    for first in range(0, 8000, 1000):
        assert [number for number in order if number // 1000 == first // 1000] == list(range(first, first + 250))


def test_pending_runs_are_known(store, completer, written):
    """Until it is written, a run is ours."""
    add(completer, written, [1, 2])
    assert completer.runs() == {run(1), run(2)}
    completer.flush()
    assert completer.runs() == set()
