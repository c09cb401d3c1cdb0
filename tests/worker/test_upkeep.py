"""What every supervisor does for the whole queue: settle, relay, promote, sweep, prune; through every outage."""

import threading
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from django.db import DatabaseError, InterfaceError

from django_meanwhile.conf import Retention, real_clock
from django_meanwhile.core.errors import TaskTimeout
from django_meanwhile.core.job import Depth, Lease
from django_meanwhile.core.outcome import CRASHED_PATH, Charged, End
from django_meanwhile.core.states import Executor as Kind
from django_meanwhile.core.states import JobState
from django_meanwhile.core.text import class_path
from django_meanwhile.worker import upkeep as module
from django_meanwhile.worker.slots import Entry
from django_meanwhile.worker.upkeep import (
    CANCELS_EVERY,
    DEAD_WORKERS_KEPT,
    PROMOTE_EVERY,
    PRUNE_BATCHES,
    PRUNE_EVERY,
    Estate,
    Upkeep,
)
from django_meanwhile.worker.verdict import Cause, Death
from tests.run.jobs import ManualClock
from tests.worker.fakes import WITHIN, FakeChild, FakeStore, away, plan, run

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def charged(number, **changes):
    """A job that a worker held."""
    values = {"crashes": 0, "deaths": 0, "suspect": False, "retry_on_crash": True} | changes
    return Charged(run=run(number), **values)


def estate(*begun, cause=Cause.ITSELF, **more):
    """A dead child that had begun these runs."""
    entries = tuple(Entry(run=run(n), ended=False, begun=0.0, deadline=1e9) for n in begun)
    return Estate(worker_id=uuid4(), death=Death(cause=cause, status=-9, at=100.0, entries=entries, **more))


class Herald:
    """Collects what is to be announced."""

    def __init__(self):
        self.announced = []

    def announce(self, make_result):
        self.announced.append(make_result)


class Beat:
    """Steady, or not."""

    renewals = 0

    def __init__(self):
        self.steady = True

    def steady_for(self, seconds):
        return self.steady


class Bench:
    """An upkeep that is run by hand, round by round."""

    def __init__(self, *, clock=None, retention=None, one_writer=False, **changes):
        self.store = FakeStore(one_writer=one_writer)
        self.clock = clock or ManualClock()
        self.beat, self.herald = Beat(), Herald()
        self.children = [FakeChild(), FakeChild()]
        self.plan = plan(**changes)
        self.upkeep = Upkeep(
            self.plan,
            retention=retention or Retention(),
            store=self.store,
            clock=self.clock,
            beat=self.beat,
            herald=self.herald,
            children=lambda: self.children,
        )

    def round(self, seconds=0.0):
        """Move the clock, run one round, and return the verbs that were asked."""
        self.clock.advance(seconds)
        before = len(self.store.calls)
        self.upkeep.round()
        return [verb for verb, _ in self.store.calls[before:]]

    def settled(self):
        """The decisions that were written, by the job's number."""
        return {decision.run.job_id.int: decision for decision in self.store.finished}


@pytest.fixture
def bench():
    """Nothing to do yet; the first round of duties is over."""
    made = Bench()
    made.round()
    return made


# --- settling -------------------------------------------------------------------------------


def test_a_dead_childs_jobs_are_settled_in_order(bench):
    """First its row is buried, so that it claims no more; then what it held is decided; then the row goes."""
    it = estate(1)
    bench.store.plan("held", [charged(1), charged(2)], [])
    bench.upkeep.settle(it)
    assert bench.upkeep.unsettled == 1
    verbs = bench.round()
    assert verbs[:5] == ["bury", "held", "finish", "held", "unregister"]
    assert bench.upkeep.unsettled == 0
    decisions = bench.settled()
    assert (decisions[1].crashes, decisions[1].exception) == (1, CRASHED_PATH)
    assert (decisions[2].attempts, decisions[2].kind) == (-1, None), "not begun: given back uncharged"
    assert all(decision.state is JobState.READY for decision in decisions.values())
    assert all({"op": "wake"} in child.sent for child in bench.children), "somebody can run them now"


def test_more_than_one_page_is_settled(bench):
    """The store returns so many at a time: it is asked until nothing is held."""
    bench.store.plan("held", [charged(1)], [charged(2)], [charged(3)], [])
    bench.upkeep.settle(estate(1, 2, 3))
    bench.round()
    assert set(bench.settled()) == {1, 2, 3}


@pytest.mark.parametrize("verb", ["bury", "held", "finish", "unregister"])
@pytest.mark.parametrize("error", [away(), InterfaceError("closed"), DatabaseError("strange")])
def test_settling_survives_the_database(bench, verb, error):
    """Whichever statement fails, the estate is kept, and settled once the database is back."""
    held = [charged(1)]
    # A statement that failed may have been made: held again or not, it must not matter.
    bench.store.held = lambda worker_id: held if run(1) not in bench.store.rows else []
    bench.store.plan(verb, error, error) if verb != "held" else None
    if verb == "held":
        failures = [error, error]
        answer = bench.store.held
        bench.store.held = lambda worker_id: _raise(failures.pop()) if failures else answer(worker_id)
    bench.upkeep.settle(estate(1))
    bench.upkeep.settle(estate())
    for _ in range(2):
        with pytest.raises(type(error)):
            bench.round()
        assert bench.upkeep.unsettled == 2
    bench.round()
    assert bench.upkeep.unsettled == 0
    assert bench.settled()[1].state is JobState.READY
    assert len(bench.store.finished) == 1


def _raise(error):
    raise error


def test_estates_are_settled_before_anything_else(bench):
    """What a dead child held comes first: its jobs wait for it."""
    bench.upkeep.settle(estate())
    assert bench.round(1000)[0] == "bury"


def test_an_end_is_announced_once_it_is_written(bench):
    """QUARANTINED and FAILED are announced to receivers; what runs again is not, nor what somebody else has ended."""
    bench.store.plan("held", [charged(1, crashes=2), charged(2), charged(3, retry_on_crash=False)], [])
    bench.store.rows[run(3)] = JobState.SUCCESSFUL
    bench.upkeep.settle(estate(1))
    bench.round()
    assert bench.settled()[1].state is JobState.QUARANTINED
    assert [make.args for make in bench.herald.announced] == [("default", run(1).job_id)]


def test_an_overdue_job_asks_its_tasks_policy(bench, monkeypatch):
    """A timeout that the supervisor enforced is retried as the task says, by the delay it grants."""
    asked = []

    def policy(alias, backend, of, outcome):
        from dataclasses import replace

        asked.append((alias, backend, of, outcome.end))
        return replace(outcome, retry_in=7.0)

    monkeypatch.setattr(module, "retry_of_overdue", policy)
    bench.store.plan("held", [charged(1), charged(2)], [])
    bench.upkeep.settle(estate(1, 2, cause=Cause.OVERDUE, overdue=frozenset({run(1)})))
    bench.round()
    assert asked == [("default", "default", run(1), End.FAILED)]
    assert (bench.settled()[1].state, bench.settled()[1].delay) == (JobState.SCHEDULED, 7.0)
    assert bench.settled()[1].exception == class_path(TaskTimeout)
    assert bench.settled()[2].interruptions == 1


# --- cancels --------------------------------------------------------------------------------


def test_a_cancel_is_relayed_to_the_child_that_runs_the_job_for_as_long_as_it_stands(bench):
    """One question for all children; said again each time, since the body may not have begun when it was first said."""
    first, second = bench.children
    bench.store.cancel_requests = lambda worker_ids: [(first.worker_id, run(1))]
    for _ in range(3):
        bench.round(CANCELS_EVERY)
    assert [runs for runs in first.cancelled if runs] == [{run(1)}] * 3
    assert not any(second.cancelled)


def test_a_new_run_of_a_cancelled_job_is_told_too(bench):
    """The request names a run: a later epoch of the same job is another one."""
    from django_meanwhile.core.job import Run

    child = bench.children[0]
    for epoch in (1, 2):
        bench.store.plan("cancel_requests", [(child.worker_id, Run(run(1).job_id, epoch))])
        bench.round(CANCELS_EVERY)
    assert [of.epoch for runs in child.cancelled for of in runs] == [1, 2]


def test_a_poke_makes_it_look_for_cancels_at_once(bench):
    """A cancel that was announced does not wait for its turn."""
    assert "cancel_requests" not in bench.round(0.0)
    bench.upkeep.look_for_cancels()
    assert "cancel_requests" in bench.round(0.0)


def test_without_children_nobody_is_asked_for_cancels():
    """Nothing runs here."""
    bench = Bench()
    bench.children = []
    assert "cancel_requests" not in bench.round()


# --- promoting and sweeping -----------------------------------------------------------------


def test_what_has_become_due_wakes_the_children(bench):
    """Twice a second due jobs become READY; somebody is told only if there were any."""
    bench.round(PROMOTE_EVERY)
    assert bench.children[0].sent == []
    bench.store.plan("promote", {"default": 3})
    assert "promote" in bench.round(PROMOTE_EVERY)
    assert bench.children[0].sent == [{"op": "wake"}]


def lease(*, expired):
    """A worker row."""
    return Lease(worker_id=uuid4(), lease_until=NOON, expired=expired)


def test_a_sweep_is_kill_then_select_then_release(bench):
    """Three statements, in this order: expired rows are killed, orphans are looked up, and released by their epoch."""
    dead, alive = lease(expired=True), lease(expired=False)
    bench.store.plan("leases", [dead, alive])
    bench.store.plan("orphans", [charged(1), charged(2, suspect=True), charged(3, retry_on_crash=False)], [])
    verbs = bench.round(5)
    first = verbs.index("leases")
    assert verbs[first : first + 5] == ["leases", "kill", "orphans", "finish", "orphans"]
    assert bench.store.called("kill") == [({dead.worker_id},)]
    decisions = bench.settled()
    assert (decisions[1].deaths, decisions[1].interruptions, decisions[1].state) == (1, 1, JobState.READY)
    assert (decisions[2].crashes, decisions[2].deaths, decisions[2].state) == (0, 1, JobState.READY)
    assert decisions[3].state is JobState.FAILED
    assert all("stopped renewing its lease" in decision.detail for decision in decisions.values())


def test_who_is_not_steady_kills_nobody_and_still_rescues(bench):
    """After an outage of ours nobody is declared dead; what is dead already, or missing, is rescued all the same."""
    bench.beat.steady = False
    bench.store.plan("leases", [lease(expired=True)])
    bench.store.plan("orphans", [charged(1)], [])
    verbs = bench.round(5)
    assert "kill" not in verbs
    assert 1 in bench.settled()


def test_a_sweep_goes_on_until_no_orphan_is_left(bench):
    """A dead host with a thousand jobs is swept in one go, page by page."""
    bench.store.plan("orphans", [charged(1)], [charged(2)], [charged(3)], [])
    bench.round(5)
    assert set(bench.settled()) == {1, 2, 3}


def test_a_sweep_ends_when_another_was_faster(bench):
    """Everything it found has been taken meanwhile: it does not go round for ever."""
    bench.store.rows[run(1)] = JobState.READY
    bench.store.orphans = lambda limit=500: [charged(1)]
    bench.round(5)
    assert not bench.store.finished


def test_suspects_are_counted_for_the_supervisor(bench):
    """It spawns a child of its own for each, up to a limit: the sweep says how many wait."""
    assert bench.upkeep.suspects == 0
    bench.store.plan("suspects", 3)
    bench.round(5)
    assert bench.upkeep.suspects == 3


# --- pruning --------------------------------------------------------------------------------


def test_history_is_pruned_by_age_per_state(bench):
    """Once a minute, each terminal state with its own age; then workers that died long ago."""
    bench.store.calls.clear()
    verbs = bench.round(PRUNE_EVERY)
    kept = Retention()
    assert bench.store.called("prune") == [
        (JobState.SUCCESSFUL, kept.successful),
        (JobState.FAILED, kept.failed),
        (JobState.CANCELLED, kept.cancelled),
        (JobState.QUARANTINED, kept.quarantined),
    ]
    assert bench.store.called("prune_workers") == [(DEAD_WORKERS_KEPT,)]
    assert verbs.index("prune") < verbs.index("prune_workers")


def test_what_is_kept_for_ever_is_not_pruned():
    """None is no age."""
    bench = Bench(retention=Retention(failed=None, quarantined=None))
    bench.round()
    assert [state for state, _ in bench.store.called("prune")] == [JobState.SUCCESSFUL, JobState.CANCELLED]


def test_pruning_is_bounded(bench):
    """Millions of old rows are deleted in small batches, so many a minute: nothing else waits for it."""
    bench.store.calls.clear()
    bench.store.prune = lambda state, age, limit=500: bench.store.calls.append(("prune", (state,))) or 500
    bench.round(PRUNE_EVERY)
    states = [state for (state,) in bench.store.called("prune")]
    assert len(states) == 4 * PRUNE_BATCHES
    assert all(states.count(state) == PRUNE_BATCHES for state in set(states))


def test_a_stop_ends_a_long_pruning(bench):
    """A worker that is to end does not delete history first."""
    bench.store.calls.clear()

    def prune(state, age, limit=500):
        bench.store.calls.append(("prune", (state,)))
        bench.upkeep.stop()
        return 500

    bench.store.prune = prune
    bench.round(PRUNE_EVERY)
    assert len(bench.store.called("prune")) == 1


# --- when -----------------------------------------------------------------------------------


def test_each_duty_has_its_own_time():
    """Cancels and promotions twice a second, a sweep every so often, pruning once a minute."""
    bench = Bench(sweep=5.0)
    counts = {}
    for _ in range(4 * 120):
        for verb in bench.round(0.25):
            counts[verb] = counts.get(verb, 0) + 1
    assert counts["cancel_requests"] == pytest.approx(240, abs=2)
    assert counts["promote"] == pytest.approx(240, abs=2)
    assert counts["leases"] == pytest.approx(24, abs=2)
    assert counts["prune_workers"] == pytest.approx(2, abs=1)
    assert "depths" not in counts, "only a draining worker asks whether the queue is empty"


@pytest.mark.parametrize("verb", ["cancel_requests", "promote", "leases", "orphans", "suspects", "prune"])
def test_a_duty_that_fails_is_due_again(bench, verb):
    """It is not put off by a whole period because the database was away."""
    bench.clock.advance(PRUNE_EVERY)
    bench.store.plan(verb, away())
    with pytest.raises(DatabaseError):
        bench.upkeep.round()
    bench.store.calls.clear()
    bench.upkeep.round()
    assert bench.store.called(verb)


# --- draining -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "queues", "empty"),
    [
        (None, (), True),
        ({"ready": 1}, (), False),
        ({"running": 1}, (), False),
        ({"suspects": 1}, (), False),
        ({"scheduled": 1}, (), True),
        ({"ready": 1, "queue": "other"}, ("mail",), True),
        ({"ready": 1, "queue": "mail"}, ("mail",), False),
        ({"ready": 1, "executor": Kind.ASYNCIO}, (), True),
        ({"running": 1, "executor": Kind.ASYNCIO}, (), False),
    ],
)
def test_an_empty_queue_is_one_without_due_work_of_ours(depth, queues, empty):
    """--drain ends when nothing of its queues and executors is due or runs; what is due tomorrow does not count."""
    bench = Bench(drain=True, queues=queues, threads=2)
    values = {"queue": "mail", "executor": Kind.THREAD, "ready": 0, "scheduled": 0, "running": 0, "suspects": 0}
    bench.store.plan("depths", [] if depth is None else [Depth(**(values | depth))])
    assert not bench.upkeep.queue_is_empty
    bench.round()
    assert bench.upkeep.queue_is_empty == empty


# --- the thread -----------------------------------------------------------------------------


def test_the_thread_survives_an_outage_and_settles_at_once(caplog):
    """Errors of the database are said once, and never end it; a poke is enough to make it look."""
    caplog.set_level("DEBUG", logger="django_meanwhile")
    bench = Bench(clock=real_clock())
    bench.store.plan("bury", away(), InterfaceError("closed"), DatabaseError("strange"))
    bench.upkeep.settle(estate())
    bench.upkeep.start()
    try:
        bench.store.wait_called("unregister")
        bench.store.wait_for(lambda: bench.upkeep.unsettled == 0 or True)
        assert bench.upkeep.is_alive
    finally:
        bench.upkeep.stop()
        assert bench.upkeep.join(WITHIN)
    assert bench.upkeep.unsettled == 0
    assert [record.levelname for record in caplog.records if "upkeep" in record.message] == [
        "WARNING",
        "DEBUG",
        "DEBUG",
    ]


def test_many_threads_hand_over_estates():
    """Every estate that is handed over is settled, once."""
    bench = Bench(clock=real_clock())
    estates = [[estate() for _ in range(20)] for _ in range(8)]
    bench.upkeep.start()
    try:
        threads = [
            threading.Thread(target=lambda mine=mine: [bench.upkeep.settle(it) for it in mine]) for mine in estates
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bench.store.wait_called("unregister", 160)
    finally:
        bench.upkeep.stop()
        assert bench.upkeep.join(WITHIN)
    buried = [worker_ids[0] for (worker_ids,) in bench.store.called("bury")]
    assert sorted(buried) == sorted(it.worker_id for mine in estates for it in mine)
    assert bench.upkeep.unsettled == 0
