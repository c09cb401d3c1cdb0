"""A child as a whole, but in pytest's own process and with a store that is none: from the claim to the last outcome."""

import asyncio
import json
import logging
import math
import os
import signal
import threading
import time
from collections import deque
from uuid import uuid4

import pytest

from django_meanwhile.compat import TaskResultStatus, task_finished
from django_meanwhile.core.job import WorkerRow
from django_meanwhile.core.states import Executor as Kind
from django_meanwhile.core.states import JobState
from django_meanwhile.executors import main
from django_meanwhile.worker import child as module
from django_meanwhile.worker.channel import Sender
from django_meanwhile.worker.child import Child
from django_meanwhile.worker.plan import ChildPlan
from django_meanwhile.worker.slots import Flag, SlotTable, capacity_for
from tests.run import sample
from tests.run.jobs import claimed
from tests.worker.fakes import WITHIN, FakeStore, away, plan

SHARED = ChildPlan(kind="shared", threads=2, coroutines=2)
PROCESS = ChildPlan(kind="process")
SOLO = ChildPlan(kind="solo")


class Bench:
    """A child, the supervisor's ends of its pipe and table, and a queue that is a list."""

    def __init__(self, monkeypatch, child_plan, **changes):
        self.store = FakeStore()
        self.queues = {kind: deque() for kind in Kind}
        self.store.claim = self._claim
        self.table = SlotTable.create(capacity_for(child_plan.slots))
        self.reader, writer = os.pipe()
        self.sender = Sender(writer)
        self.row = WorkerRow(
            id=uuid4(),
            parent_id=uuid4(),
            kind=child_plan.kind,
            host="here",
            pid=os.getpid(),
            queues=(),
            executors=child_plan.executors,
            slots=child_plan.slots,
        )
        monkeypatch.setattr(module, "get_store", lambda alias: self.store)
        self.child = Child(
            plan=plan(poll=0.05, **changes),
            child=child_plan,
            row=self.row,
            table=SlotTable(os.dup(self.table.fd), self.table.capacity),
            pipe=self.reader,
        )
        self.finished = []
        self.thread = threading.Thread(target=self.child.serve, name="child")

    def _claim(self, worker_id, executor, queues, limit, *, suspects=False):
        with self.store.changed:
            self.store.calls.append(("claim", (executor, limit)))
            self.store.changed.notify_all()
            queue = self.queues[executor]
            return [queue.popleft() for _ in range(min(limit, len(queue)))]

    def enqueue(self, *jobs):
        """Put jobs where the child will find them, and wake it."""
        for job in jobs:
            self.queues[job.executor].append(job)
        self.sender.send({"op": "wake"})

    def wait_finished(self, number):
        """Wait for so many accepted decisions; return them by run."""
        self.store.wait_for(lambda: len(self.store.finished) >= number)
        return {decision.run: decision for decision in self.store.finished}

    def close(self):
        if self.thread.is_alive():
            self.sender.send({"op": "drain"})
        if self.thread.ident is not None:
            self.thread.join(WITHIN)
            assert not self.thread.is_alive()
        self.child._sentinel.stop()
        assert self.child._sentinel.join(WITHIN)
        self.sender.close()
        os.close(self.reader)
        self.table.close()
        self.child._table.close()


@pytest.fixture
def make(monkeypatch):
    """Make children; they are served in a thread, and drained with the test."""
    made = []

    def make_one(child_plan, *, served=True, **changes):
        bench = Bench(monkeypatch, child_plan, **changes)
        made.append(bench)
        if served:
            bench.thread.start()
            bench.store.wait_called("claim")
        return bench

    yield make_one
    for bench in made:
        bench.close()
    sample.BODIES.clear()


@pytest.fixture
def finished_results():
    """Every result of a ``task_finished`` of this test."""
    heard, changed = [], threading.Condition()

    def receiver(sender, task_result, **_):
        with changed:
            heard.append(task_result)
            changed.notify_all()

    def wait_for(number):
        with changed:
            assert changed.wait_for(lambda: len(heard) >= number, WITHIN), heard
        return heard

    task_finished.connect(receiver, weak=False)
    yield wait_for
    task_finished.disconnect(receiver)


@pytest.fixture
def finished_signals(finished_results):
    """The same, as id -> status."""
    return lambda number: {result.id: result.status for result in finished_results(number)}


def test_it_registers_arms_its_fence_and_asks_to_be_beaten_for(make):
    """READY comes after the row and the fence: the supervisor never beats for a row that is not there."""
    before = time.monotonic()
    bench = make(SHARED)
    ((row, lease),) = bench.store.called("register")
    assert (row, lease) == (bench.row, 30.0)
    assert Flag.READY in bench.table.flags
    assert before + 24 <= bench.table.fence <= time.monotonic() + 24


def test_bodies_of_both_kinds_run_and_their_outcomes_are_written(make, finished_signals):
    """From the queue to the row and to the project's receivers, and nothing is left in the slot table."""

    async def asynchronous():
        await asyncio.sleep(0)
        return "a"

    def fail():
        raise ValueError("no")

    sample.BODIES |= {"x": lambda: "t", "a": asynchronous, "f": fail}
    bench = make(SHARED)
    jobs = [claimed(sample.do, "x"), claimed(sample.ado, "a"), claimed(sample.do, "f"), claimed("gone.tasks.vanished")]
    bench.enqueue(*jobs)
    decisions = bench.wait_finished(4)
    states = [decisions[job.run].state for job in jobs]
    assert states == [JobState.SUCCESSFUL, JobState.SUCCESSFUL, JobState.FAILED, JobState.SCHEDULED]
    assert [decisions[job.run].result for job in jobs[:2]] == ['"t"', '"a"']
    statuses = finished_signals(3)
    assert statuses == {
        str(jobs[0].id): TaskResultStatus.SUCCESSFUL,
        str(jobs[1].id): TaskResultStatus.SUCCESSFUL,
        str(jobs[2].id): TaskResultStatus.FAILED,
    }
    bench.close_and_reopen = None
    bench.sender.send({"op": "drain"})
    bench.thread.join(WITHIN)
    assert bench.table.entries() == []


def test_each_end_is_told_once_and_only_once_it_is_written(make, caplog):
    """One record for each accepted outcome; while the database is away, and of a run that was lost, none."""
    caplog.set_level(logging.DEBUG, logger="django_meanwhile.jobs")

    def told():
        return [(r.levelname, r.job_id) for r in caplog.records if r.name == "django_meanwhile.jobs"]

    def fail():
        raise ZeroDivisionError("no")

    sample.BODIES |= {"x": lambda: "t", "f": fail}
    bench = make(SHARED)
    before_the_write = []

    def finish(decisions):
        before_the_write.extend(told())
        raise away()

    bench.store.plan("finish", finish)
    fine, failing, lost = claimed(sample.do, "x"), claimed(sample.do, "f"), claimed(sample.do, "f")
    bench.store.rows[lost.run] = JobState.READY
    bench.enqueue(fine, failing, lost)
    bench.wait_finished(2)
    bench.sender.send({"op": "drain"})
    bench.thread.join(WITHIN)
    assert before_the_write == []
    assert sorted(told()) == sorted([("DEBUG", str(fine.id)), ("ERROR", str(failing.id))])


def test_receivers_see_the_reason_that_the_row_has(make, finished_results):
    """An interrupted job that must not be repeated says so in its row and in the result of ``task_finished``."""
    bench = make(SHARED)
    entered = threading.Event()

    def listen(context):
        entered.set()
        while True:
            context.raise_if_stopped()
            time.sleep(0.001)

    sample.BODIES["t"] = listen
    job = claimed(sample.do_with_context, "t", retry_on_crash=False)
    bench.enqueue(job)
    assert entered.wait(WITHIN)
    bench.sender.send({"op": "interrupt"})
    decision = bench.wait_finished(1)[job.run]
    assert decision.detail.endswith('\non_crash="fail": it is not run again.')
    (heard,) = finished_results(1)
    assert heard.errors[-1].traceback == decision.detail


def test_the_slot_table_tells_what_a_dead_child_was_doing(make):
    """Begun with its deadline while the body runs; ended until the outcome is written; then nothing."""
    bench = make(SHARED)
    entered, go = threading.Event(), threading.Event()

    def body():
        entered.set()
        assert go.wait(WITHIN)

    sample.BODIES["x"] = body
    job = claimed(sample.do_in_time, "x")
    before = time.monotonic()
    bench.enqueue(job)
    assert entered.wait(WITHIN)
    (entry,) = bench.table.entries()
    assert (entry.run, entry.ended) == (job.run, False)
    assert before <= entry.begun <= time.monotonic()
    assert before + 5 <= entry.deadline <= time.monotonic() + 5
    held = threading.Event()
    seen = []

    def finish(decisions):
        seen.append(bench.table.entries())
        held.set()
        raise away()

    bench.store.plan("finish", finish)
    go.set()
    assert held.wait(WITHIN)
    ((entry,),) = seen
    assert (entry.run, entry.ended, entry.deadline) == (job.run, True, entry.deadline)
    bench.wait_finished(1)
    bench.sender.send({"op": "drain"})
    bench.thread.join(WITHIN)
    assert bench.table.entries() == []


def test_without_a_timeout_there_is_no_deadline(make):
    """A task may run as long as it likes."""
    bench = make(SHARED)
    seen = []
    sample.BODIES["x"] = lambda: seen.append(bench.table.entries()[0].deadline)
    bench.enqueue(claimed(sample.do, "x"))
    bench.wait_finished(1)
    assert seen == [math.inf]


def test_drain_finishes_what_runs_and_gives_back_what_waits(make):
    """SIGTERM's first meaning: claim no more, end the bodies, return the rest uncharged, and leave."""
    bench = make(ChildPlan(kind="shared", threads=1))
    entered, go = threading.Event(), threading.Event()

    def body():
        entered.set()
        assert go.wait(WITHIN)
        return 5

    sample.BODIES["x"] = body
    running, waiting = claimed(sample.do, "x"), claimed(sample.do, "x")
    bench.child._executors[0].usual_seconds = 0.0  # so that one is claimed ahead
    bench.enqueue(running, waiting)
    assert entered.wait(WITHIN)
    bench.store.wait_for(lambda: not bench.queues[Kind.THREAD])
    bench.sender.send({"op": "drain"})
    decisions = bench.wait_finished(1)
    assert (decisions[waiting.run].state, decisions[waiting.run].attempts) == (JobState.READY, -1)
    assert bench.thread.is_alive(), "a body runs"
    go.set()
    bench.thread.join(WITHIN)
    assert bench.wait_finished(2)[running.run].state is JobState.SUCCESSFUL


def test_interrupt_gives_everything_back(make):
    """SIGTERM's second meaning: every body is told, and goes back uncharged."""
    bench = make(SHARED)
    entered = threading.Semaphore(0)

    def listen(context):
        entered.release()
        while True:
            context.raise_if_stopped()
            time.sleep(0.001)

    async def alisten(context):
        entered.release()
        await asyncio.sleep(WITHIN)

    sample.BODIES |= {"t": listen, "a": alisten}
    jobs = [claimed(sample.do_with_context, "t"), claimed(sample.ado_with_context, "a")]
    bench.enqueue(*jobs)
    for _ in jobs:
        assert entered.acquire(timeout=WITHIN)
    bench.sender.send({"op": "interrupt"})
    bench.thread.join(WITHIN)
    decisions = bench.wait_finished(2)
    for job in jobs:
        decision = decisions[job.run]
        assert (decision.state, decision.attempts, decision.interruptions) == (JobState.READY, -1, 1)


def test_a_cancel_is_delivered(make, finished_signals):
    """By run, through the pipe, into the body; the end is announced."""
    bench = make(SHARED)
    entered = threading.Event()

    async def alisten(context):
        entered.set()
        await asyncio.sleep(WITHIN)

    sample.BODIES["a"] = alisten
    job = claimed(sample.ado_with_context, "a")
    bench.enqueue(job)
    assert entered.wait(WITHIN)
    bench.sender.send({"op": "stop", "job": str(job.id), "epoch": job.epoch, "reason": "Cancelled"})
    assert bench.wait_finished(1)[job.run].state is JobState.CANCELLED
    assert finished_signals(1) == {str(job.id): TaskResultStatus.FAILED}


def test_a_job_that_is_cancelled_by_being_given_back_is_announced(make, monkeypatch, finished_signals):
    """Its body never ran, but its end was written here: receivers hear of it, from the row."""
    loaded = []

    def load(backend, job_id):
        loaded.append((backend, job_id))
        from django_meanwhile.run.pipeline import prepare
        from tests.run.jobs import ManualClock

        return prepare(claimed(sample.add, 1, 2, id=job_id), ManualClock()).result

    monkeypatch.setattr(module, "load_result", load)
    bench = make(SHARED)
    job = claimed("gone.tasks.vanished")
    bench.store.plan("finish", {job.run: JobState.CANCELLED})
    bench.enqueue(job)
    finished_signals(1)
    assert loaded == [("default", job.id)]


def test_a_claim_that_is_answered_after_the_fence_runs_nothing(make):
    """Somebody else may have the jobs by now: their bodies are not called."""
    bench = make(SHARED)
    sample.BODIES["x"] = lambda: pytest.fail("the body was called")
    job = claimed(sample.do, "x")
    bench.child._sentinel.stop()  # it would end the process
    assert bench.child._sentinel.join(WITHIN)
    bench.table.fence = time.monotonic() - 1
    bench.enqueue(job)
    bench.child._courier.poke()
    decision = bench.wait_finished(1)[job.run]
    assert (decision.state, decision.interruptions) == (JobState.READY, 1)
    bench.child._sentinel.start()
    bench.table.fence = math.inf


def test_progress_is_written_while_the_body_runs(make):
    """Under its fence; refused, the body is told that it runs in vain."""
    bench = make(SHARED)

    def body(context):
        context.progress(1, 2, "half")
        while True:
            context.raise_if_stopped()
            time.sleep(0.001)

    sample.BODIES["x"] = body
    job = claimed(sample.do_with_context, "x")
    bench.store.plan("write_progress", {})
    bench.enqueue(job)
    decision = bench.wait_finished(1)[job.run]
    (((item,),),) = bench.store.called("write_progress")
    assert (item.run, json.loads(item.progress)["message"]) == (job.run, "half")
    assert decision.exception.endswith("LeaseLost")


def test_max_tasks_recycles_the_child(make):
    """After that many runs it claims no more, says so, and is done."""
    bench = make(SHARED, max_tasks=3)
    sample.BODIES["x"] = lambda: 1
    bench.enqueue(*(claimed(sample.do, "x") for _ in range(5)))
    bench.thread.join(WITHIN)
    assert not bench.thread.is_alive()
    assert Flag.RECYCLING in bench.table.flags
    assert len(bench.wait_finished(3)) == 3
    assert len(bench.queues[Kind.THREAD]) == 2


# --- one slot in the main thread ------------------------------------------------------------


@pytest.fixture
def serve(monkeypatch):
    """Serve a child in pytest's main thread while ``meanwhile`` runs beside it."""
    # It tidies and closes its thread's connections; the main thread's are pytest's, who has to drop the databases.
    for name in ("tidy", "close_thread_connections"):
        monkeypatch.setattr(main, name, lambda: None)
    old = signal.getsignal(signal.SIGTERM)

    def serve_it(bench, meanwhile):
        errors = []

        def beside():
            try:
                meanwhile()
            except BaseException as error:
                errors.append(error)
            finally:
                bench.sender.send({"op": "drain"})

        thread = threading.Thread(target=beside)
        thread.start()
        bench.child.serve()
        thread.join()
        if errors:
            raise errors[0]

    yield serve_it
    signal.signal(signal.SIGTERM, old)


def test_a_process_runs_bodies_in_its_main_thread_and_stops_them_by_signal(make, serve):
    """A cancel breaks into a blocking call; the next job finds the slot as new."""
    bench = make(PROCESS, served=False)
    asleep = threading.Event()

    def sleep():
        asleep.set()
        time.sleep(WITHIN)

    sample.BODIES |= {"sleep": sleep, "x": lambda: threading.current_thread() is threading.main_thread()}
    first, second = claimed(sample.do_in_process, "sleep"), claimed(sample.do_in_process, "x")

    def meanwhile():
        bench.enqueue(first)
        assert asleep.wait(WITHIN)
        bench.sender.send({"op": "stop", "job": str(first.id), "epoch": 1, "reason": "Cancelled"})
        bench.enqueue(second)
        bench.wait_finished(2)

    serve(bench, meanwhile)
    decisions = bench.wait_finished(2)
    assert decisions[first.run].state is JobState.CANCELLED
    assert decisions[second.run].result == "true"


@pytest.mark.parametrize("task", [sample.do, sample.ado, sample.do_in_process])
def test_a_solo_child_runs_one_suspect_and_ends(make, serve, task):
    """Of whatever kind, alone, in the main thread; then it makes way."""
    bench = make(SOLO, served=False)

    async def asynchronous():
        return 5

    sample.BODIES["x"] = asynchronous if task is sample.ado else lambda: 5
    jobs = [claimed(task, "x", suspect=True) for _ in range(2)]
    serve(bench, lambda: (bench.enqueue(*jobs), bench.wait_finished(1)))
    assert [decision.result for decision in bench.store.finished] == ["5"]
    assert Flag.RECYCLING in bench.table.flags
