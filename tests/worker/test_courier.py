"""The child's one thread at the database: what it writes, claims and gives back, and what an outage costs (nothing)."""

import json
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from uuid import uuid4

import pytest
from django.db import DatabaseError, IntegrityError, InterfaceError, OperationalError

from django_meanwhile.conf import real_clock
from django_meanwhile.core.errors import Cancelled, LeaseLost
from django_meanwhile.core.outcome import Charged, End, Outcome, decide
from django_meanwhile.core.states import JobState
from django_meanwhile.worker.completer import Completer, Ending
from django_meanwhile.worker.courier import PROGRESS_EVERY, STALE, Courier
from tests.run.jobs import ManualClock, claimed
from tests.worker.fakes import WITHIN, FakeExecutor, FakeStore, away, handle

LEASE = 30.0


@dataclass
class FakeClaimer:
    """Claims what it is given, and remembers the room it was told."""

    store: FakeStore
    rooms: list = field(default_factory=list)
    due: float = 1.0
    work: object = None

    def claim(self, room):
        self.rooms.append(room)
        with self.store.changed:
            self.store.calls.append(("claim", (room,)))
            self.store.changed.notify_all()
        return self.work() if self.work else 0

    def due_in(self, room):
        return self.due


class Bench:
    """A courier whose rounds are run by hand, or in its thread."""

    def __init__(self, *executors, clock=None, room=100):
        self.store = FakeStore()
        self.clock = clock or ManualClock()
        self.executors = executors or (FakeExecutor(),)
        self.completer = Completer(self.store)
        self.claimer = FakeClaimer(self.store)
        self.table = SimpleNamespace(room=room)
        self.row = SimpleNamespace(id=uuid4())
        self.registered, self.failed, self.states = [], threading.Event(), []
        self.courier = Courier(
            store=self.store,
            row=self.row,
            lease=LEASE,
            claimer=self.claimer,
            completer=self.completer,
            executors=self.executors,
            ledger=self,
            table=self.table,
            clock=self.clock,
            on_registered=self.registered.append,
            on_failure=self.failed.set,
        )

    def ended(self, job, outcome, bound):
        """As the child does: an outcome becomes an ending."""
        charged = Charged.of(job)
        self.completer.add(
            Ending(
                task=job.task,
                charged=charged,
                decision=decide(charged, outcome),
                on_written=lambda state: self.states.append((job.run, state)),
            )
        )
        self.courier.poke()

    def succeed(self, job=None):
        """A body has returned."""
        job = job or claimed()
        self.ended(job, Outcome(end=End.SUCCEEDED, result="5"), None)
        return job

    def round(self, seconds=0.0):
        """Move the clock, run one round, and return the verbs that were asked."""
        self.clock.advance(seconds)
        before = len(self.store.calls)
        self.courier._round()
        return [verb for verb, _ in self.store.calls[before:]]


@pytest.fixture
def bench():
    """Registered, with nothing to do."""
    made = Bench()
    made.round()
    return made


@pytest.fixture
def running():
    """Start couriers in their threads; they end with the test."""
    started = []

    def start(bench):
        started.append(bench)
        bench.courier.start()
        return bench

    yield start
    for bench in started:
        bench.courier.stop()
        assert bench.courier.join(WITHIN)


# --- registering ----------------------------------------------------------------------------


def test_it_registers_before_it_claims():
    """The row comes first; the lease counts from the moment it was sent for."""
    bench = Bench()
    sent = bench.clock.now

    def slow(row, lease):
        assert (row, lease) == (bench.row, LEASE)
        bench.clock.advance(3)

    bench.store.plan("register", slow)
    assert bench.round() == ["register", "claim"]
    assert bench.registered == [sent]
    assert "register" not in bench.round()


def test_a_failed_registration_is_tried_again():
    """Until there is a row, nothing is claimed and nobody is asked to beat for it."""
    bench = Bench()
    bench.store.plan("register", away(), away())
    for _ in range(2):
        with pytest.raises(OperationalError):
            bench.round()
    assert not bench.registered
    assert not bench.claimer.rooms
    bench.clock.advance(5)
    assert bench.round() == ["register", "claim"]
    assert bench.registered == [bench.clock.now], "the lease counts from the last try"


def test_a_registration_whose_reply_was_lost_counts():
    """The row is there already, and ours, since its id is random: its lease is renewed, and work begins."""
    bench = Bench()
    bench.store.plan("register", away(), IntegrityError("duplicate key"))
    with pytest.raises(OperationalError):
        bench.round()
    assert bench.round() == ["register", "renew", "claim"]
    assert bench.registered == [bench.clock.now]


def test_a_row_that_died_before_the_child_knew_of_it_is_not_used():
    """Its lease ran out during the outage and it was swept: this child never claims under a dead row."""
    bench = Bench()
    bench.store.plan("register", away(), IntegrityError("duplicate key"))
    bench.store.plan("renew", set())
    with pytest.raises(OperationalError):
        bench.round()
    with pytest.raises(IntegrityError):
        bench.round()
    assert not bench.registered


# --- a round --------------------------------------------------------------------------------


def test_a_round_writes_before_it_claims(bench):
    """Outcomes, then progress, then new work: the claim sees slots and rows as they are now."""
    one = handle()
    one.set_progress(1, 2, "half")
    bench.executors[0].going_on = [one]
    bench.succeed()
    assert bench.round(PROGRESS_EVERY) == ["finish", "write_progress", "claim"]


def test_an_idle_round_asks_nothing_but_for_work(bench):
    """Nothing to write, nothing written."""
    assert bench.round(PROGRESS_EVERY) == ["claim"]


def test_the_room_is_what_the_table_has_without_what_waits():
    """Jobs that are here and not begun have their places already."""
    bench = Bench(FakeExecutor(waiting=3), FakeExecutor(waiting=4), room=50)
    bench.round()
    assert bench.claimer.rooms == [43]


def test_a_job_that_begins_while_the_room_is_counted_is_not_missed():
    """It is counted twice rather than not at all: the table is never promised more than it has."""
    bench = Bench(room=1)

    class Beginning(FakeExecutor):
        @property
        def waiting(self):
            bench.table.room = 0  # it begins right after it was counted
            return 1

        @waiting.setter
        def waiting(self, value):
            pass

    bench.courier._executors = [Beginning()]
    assert bench.courier._room <= 0


def test_what_has_waited_too_long_is_given_back(bench):
    """Claimed ahead for short runs, and a long one came: after a second somebody else may have it, uncharged."""
    (executor,) = bench.executors
    waited = []
    job = claimed()

    def withdraw(seconds=0.0):
        waited.append(seconds)
        return [job] if len(waited) == 1 else []

    executor.withdraw = withdraw
    bench.round()
    assert waited == [STALE]
    bench.round()
    (decision,) = bench.store.finished
    assert (decision.run, decision.state, decision.attempts, decision.kind) == (job.run, JobState.READY, -1, None)


# --- progress -------------------------------------------------------------------------------


def test_progress_is_written_once_a_second_and_only_if_it_is_new(bench):
    """However often a body reports, one statement a second carries the newest of every run."""
    one, two = handle(), handle()
    bench.executors[0].going_on = [one, two]
    bench.round(PROGRESS_EVERY)
    for n in range(10):
        one.set_progress(n, 10, "")
        assert "write_progress" not in bench.round(PROGRESS_EVERY / 20)
    assert "write_progress" in bench.round(PROGRESS_EVERY)
    ((written,),) = bench.store.called("write_progress")
    assert [(item.run, json.loads(item.progress)["n"]) for item in written] == [(one.job.run, 9)]
    assert "write_progress" not in bench.round(PROGRESS_EVERY)


def test_progress_of_a_lost_run_tells_its_body(bench):
    """Missing from the reply: the job belongs to another run by now. True: its cancel was requested."""
    lost, cancelled, fine = handle(), handle(), handle()
    bench.executors[0].going_on = [lost, fine]
    bench.executors[0].given_up = [cancelled]
    for one in (lost, cancelled, fine):
        one.set_progress(1, 2, "")
    bench.store.plan("write_progress", {cancelled.job.run: True, fine.job.run: False})
    bench.round(PROGRESS_EVERY)
    assert (lost.stop_reason, cancelled.stop_reason, fine.stop_reason) == (LeaseLost, Cancelled, None)


@pytest.mark.parametrize("error", [away(), InterfaceError("closed")])
def test_progress_that_could_not_be_written_is_written_later(bench, error):
    """A body that reports once and then computes for an hour is shown all the same."""
    one = handle()
    bench.executors[0].going_on = [one]
    one.set_progress(1, 2, "half")
    bench.store.plan("write_progress", error)
    with pytest.raises(type(error)):
        bench.round(PROGRESS_EVERY)
    assert "write_progress" in bench.round(PROGRESS_EVERY)
    assert [json.loads(item.progress)["n"] for (items,) in bench.store.called("write_progress") for item in items] == [
        1,
        1,
    ]
    assert one.stop_reason is None


# --- draining -------------------------------------------------------------------------------


def test_stop_claiming_gives_back_what_was_not_begun(bench):
    """Waiting jobs go back at once and uncharged; no claim follows."""
    (executor,) = bench.executors
    jobs = [claimed(), claimed()]
    executor.to_withdraw = list(jobs)
    bench.courier.stop_claiming()
    assert not bench.courier.is_claiming
    bench.round()
    assert "claim" not in bench.round(1)
    assert {decision.run for decision in bench.store.finished} == {job.run for job in jobs}
    assert {decision.state for decision in bench.store.finished} == {JobState.READY}


def test_done_means_that_nothing_runs_and_everything_is_written(bench):
    """Not while it claims, not while a body runs, not while an outcome waits: only then may the child end."""
    (executor,) = bench.executors
    bench.round()
    assert not bench.courier.done.is_set(), "it still claims"
    executor.is_idle = False
    bench.courier.stop_claiming()
    bench.round()
    assert not bench.courier.done.is_set(), "a body runs"
    executor.is_idle = True
    bench.succeed()
    bench.store.plan("finish", away())
    with pytest.raises(OperationalError):
        bench.round()
    assert not bench.courier.done.is_set(), "an outcome is not written"
    bench.round()
    assert bench.courier.done.is_set()


def test_an_outcome_that_comes_in_the_last_moment_is_written_first(bench):
    """The body ends while its executor is asked: its outcome is there by then, so the child is not done."""

    class Ending(FakeExecutor):
        asked = 0

        @property
        def is_idle(self):
            self.asked += 1
            if self.asked == 1:
                bench.succeed()
            return True

        @is_idle.setter
        def is_idle(self, value):
            pass

    bench.courier._executors = [Ending()]
    bench.courier.stop_claiming()
    bench.round()
    assert not bench.courier.done.is_set()
    bench.round()
    assert bench.courier.done.is_set()
    assert len(bench.store.finished) == 1


# --- outages --------------------------------------------------------------------------------


def test_an_outage_loses_nothing_and_is_said_once(running, caplog):
    """Some errors of any kind later, every outcome is written once, and the log has two lines."""
    caplog.set_level("DEBUG", logger="django_meanwhile")
    bench = Bench(clock=real_clock())
    errors = [away(), InterfaceError("closed"), OperationalError("terminating connection")]
    bench.store.plan("finish", *errors)
    running(bench)
    jobs = [bench.succeed() for _ in range(10)]
    bench.store.wait_for(lambda: len(bench.store.finished) == 10)
    bench.store.wait_called("claim")
    assert {decision.run for decision in bench.store.finished} == {job.run for job in jobs}
    bench.courier.stop()
    assert bench.courier.join(WITHIN)
    assert sorted(run for run, _ in bench.states) == sorted(job.run for job in jobs)
    assert {state for _, state in bench.states} == {JobState.SUCCESSFUL}
    said = [r.message for r in caplog.records if r.levelname in {"INFO", "WARNING"} and "database" in r.message]
    assert len(said) == 2
    assert "trying again" in said[0]
    assert "is back" in said[1]


def test_an_outage_of_days_does_not_end_the_child(monkeypatch, running):
    """After two thousand failures in a row it still tries, and still waits no longer than a second."""
    bench = Bench(clock=real_clock())
    waits = []

    class Impatient(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            return super().wait(0)

    bench.courier._poked = Impatient()
    bench.store.plan("register", *[away()] * 2000)
    running(bench)
    bench.store.wait_called("claim")
    assert not bench.failed.is_set()
    assert max(waits[:2000]) <= 1.0
    assert waits[0] < waits[3]


def test_a_bug_of_ours_ends_the_child(running, caplog):
    """A child without its courier is of no use: its owner is told."""
    bench = Bench(clock=real_clock())

    def work():
        raise RuntimeError("a bug")

    bench.claimer.work = work
    running(bench)
    assert bench.failed.wait(WITHIN)
    assert "a bug" in caplog.text


def test_a_poke_is_never_missed(running):
    """However it falls between two rounds, an outcome is written at once, not at the next poll of an hour."""
    bench = Bench(clock=real_clock())
    bench.claimer.due = 3600.0
    running(bench)
    bench.store.wait_called("claim")
    for number in range(1, 200):
        bench.succeed()
        bench.store.wait_for(lambda number=number: len(bench.store.finished) == number)


def test_a_stopping_courier_writes_what_is_left_first(running):
    """Told to stop during an outage, it goes on until the last outcome is written."""
    bench = Bench(clock=real_clock())
    bench.store.plan("finish", away(), away())
    job = bench.succeed()
    running(bench)
    bench.courier.stop()
    assert bench.courier.join(WITHIN)
    assert [run for run, _ in bench.states] == [job.run]


# --- a claim whose reply was lost -----------------------------------------------------------


def test_jobs_of_a_claim_whose_reply_was_lost_are_given_back(bench):
    """They are RUNNING in our name and nobody runs them: found by looking, and released by their epoch, uncharged."""
    (executor,) = bench.executors
    mine, unwritten, unreported, unknown = claimed(), claimed(), claimed(), claimed(retry_on_crash=False)
    executor.submitted = [mine]
    executor.unreported = {unreported.run}

    def lose():
        bench.claimer.work = None
        raise away("server closed the connection")

    bench.claimer.work = lose
    with pytest.raises(OperationalError):
        bench.round()
    bench.store.plan("finish", away())  # so that its ending is not written yet when held jobs are compared
    bench.succeed(unwritten)
    with pytest.raises(OperationalError):
        bench.round()
    bench.store.plan("held", [Charged.of(job) for job in (mine, unreported, unknown)])
    assert bench.round()[:2] == ["finish", "held"]
    (release,) = [decision for decision in bench.store.finished if decision.run == unknown.run]
    assert (release.state, release.attempts, release.kind) == (JobState.READY, -1, None)
    assert {decision.run for decision in bench.store.finished} == {unwritten.run, unknown.run}
    assert "held" not in bench.round(), "asked once"


def test_a_body_that_ends_while_it_looks_is_not_given_back(bench):
    """Its outcome came after the last flush and before the row was read: it is ours, and is written, not released."""

    def lose():
        bench.claimer.work = None
        raise away()

    bench.claimer.work = lose
    with pytest.raises(OperationalError):
        bench.round()
    job = claimed()

    def held(worker_id):
        bench.succeed(job)
        return [Charged.of(job)]

    bench.store.plan("held", held)
    bench.round()
    assert not bench.store.finished
    bench.round()
    assert [decision.state for decision in bench.store.finished] == [JobState.SUCCESSFUL]


def test_looking_for_them_fails_too(bench):
    """The question is asked until it is answered, and nothing is claimed before."""

    def lose():
        bench.claimer.work = None
        raise away()

    bench.claimer.work = lose
    with pytest.raises(OperationalError):
        bench.round()
    bench.store.plan("held", away(), away(), [])
    for _ in range(2):
        with pytest.raises(DatabaseError):
            bench.round()
    assert bench.round() == ["held", "claim"]


def test_a_draining_child_looks_for_them_too(bench):
    """It must not end with jobs in its name that nobody knows of."""
    unknown = claimed()

    def lose():
        bench.claimer.work = None
        raise away()

    bench.claimer.work = lose
    with pytest.raises(OperationalError):
        bench.round()
    bench.courier.stop_claiming()
    bench.store.plan("held", [Charged.of(unknown)])
    bench.round()
    assert [decision.run for decision in bench.store.finished] == [unknown.run]
    assert bench.courier.done.is_set()
