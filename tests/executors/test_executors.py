"""What every executor promises: each job ends once, in a slot, and leaves nothing behind."""

import asyncio
import threading
from collections import Counter

import pytest

from django_meanwhile.core.errors import Cancelled
from django_meanwhile.core.outcome import End
from django_meanwhile.core.states import Executor as Kind
from django_meanwhile.executors import base
from tests.executors.conftest import WITHIN, slot_threads
from tests.run import sample
from tests.run.jobs import ManualClock, claimed


class Blockade:
    """Bodies that wait until they are let go; the loop is not blocked by them."""

    def __init__(self, kind):
        self.kind = kind
        self.entered = threading.Semaphore(0)
        self.released = threading.Event()
        self._lock = threading.Lock()
        self.inside = self.most = 0

    def __call__(self):
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.entered.release()
        return self._wait_on_loop() if self.kind is Kind.ASYNCIO else self._wait()

    def _wait(self):
        assert self.released.wait(WITHIN)
        self._leave()

    async def _wait_on_loop(self):
        while not self.released.is_set():  # noqa: ASYNC110 - it is set by another thread
            await asyncio.sleep(0.001)
        self._leave()

    def _leave(self):
        with self._lock:
            self.inside -= 1

    def wait_entered(self, number):
        for _ in range(number):
            assert self.entered.acquire(timeout=WITHIN)


def raise_error(error):
    """A body that raises."""
    raise error


# --- each job ends, once --------------------------------------------------------------------


def test_every_job_ends_exactly_once(make, kind):
    """Success, error, exit, an unknown task, damaged arguments: each submitted job gets one outcome, none gets two."""
    served = make(kind, 1 if kind is Kind.PROCESS else 4)
    jobs = []
    for n in range(40):
        jobs += [
            served.submit(lambda n=n: n),
            served.submit(raise_error, ValueError),
            served.submit(raise_error, SystemExit),
            served.job(lambda: None, task="gone.tasks.vanished"),
            served.job(lambda: None, arguments="{"),
        ]
        for job in jobs[-2:]:
            served.executor.submit(job)
    served.ledger.wait_ended(len(jobs))
    ends = Counter(outcome.end for outcome in served.ledger.outcomes.values())
    assert ends == {End.SUCCEEDED: 40, End.FAILED: 120, End.NOT_BEGUN: 40}
    assert served.ledger.count("ended") == Counter({job.run: 1 for job in jobs})


def test_begun_comes_before_the_body_and_ended_after_it(make, kind):
    """The slot table knows of a body before it is called; the outcome comes after it has returned."""
    served = make(kind)
    seen = []

    def body():
        seen.append(list(served.ledger.steps))

    job = served.submit(body)
    assert served.ledger.outcome_of(job).end is End.SUCCEEDED
    assert seen == [[("begun", job.run)]]
    assert served.ledger.steps == [("begun", job.run), ("ended", job.run)]


def test_what_is_never_called_is_never_begun(make, kind):
    """An unknown task and arguments that cannot be read end without having begun."""
    served = make(kind)
    for job in (served.job(lambda: None, task="gone.tasks.vanished"), served.job(lambda: None, arguments="{")):
        served.executor.submit(job)
        assert not served.ledger.outcome_of(job).begun
    assert not served.ledger.count("begun")


def test_jobs_that_came_before_the_start_are_run_after_it(make, kind):
    """Nothing that was submitted waits for the next submission."""
    served = make(kind, started=False)
    job = served.submit(lambda: 1)
    assert served.executor.waiting == 1
    served.start()
    assert served.ledger.outcome_of(job).end is End.SUCCEEDED


def test_jobs_are_begun_in_the_order_of_their_arrival(make, kind):
    """One slot: first in, first out."""
    served = make(kind, started=False)
    jobs = [served.submit(lambda: 1) for _ in range(50)]
    served.start()
    served.ledger.wait_ended(50)
    assert [run for step, run in served.ledger.steps if step == "begun"] == [job.run for job in jobs]


@pytest.mark.parametrize("error", [SystemExit(1), MemoryError(), ValueError("no")])
@pytest.mark.parametrize("where", ["prepare", "begun"])
def test_a_job_that_cannot_be_begun_ends_and_its_slot_lives_on(make, kind, monkeypatch, where, error):
    """Whatever goes wrong between claim and body, the job gets an outcome and the next one a slot."""
    served = make(kind)
    job = served.job(lambda: pytest.fail("the body was called"))
    with monkeypatch.context() as patched:
        if where == "prepare":
            patched.setattr(base, "prepare", lambda job, clock: raise_error(error))
        else:
            patched.setattr(served.ledger, "begun", lambda handle: raise_error(error))
        served.executor.submit(job)
        outcome = served.ledger.outcome_of(job)
    assert (outcome.end, outcome.begun, outcome.exception) == (End.FAILED, False, f"builtins.{type(error).__name__}")
    assert served.run(lambda: 1).end is End.SUCCEEDED
    assert served.executor.is_idle


def test_a_connection_that_cannot_be_tidied_costs_no_slot(make, kind, monkeypatch):
    """If tidying fails, the outcome of the body counts all the same, and the next job finds a slot."""
    served = make(kind)
    with monkeypatch.context() as patched:
        patched.setattr(base, "tidy_thread_connections", lambda: raise_error(RuntimeError("the driver's bug")))
        assert served.run(lambda: 1).end is End.SUCCEEDED
    assert served.run(lambda: 1).end is End.SUCCEEDED


# --- slots ----------------------------------------------------------------------------------


def test_as_many_bodies_at_once_as_slots_and_never_more(make, pool):
    """Three slots run three bodies at a time, of thirty; all thirty end."""
    served = make(pool, 3)
    blockade = Blockade(pool)
    for _ in range(30):
        served.submit(blockade)
    blockade.wait_entered(3)
    assert (served.executor.load, served.executor.waiting) == (30, 27)
    assert not blockade.entered.acquire(timeout=0.05)
    blockade.released.set()
    served.ledger.wait_ended(30)
    assert blockade.most == 3


def test_load_and_idleness_say_what_there_is(make, kind):
    """Idle before, busy with one that runs and one that waits, and idle once the ledger has taken note, not before."""
    served = make(kind)
    blockade = Blockade(kind)
    executor = served.executor
    assert (executor.load, executor.waiting, executor.is_idle) == (0, 0, True)
    served.submit(blockade)
    blockade.wait_entered(1)
    served.submit(blockade)
    assert (executor.load, executor.waiting, executor.is_idle) == (2, 1, False)
    assert len(executor.handles()) == 1
    blockade.released.set()
    served.ledger.wait_ended(2)
    served.end()
    assert (executor.load, executor.waiting, executor.is_idle) == (0, 0, True)
    assert served.ledger.idle_while_ending == [False, False]


def test_only_what_was_not_begun_can_be_withdrawn(make, kind):
    """A withdrawn job never runs here; a begun one goes on and ends."""
    served = make(kind)
    blockade = Blockade(kind)
    running = served.submit(blockade)
    blockade.wait_entered(1)
    waiting = [served.submit(lambda: pytest.fail("a withdrawn job was run")) for _ in range(5)]
    assert served.executor.withdraw() == waiting
    assert served.executor.withdraw() == []
    assert (served.executor.load, served.executor.waiting) == (1, 0)
    blockade.released.set()
    served.ledger.wait_ended(1)
    assert list(served.ledger.outcomes) == [running.run]


def test_what_has_waited_long_enough_is_withdrawn_first(make, kind):
    """``waited`` takes those that came that long ago, the oldest first, and leaves the others their place."""
    clock = ManualClock()
    served = make(kind, started=False, clock=clock)
    jobs = []
    for _ in range(3):
        jobs.append(served.submit(lambda: 1))
        clock.advance(1)
    assert served.executor.withdraw(2.0) == jobs[:2]
    assert served.executor.withdraw(2.0) == []
    assert served.executor.waiting == 1


def test_a_job_is_either_begun_or_withdrawn(make, kind):
    """While slots take jobs and the courier takes them back, none is lost and none gets both."""
    served = make(kind, 1 if kind is Kind.PROCESS else 4)
    jobs = [served.job(lambda: 1) for _ in range(300)]
    withdrawn = []
    for n, job in enumerate(jobs):
        served.executor.submit(job)
        if n % 3 == 0:
            withdrawn += served.executor.withdraw()
    served.ledger.wait_ended(len(jobs) - len(withdrawn))
    served.end()
    begun = served.ledger.count("begun")
    assert begun + Counter(job.run for job in withdrawn) == Counter({job.run: 1 for job in jobs})
    assert served.ledger.count("ended") == begun


def test_two_thousand_jobs_leave_nothing_behind(make, kind):
    """After 2,000 jobs there are as many threads as before, and no run, handle or job is remembered."""
    served = make(kind, 1 if kind is Kind.PROCESS else 8)
    for _ in range(20):
        served.run(lambda: 1)
    before = set(threading.enumerate())
    key = served.job(lambda: 1).arguments
    for _ in range(2000):
        served.executor.submit(claimed(served.task, arguments=key))
    served.ledger.wait_ended(2020)
    assert not set(threading.enumerate()) - before
    served.end()
    assert not served.executor.handles()
    assert served.executor.load == 0
    assert not getattr(served.executor, "_tasks", None)


def test_short_runs_are_known_as_short(make, kind):
    """``usual_seconds`` follows what runs really take: long at first, and down with every short one."""
    clock = ManualClock()
    served = make(kind, clock=clock)
    assert served.executor.usual_seconds == 1.0
    for _ in range(50):
        served.run(clock.advance, 0.01)
    assert served.executor.usual_seconds == pytest.approx(0.01, rel=0.01)


# --- writing off ----------------------------------------------------------------------------


def test_a_written_off_slot_is_replaced_and_its_body_still_reports(make, pool):
    """A stuck body costs no slot: the next job runs beside it. When it ends after all, its outcome is handed over."""
    served = make(pool)
    blockade = Blockade(pool)
    stuck = served.submit(blockade)
    blockade.wait_entered(1)
    (handle,) = served.executor.handles()
    assert served.executor.write_off(handle)
    assert not served.executor.write_off(handle), "once is enough"
    assert served.executor.load == 0
    assert served.executor.handles() == served.executor.written_off() == [handle]
    assert served.run(lambda: 1).end is End.SUCCEEDED
    assert not served.executor.is_idle, "the job is RUNNING as long as its body runs"
    blockade.released.set()
    assert served.ledger.outcome_of(stuck).end is End.SUCCEEDED
    assert served.ledger.count("ended")[stuck.run] == 1
    served.end()
    assert served.executor.is_idle
    assert not served.executor.written_off()


def test_a_slot_that_comes_back_does_not_make_one_more(make, pool):
    """After five bodies were written off and have ended, there are as many slots as in the beginning."""
    served = make(pool, 2)
    for _ in range(5):
        blockade = Blockade(pool)
        job = served.submit(blockade)
        blockade.wait_entered(1)
        assert served.executor.write_off(served.executor.handles()[0])
        blockade.released.set()
        served.ledger.outcome_of(job)
    blockade = Blockade(pool)
    for _ in range(6):
        served.submit(blockade)
    blockade.wait_entered(2)
    assert not blockade.entered.acquire(timeout=0.05)
    blockade.released.set()
    served.ledger.wait_ended(11)
    assert blockade.most == 2
    assert len(slot_threads()) == (2 if pool is Kind.THREAD else 1)


def test_a_run_that_has_ended_cannot_be_written_off(make, kind):
    """The watcher was late: nothing changes."""
    served = make(kind)
    handles = []
    served.ledger.begun = handles.append
    served.run(lambda: 1)
    assert not served.executor.write_off(handles[0])
    assert not served.executor.written_off()


# --- life -----------------------------------------------------------------------------------


def test_stop_before_start_is_fine(make, kind):
    """And so is stop after stop."""
    served = make(kind, started=False)
    served.executor.stop()
    served.executor.stop()
    served.start()
    assert served.run(lambda: 1).end is End.SUCCEEDED


def test_a_stopped_executor_has_no_thread_and_can_be_started_again(make, kind):
    """Stop ends every idle slot; start makes them again, as many as before; ten times over."""
    served = make(kind, 1 if kind is Kind.PROCESS else 3)
    expected = len(slot_threads())
    for _ in range(10):
        assert served.run(lambda: 1).end is End.SUCCEEDED
        served.end()
        served.start()
        assert len(slot_threads()) == expected


def test_a_busy_slot_ends_after_its_body_and_after_what_waits(make, kind):
    """Stop takes nothing away: what was submitted and not withdrawn still runs, and then the slots end."""
    served = make(kind)
    blockade = Blockade(kind)
    jobs = [served.submit(blockade), served.submit(lambda: 1), served.submit(lambda: 2)]
    blockade.wait_entered(1)
    served.executor.stop()
    blockade.released.set()
    served.end()
    assert list(served.ledger.outcomes) == [job.run for job in jobs]


def test_start_again_while_bodies_run_makes_no_more_slots(make, pool):
    """Stopped and started at once, idle or busy, the executor has the slots it was made with."""
    served = make(pool, 2)
    blockade = Blockade(pool)
    served.submit(blockade)
    blockade.wait_entered(1)
    for _ in range(5):
        served.executor.stop()
        served.executor.start()
    served.executor.start()
    for _ in range(6):
        served.submit(blockade)
    blockade.wait_entered(1)
    assert not blockade.entered.acquire(timeout=0.05)
    blockade.released.set()
    served.ledger.wait_ended(7)
    assert blockade.most == 2


def test_start_and_stop_from_many_threads(make, pool):
    """Eight threads start, stop and submit at random; in the end every job has ended once and the slots are right."""
    served = make(pool, 2)
    jobs = [[served.job(lambda: 1) for _ in range(25)] for _ in range(8)]
    barrier = threading.Barrier(8)

    def work(mine):
        barrier.wait()
        for n, job in enumerate(mine):
            (served.executor.stop if n % 2 else served.executor.start)()
            served.executor.submit(job)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    served.executor.start()
    served.ledger.wait_ended(200)
    assert served.ledger.count("ended") == Counter({job.run: 1 for mine in jobs for job in mine})
    blockade = Blockade(pool)
    for _ in range(4):
        served.submit(blockade)
    blockade.wait_entered(2)
    assert not blockade.entered.acquire(timeout=0.05)
    blockade.released.set()
    served.ledger.wait_ended(204)


# --- hygiene --------------------------------------------------------------------------------


def test_language_zone_and_context_variables_end_with_the_body(make, kind):
    """Whatever a body activates or sets, the next one in the same slot starts as if it were the first."""
    from contextvars import ContextVar

    from django.utils import timezone, translation

    variable = ContextVar("variable", default="untouched")

    def look():
        return [translation.get_language(), timezone.get_current_timezone_name(), variable.get()]

    def litter():
        translation.activate("de")
        timezone.activate("Asia/Tokyo")
        variable.set("litter")

    served = make(kind)
    before = served.run(look).result
    served.run(litter)
    assert served.run(look).result == before
    restored = served.run(look, context={"language": "fr", "time_zone": "Asia/Tokyo"}).result
    assert "fr" in restored
    assert served.run(look).result == before


def test_a_cancel_reaches_a_body_that_listens(make, pool):
    """A body that asks its context, and a coroutine that waits, end as CANCELLED. (test_main has the third kind.)"""
    served = make(pool)
    entered = threading.Event()
    task = {Kind.THREAD: sample.do_with_context, Kind.ASYNCIO: sample.ado_with_context}[pool]

    def listen(context):
        entered.set()
        while True:
            context.raise_if_stopped()
            threading.Event().wait(0.001)

    async def alisten(context):
        entered.set()
        await asyncio.sleep(WITHIN)

    sample.BODIES["listen"] = alisten if pool is Kind.ASYNCIO else listen
    job = claimed(task, "listen")
    served.executor.submit(job)
    assert entered.wait(WITHIN)
    assert served.executor.handles()[0].stop(Cancelled)
    assert served.ledger.outcome_of(job).end is End.CANCELLED
