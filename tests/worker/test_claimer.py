"""When a child asks for work, for whom, and for how much."""

from uuid import uuid4

import pytest
from django.db import OperationalError

from django_meanwhile.core.states import Executor as Kind
from django_meanwhile.worker.claimer import (
    AHEAD_SECONDS,
    LOOKS_AFTER_WAKE,
    MAX_AHEAD,
    SHORT_RUN,
    WAKE_WINDOW,
    Claimer,
)
from tests.run.jobs import ManualClock, claimed
from tests.worker.fakes import FakeExecutor, FakeStore, away

ROOM = 1000
POLL = 1.0


class Bench:
    """A claimer with a fake store, clock and executors, and a queue of jobs to claim."""

    def __init__(self, *executors, suspects=False, queues=()):
        self.store = FakeStore()
        self.clock = ManualClock()
        self.executors = executors or (FakeExecutor(slots=4),)
        self.worker_id = uuid4()
        self.claimer = Claimer(
            self.store, self.worker_id, self.executors, queues, poll=POLL, clock=self.clock, suspects=suspects
        )
        self.ready = dict.fromkeys(Kind, 0)
        self.store.claim = self._claim
        self.asked = []

    def _claim(self, worker_id, executor, queues, limit, *, suspects=False):
        assert worker_id == self.worker_id
        self.asked.append((executor, limit))
        number = min(limit, self.ready[executor])
        self.ready[executor] -= number
        return [claimed(executor=executor) for _ in range(number)]

    def claim(self, room=ROOM):
        """Claim once; return what was asked for."""
        before = len(self.asked)
        self.claimer.claim(room)
        return self.asked[before:]

    def settle(self):
        """Let the looks after a wake-up pass, so that only the poll is left."""
        for _ in range(LOOKS_AFTER_WAKE + 1):
            self.claim()
            self.clock.advance(WAKE_WINDOW)
        self.claim()
        return self


def test_it_asks_for_the_free_slots_and_no_more():
    """Two of four slots are taken: two jobs are asked for, of that kind."""
    bench = Bench(FakeExecutor(slots=4, load=2))
    bench.ready[Kind.THREAD] = 9
    assert bench.claim() == [(Kind.THREAD, 2)]
    assert len(bench.executors[0].submitted) == 2


def test_a_backend_of_another_name_is_the_workers_own():
    """A job of a backend that TASKS does not name any more gets the worker's; one that it does name keeps its own."""
    bench = Bench(FakeExecutor(slots=4))
    bench.store.claim = lambda *_, **__: [claimed(backend="renamed"), claimed(backend="other")]
    bench.claim()
    assert [job.backend for job in bench.executors[0].submitted] == ["default", "other"]


def test_each_executor_gets_its_own():
    """Threads and coroutines are claimed for separately, and get what was claimed for them."""
    threads, loop = FakeExecutor(slots=2), FakeExecutor(Kind.ASYNCIO, slots=5)
    bench = Bench(threads, loop)
    bench.ready |= {Kind.THREAD: 9, Kind.ASYNCIO: 9}
    assert bench.claim() == [(Kind.THREAD, 2), (Kind.ASYNCIO, 5)]
    assert {job.executor for job in threads.submitted} == {Kind.THREAD}
    assert {job.executor for job in loop.submitted} == {Kind.ASYNCIO}


def test_busy_slots_are_not_asked_for():
    """With every slot taken no statement is sent, and written-off bodies, which are not in the load, do not count."""
    bench = Bench(FakeExecutor(slots=2, load=2))
    assert bench.claim() == []
    assert bench.claimer.due_in(ROOM) > 0, "and nobody spins"


def test_the_room_for_unwritten_outcomes_is_a_limit():
    """What has no place in the slot table is not claimed, over all executors together."""
    bench = Bench(FakeExecutor(slots=4), FakeExecutor(Kind.ASYNCIO, slots=4))
    bench.ready |= {Kind.THREAD: 9, Kind.ASYNCIO: 9}
    assert bench.claim(room=6) == [(Kind.THREAD, 4), (Kind.ASYNCIO, 2)]
    assert bench.claim(room=0) == []
    assert bench.claimer.due_in(0) == POLL


# --- when -----------------------------------------------------------------------------------


def test_a_new_claimer_looks_at_once():
    """A child that has just started does not wait for its first poll."""
    assert Bench().claimer.due_in(ROOM) == 0


def test_an_idle_child_asks_once_a_poll():
    """Nothing to do: one statement a second, spread a little, and never more often."""
    bench = Bench().settle()
    asked = 0
    for _ in range(1000):
        due = bench.claimer.due_in(ROOM)
        assert 0 < due <= POLL
        bench.clock.advance(due)
        asked += len(bench.claim())
    assert asked >= 1000
    assert bench.clock.now - 1000 >= 1000 * POLL * 0.9 - 1


def test_before_its_time_nothing_is_asked():
    """Called early, because an outcome was written, an idle claimer asks nothing."""
    bench = Bench().settle()
    bench.clock.advance(POLL / 2)
    assert bench.claim() == []


def test_a_wake_up_makes_it_look_at_once_and_again_after_the_window():
    """One announcement stands for all enqueues of a window: looks follow it, then only the poll is left."""
    bench = Bench().settle()
    bench.claimer.wake()
    looks = []
    for _ in range(LOOKS_AFTER_WAKE + 1):
        looks.append(bench.claimer.due_in(ROOM))
        bench.clock.advance(looks[-1])
        assert bench.claim() == [(Kind.THREAD, 4)]
    assert looks == pytest.approx([0] + [WAKE_WINDOW] * LOOKS_AFTER_WAKE)
    assert bench.claimer.due_in(ROOM) > WAKE_WINDOW


def test_a_wake_up_reaches_every_executor():
    """It does not say for whom the work is: all are asked for."""
    bench = Bench(FakeExecutor(slots=1), FakeExecutor(Kind.ASYNCIO, slots=1)).settle()
    bench.claimer.wake()
    assert [kind for kind, _ in bench.claim()] == [Kind.THREAD, Kind.ASYNCIO]


# --- hunger ---------------------------------------------------------------------------------


def test_a_full_answer_means_that_more_is_waiting():
    """It got all it asked for, so it asks again as soon as a slot is free, without waiting for the poll."""
    bench = Bench(FakeExecutor(slots=4)).settle()
    (executor,) = bench.executors
    bench.ready[Kind.THREAD] = 6
    bench.claimer.wake()
    assert bench.claim() == [(Kind.THREAD, 4)]
    for _ in range(LOOKS_AFTER_WAKE + 1):  # busy all the time
        bench.clock.advance(WAKE_WINDOW)
        assert bench.claim() == []
    executor.load = 3
    assert bench.claimer.due_in(ROOM) == 0
    assert bench.claim() == [(Kind.THREAD, 1)]
    executor.load = 0
    assert bench.claim() == [(Kind.THREAD, 4)]
    executor.load = 0
    assert bench.claimer.due_in(ROOM) > 0, "the last answer was not full: nothing is waiting"
    assert bench.claim() == []


def test_a_slot_that_was_busy_at_the_look_is_made_up_for():
    """The poll came while every slot was taken: the next free slot asks at once."""
    bench = Bench(FakeExecutor(slots=1)).settle()
    (executor,) = bench.executors
    executor.load = 1
    bench.clock.advance(POLL)
    assert bench.claim() == []
    executor.load = 0
    assert bench.claimer.due_in(ROOM) == 0
    assert bench.claim() == [(Kind.THREAD, 1)]


def test_hunger_of_one_is_not_hunger_of_all():
    """Between polls only the executor that has more waiting asks."""
    bench = Bench(FakeExecutor(slots=1), FakeExecutor(Kind.ASYNCIO, slots=1)).settle()
    bench.ready[Kind.ASYNCIO] = 9
    bench.clock.advance(POLL)
    bench.claim()
    for executor in bench.executors:
        executor.load = 0
    assert bench.claim() == [(Kind.ASYNCIO, 1)]


def test_a_backlog_is_worked_off_without_a_single_poll():
    """As long as answers are full, time plays no part."""
    bench = Bench(FakeExecutor(slots=3))
    bench.ready[Kind.THREAD] = 300
    begun = bench.clock.now
    while bench.ready[Kind.THREAD]:
        assert bench.claimer.due_in(ROOM) == 0
        bench.claim()
        bench.executors[0].load = 0
    assert bench.clock.now == begun


# --- claiming ahead -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "limit"), [(0.015, 4 + 16), (0.004, 4 + 60), (1e-5, 4 + MAX_AHEAD), (SHORT_RUN, 4), (60, 4)]
)
def test_only_short_jobs_are_claimed_ahead(seconds, limit):
    """A job that waits behind a long one could run elsewhere: only short ones are taken before there is a slot."""
    bench = Bench(FakeExecutor(slots=4, usual_seconds=seconds))
    assert bench.claim() == [(Kind.THREAD, limit)]


def test_what_was_claimed_ahead_counts():
    """Jobs that wait in the child are part of its load: it never hoards more than it is allowed."""
    bench = Bench(FakeExecutor(slots=4, usual_seconds=0.004))
    bench.ready[Kind.THREAD] = 1000
    for _ in range(5):
        bench.claim()
    assert len(bench.executors[0].submitted) == 4 + int(4 * AHEAD_SECONDS / 0.004)


def test_claims_ahead_are_large():
    """While half of what was claimed ahead is left nothing is asked for; below that, all that is missing at once."""
    executor = FakeExecutor(slots=4, usual_seconds=0.004)
    bench = Bench(executor)
    bench.ready[Kind.THREAD] = 1000
    bench.claim()
    executor.load = 4 + 30
    assert bench.claim() == []
    executor.load = 4 + 29
    assert bench.claim() == [(Kind.THREAD, 31)]


# --- budget and suspects --------------------------------------------------------------------


def test_a_budget_ends_the_claiming():
    """max_tasks=5: five jobs are claimed, in whatever portions, then none, and nobody spins."""
    bench = Bench(FakeExecutor(slots=2), FakeExecutor(Kind.ASYNCIO, slots=2))
    bench.claimer.limit_to(5)
    bench.ready |= {Kind.THREAD: 9, Kind.ASYNCIO: 9}
    assert bench.claim() == [(Kind.THREAD, 2), (Kind.ASYNCIO, 2)]
    assert not bench.claimer.is_spent
    for executor in bench.executors:
        executor.load = 0
    assert bench.claim() == [(Kind.THREAD, 1)]
    assert bench.claimer.is_spent
    for executor in bench.executors:
        executor.load = 0
    bench.claimer.wake()
    assert bench.claim() == []
    assert bench.claimer.due_in(ROOM) == POLL


def test_whoever_sees_a_spent_budget_sees_the_jobs_too():
    """The last job is with its executor before the budget is spent: the sentinel never lets the child go without it."""
    seen = []

    class Watching(FakeExecutor):
        def submit(self, job):
            seen.append(bench.claimer.is_spent)
            super().submit(job)

    bench = Bench(Watching(slots=2))
    bench.claimer.limit_to(2)
    bench.ready[Kind.THREAD] = 2
    bench.claim()
    assert seen == [False, False]
    assert bench.claimer.is_spent


def test_without_a_budget_it_is_never_spent():
    """No max_tasks, no end."""
    bench = Bench()
    bench.claimer.limit_to(None)
    assert not bench.claimer.is_spent


def test_what_the_budget_did_not_get_it_keeps():
    """Asking in vain costs nothing."""
    bench = Bench()
    bench.claimer.limit_to(1)
    for _ in range(10):
        bench.claim()
        bench.clock.advance(POLL)
    assert not bench.claimer.is_spent
    bench.ready[Kind.THREAD] = 3
    assert bench.claim() == [(Kind.THREAD, 1)]
    assert bench.claimer.is_spent


def test_suspects_are_asked_for():
    """A solo child says so in every claim, with the worker's queues."""
    store = FakeStore()
    worker_id = uuid4()
    executor = FakeExecutor(Kind.PROCESS, slots=1)
    for suspects in (True, False):
        claimer = Claimer(store, worker_id, [executor], ("mail",), poll=POLL, clock=ManualClock(), suspects=suspects)
        claimer.claim(ROOM)
        assert {call[0] for call in store.called("claim")} == {worker_id}
        assert {call[2] for call in store.called("claim")} == {("mail",)}
        assert {call[4] for call in store.called("claim")} == {suspects}
        store.calls.clear()


def test_a_solo_child_that_finds_no_suspect_has_nothing_to_live_for():
    """Somebody else was faster: the child that was started for the suspect ends instead of idling for ever."""
    bench = Bench(FakeExecutor(Kind.PROCESS, slots=1), suspects=True)
    bench.claim()
    assert bench.claimer.is_spent


@pytest.mark.parametrize("kind", list(Kind))
def test_a_solo_child_claims_a_suspect_of_any_kind_and_only_one(kind):
    """Its row keeps the executor that it was made for; alone, it runs in a main thread."""
    bench = Bench(FakeExecutor(Kind.PROCESS, slots=1), suspects=True)
    bench.claimer.limit_to(1)
    bench.ready[kind] = 2
    bench.claim()
    assert [job.executor for job in bench.executors[0].submitted] == [kind]
    assert bench.claimer.is_spent


# --- trouble --------------------------------------------------------------------------------


def test_an_error_is_raised_and_the_next_look_is_not_lost():
    """The database was away when it was woken: once it is back, it looks within a window, not after a whole poll."""
    bench = Bench().settle()
    claim = bench.store.claim

    def fail(*args, **kwargs):
        raise away()

    bench.claimer.wake()
    bench.store.claim = fail
    with pytest.raises(OperationalError):
        bench.claimer.claim(ROOM)
    bench.store.claim = claim
    assert bench.claimer.due_in(ROOM) <= WAKE_WINDOW
    bench.clock.advance(WAKE_WINDOW)
    assert bench.claim() == [(Kind.THREAD, 4)]


def test_an_error_costs_no_budget():
    """Only jobs that were claimed count."""
    bench = Bench()
    bench.claimer.limit_to(1)

    def fail(*args, **kwargs):
        raise away()

    bench.store.claim = fail
    with pytest.raises(OperationalError):
        bench.claimer.claim(ROOM)
    assert not bench.claimer.is_spent
