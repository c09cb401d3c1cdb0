"""The child's watch: pulse, orders, deadlines, fence. Driven by a clock that the test moves."""

import math
import os
import threading
from types import SimpleNamespace

import pytest

from django_meanwhile.core.errors import Cancelled, Interrupted, LeaseLost, TaskTimeout
from django_meanwhile.core.states import Executor as Kind
from django_meanwhile.worker import sentinel as module
from django_meanwhile.worker.channel import Receiver, Sender
from django_meanwhile.worker.sentinel import EXIT_FENCED, EXIT_ORPHANED, PULSE, Sentinel
from django_meanwhile.worker.slots import Flag, SlotTable
from tests.run import sample
from tests.run.jobs import ManualClock
from tests.worker.fakes import WITHIN, FakeExecutor, handle

# Where the process would end, only the thread does, by SystemExit.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

MARGIN, STOP_GRACE, GRACE = 6.0, 1.0, 25.0


class Courier:
    """Counts what it is told."""

    def __init__(self):
        self.pokes = threading.Semaphore(0)
        self.stops = 0

    def poke(self):
        self.pokes.release()

    def stop_claiming(self):
        self.stops += 1


class Watch:
    """A sentinel whose process does not end when it says so, but its thread does."""

    def __init__(self, monkeypatch, *executors):
        self.clock = ManualClock()
        self.executors = executors
        self.table = SlotTable.create(8)
        reader, writer = os.pipe()
        self.reader = reader
        self.sender = Sender(writer)
        self.courier = Courier()
        self.wakes = threading.Semaphore(0)
        self.claimer = SimpleNamespace(is_spent=False, wake=self.wakes.release)
        self.exits = []
        self.exited = threading.Event()
        monkeypatch.setattr(module, "os", SimpleNamespace(_exit=self._exit))
        self.part = Sentinel(
            receiver=Receiver(reader),
            table=self.table,
            clock=self.clock,
            executors=executors,
            courier=self.courier,
            claimer=self.claimer,
            margin=MARGIN,
            stop_grace=STOP_GRACE,
            grace=GRACE,
        )

    def _exit(self, status):
        self.exits.append(status)
        self.exited.set()
        raise SystemExit(status)

    def look(self, seconds=0.0):
        """Move the clock and wait until the sentinel has looked around at that time."""
        self.clock.advance(seconds)
        for _ in range(2):  # the first answer may come from a round that had begun before
            assert self.sender.send({"op": "wake"})
            while not self.wakes.acquire(timeout=0.01):
                assert self.part.is_alive, f"it ended: {self.exits}"

    def close(self):
        self.part.stop()
        assert self.part.join(WITHIN)
        self.sender.close()
        os.close(self.reader)
        self.table.close()


@pytest.fixture
def watch(monkeypatch):
    """Make watches over fake executors; they are started."""
    made = []

    def make(*executors):
        watch = Watch(monkeypatch, *executors)
        made.append(watch)
        watch.part.start()
        return watch

    yield make
    for each in made:
        each.close()


# --- pulse and orders -----------------------------------------------------------------------


def test_the_pulse_follows_the_clock(watch):
    """Each look around is a sign of life in the table, at the time of the look."""
    it = watch()
    for seconds in (0, 0.2, 5, 1000):
        it.look(seconds)
        assert it.table.pulse == it.clock.now


def test_a_wake_up_reaches_claimer_and_courier(watch):
    """The claimer is told first, so that the courier it wakes knows why."""
    it = watch()
    told = []
    it.claimer.wake = lambda: told.append("claimer")
    poke = it.courier.poke
    it.courier.poke = lambda: (told.append("courier"), poke())
    it.sender.send({"op": "wake"})
    assert it.courier.pokes.acquire(timeout=WITHIN)
    assert told == ["claimer", "courier"]


def test_a_stop_reaches_the_run_it_names_and_no_other(watch):
    """By job *and* epoch: an older run of the same job, stuck in a written-off slot, is left alone."""
    wanted, other, older = handle(), handle(), None
    older = handle(id=wanted.job.id, epoch=7)
    it = watch(FakeExecutor(going_on=[other, wanted], given_up=[older]))
    it.sender.send({"op": "stop", "job": str(wanted.job.id), "epoch": wanted.job.epoch, "reason": "Cancelled"})
    it.look()
    assert (wanted.stop_reason, other.stop_reason, older.stop_reason) == (Cancelled, None, None)


@pytest.mark.parametrize("reason", [Cancelled, Interrupted, LeaseLost, TaskTimeout])
def test_a_stop_carries_its_reason(watch, reason):
    """All four reasons pass through the pipe by name."""
    one = handle()
    it = watch(FakeExecutor(going_on=[one]))
    it.sender.send({"op": "stop", "job": str(one.job.id), "epoch": 1, "reason": reason.__name__})
    it.look()
    assert one.stop_reason is reason


def test_a_stop_for_a_run_that_is_gone_is_ignored(watch):
    """It ended while the order was on its way."""
    it = watch(FakeExecutor(going_on=[handle()]))
    it.sender.send({"op": "stop", "job": "018f0000-0000-7000-8000-000000000000", "epoch": 1, "reason": "Cancelled"})
    it.look()
    assert it.executors[0].going_on[0].stop_reason is None


def test_drain_stops_the_claiming_and_no_body(watch):
    """Nothing new is taken; what runs goes on."""
    one = handle()
    it = watch(FakeExecutor(going_on=[one]))
    it.sender.send({"op": "drain"})
    it.look()
    assert it.courier.stops == 1
    assert one.stop_reason is None


def test_interrupt_stops_the_claiming_and_every_body(watch):
    """Everything is given back now, written-off bodies included."""
    one, two = handle(), handle()
    it = watch(FakeExecutor(going_on=[one], given_up=[two]))
    it.sender.send({"op": "interrupt"})
    it.look()
    assert it.courier.stops == 1
    assert (one.stop_reason, two.stop_reason) == (Interrupted, Interrupted)


def test_the_end_of_the_supervisor_is_the_end_of_the_child(watch):
    """The pipe closes: at once, and with a status of its own, the process ends."""
    it = watch()
    it.look()
    it.sender.close()
    assert it.exited.wait(WITHIN)
    assert it.exits == [EXIT_ORPHANED]


def test_a_child_that_nobody_watches_ends(watch, caplog):
    """An error in the watch itself ends the process: bodies without deadlines, fence and pulse are worse."""

    class Broken(FakeExecutor):
        def handles(self):
            raise RuntimeError("a bug")

    it = watch(Broken())
    assert it.exited.wait(WITHIN)
    assert it.exits == [1]
    assert "a bug" in caplog.text


# --- the fence ------------------------------------------------------------------------------


def test_before_the_fence_nothing_happens(watch):
    """An armed fence that is moved in time stops nobody."""
    one = handle()
    it = watch(FakeExecutor(going_on=[one]))
    for _ in range(5):
        it.table.fence = it.clock.now + 24
        it.look(23.9)
    assert one.stop_reason is None
    assert it.courier.stops == 0


def test_an_unarmed_fence_never_passes(watch):
    """Before the child has registered there is no lease to lose."""
    it = watch(FakeExecutor(going_on=[handle()]))
    it.look(1e9)
    assert it.courier.stops == 0
    assert it.table.fence == math.inf


def test_at_the_fence_every_body_is_told_and_then_the_process_ends(watch):
    """First claim no more and LeaseLost to all; half a margin later, before the lease is over, the process is gone."""
    one, two = handle(), handle()
    it = watch(FakeExecutor(going_on=[one], given_up=[two]))
    it.look()
    it.table.fence = it.clock.now + 1
    it.look(1)
    assert (one.stop_reason, two.stop_reason) == (LeaseLost, LeaseLost)
    assert it.courier.stops == 1
    assert not it.exits
    it.look(MARGIN / 2 - 0.1)
    assert it.courier.stops == 1, "told once"
    assert not it.exits
    it.clock.advance(0.1)
    assert it.exited.wait(WITHIN)
    assert it.exits == [EXIT_FENCED]


def test_a_long_pause_of_the_whole_child_ends_it_at_once(watch):
    """Stopped by SIGSTOP past its lease, its first look ends it: nothing is claimed, nothing goes on."""
    it = watch(FakeExecutor(going_on=[handle()]))
    it.look()
    it.table.fence = it.clock.now + 24
    it.clock.advance(3600)
    assert it.exited.wait(WITHIN)
    assert it.exits == [EXIT_FENCED]


# --- deadlines ------------------------------------------------------------------------------


def test_a_deadline_stops_its_run_when_it_has_come(watch):
    """Not a moment before, and nobody else."""
    it = watch(FakeExecutor())
    it.look()
    one, two, free = handle(deadline=it.clock.now + 5), handle(deadline=it.clock.now + 50), handle()
    it.executors[0].going_on = [one, two, free]
    it.look(4.9)
    assert one.stop_reason is None
    it.look(0.1)
    assert (one.stop_reason, two.stop_reason, free.stop_reason) == (TaskTimeout, None, None)


def test_it_wakes_up_for_the_next_deadline(watch):
    """The pause is a pulse, a quarter of the margin, or the time to the next deadline: whichever is shortest."""
    it = watch(FakeExecutor())
    now = it.clock.now
    assert it.part._pause(now) == min(PULSE, MARGIN / 4)
    it.executors[0].going_on = [handle(deadline=now + 0.05), handle(deadline=now + 9), handle(deadline=now - 1)]
    assert it.part._pause(now) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("kind", "reason"), [(Kind.THREAD, TaskTimeout), (Kind.ASYNCIO, TaskTimeout), (Kind.ASYNCIO, Cancelled)]
)
def test_a_deaf_body_is_written_off(watch, kind, reason):
    """Told to stop and not stopping for the whole grace, its slot is replaced, once, and the claimer told of it."""
    one, other = handle(deadline=10**9), handle()
    it = watch(FakeExecutor(kind, slots=2, going_on=[one, other]))
    it.look()
    one.stop(reason)
    it.look()
    it.look(STOP_GRACE - 0.01)
    assert it.executors[0].given_up == []
    it.look(0.02)
    assert it.executors[0].given_up == [one]
    assert it.executors[0].going_on == [other]
    it.look(1)
    assert it.executors[0].given_up == [one]
    assert Flag.RECYCLING not in it.table.flags


@pytest.mark.parametrize("reason", [Interrupted, LeaseLost])
@pytest.mark.parametrize("kind", [Kind.THREAD, Kind.ASYNCIO])
def test_who_must_go_anyway_is_not_written_off(watch, kind, reason):
    """A child that gives everything back, or has lost its lease, needs no new slots."""
    one = handle()
    it = watch(FakeExecutor(kind, going_on=[one]))
    one.stop(reason)
    it.look()
    it.look(10 * STOP_GRACE)
    assert it.executors[0].going_on == [one]


def test_a_thread_is_not_written_off_for_a_cancel_but_for_its_timeout(watch):
    """A ``def`` need not heed a cancel; but one that also overruns its timeout holds its slot no longer."""
    it = watch(FakeExecutor(slots=2))
    it.look()
    one, endless = handle(deadline=it.clock.now + 60), handle()
    it.executors[0].going_on = [one, endless]
    one.stop(Cancelled)
    endless.stop(Cancelled)
    it.look(59)
    assert it.executors[0].given_up == []
    it.look(1)
    assert it.executors[0].given_up == [], "it gets the grace of a timeout"
    it.look(STOP_GRACE)
    assert it.executors[0].given_up == [one]


def test_a_process_is_not_written_off(watch):
    """A main thread cannot be replaced: the supervisor kills it."""
    one = handle(task=sample.do_in_process)
    it = watch(FakeExecutor(Kind.PROCESS, slots=1, going_on=[one]))
    one.stop(TaskTimeout)
    it.look()
    it.look(2 * GRACE)
    assert it.executors[0].going_on == [one]
    assert Flag.RECYCLING not in it.table.flags


def test_a_body_that_may_have_missed_its_stop_is_told_again(watch):
    """A signal can be lost in the moment in which a blocking call begins: the sentinel insists as long as it runs."""
    told, free = handle(task=sample.do_in_process), handle(task=sample.do_in_process)
    it = watch(FakeExecutor(Kind.PROCESS, slots=1, going_on=[told, free]))
    told.stop(Cancelled)
    it.look()
    it.look()
    assert len(it.executors[0].insisted) >= 2
    assert set(map(id, it.executors[0].insisted)) == {id(told)}


def test_too_many_stuck_slots_recycle_the_child(watch):
    """As many again as it has slots are replaced; one more, and the child makes way for a new one. Once."""
    it = watch(FakeExecutor(slots=1, going_on=[handle(), handle()]))
    first, second = it.executors[0].going_on
    first.stop(TaskTimeout)
    it.look()
    it.look(STOP_GRACE)
    assert Flag.RECYCLING not in it.table.flags
    second.stop(TaskTimeout)
    it.look()
    it.look(STOP_GRACE)
    assert Flag.RECYCLING in it.table.flags
    it.look(1)
    assert it.courier.stops == 1


def test_a_body_that_is_stuck_for_long_recycles_the_child(watch):
    """After the grace period of a drain nothing speaks for waiting on."""
    it = watch(FakeExecutor(slots=4, going_on=[handle()]))
    it.executors[0].going_on[0].stop(TaskTimeout)
    it.look()
    it.look(GRACE - 0.1)
    assert Flag.RECYCLING not in it.table.flags
    it.look(0.1)
    assert Flag.RECYCLING in it.table.flags
    assert it.courier.stops == 1


def test_a_body_that_ends_in_time_is_forgotten(watch):
    """The same job, told again in a later run, gets its whole grace again."""
    one = handle()
    it = watch(FakeExecutor(Kind.ASYNCIO, going_on=[one]))
    one.stop(Cancelled)
    it.look()
    it.executors[0].going_on = []
    it.look(STOP_GRACE / 2)
    again = handle(id=one.job.id)
    again.stop(Cancelled)
    it.executors[0].going_on = [again]
    it.look(STOP_GRACE / 2)
    it.look(STOP_GRACE / 2)
    assert it.executors[0].given_up == []
    it.look(STOP_GRACE / 2)
    assert it.executors[0].given_up == [again]


def test_a_spent_budget_recycles_the_child(watch):
    """max_tasks is used up: claim no more, and let a new child come; but not before the last claimed job has begun."""
    it = watch(FakeExecutor(waiting=1))
    it.look()
    it.claimer.is_spent = True
    it.look()
    assert Flag.RECYCLING not in it.table.flags, "the job that waits would be given back"
    it.executors[0].waiting = 0
    it.look()
    assert Flag.RECYCLING in it.table.flags
    assert it.courier.stops == 1
