"""The slot in a main thread: signals break into the body, and into nothing else. Runs in pytest's own main thread."""

import asyncio
import inspect
import signal
import sys
import threading
import time

import pytest

from django_meanwhile.core.errors import Cancelled, Interrupted, LeaseLost, TaskTimeout
from django_meanwhile.core.outcome import End
from django_meanwhile.core.states import Executor as Kind
from django_meanwhile.executors.main import MainThreadExecutor
from tests.executors.conftest import WITHIN, RecordingLedger
from tests.playground import eventually
from tests.run import sample
from tests.run.jobs import claimed


def wait_until_in(function, text):
    """Wait until the main thread is at the line of ``function`` that contains ``text``; it has nobody to tell."""
    lines, first = inspect.getsourcelines(function)
    number = first + next(place for place, line in enumerate(lines) if text in line)

    def where():
        frame = sys._current_frames().get(threading.main_thread().ident)
        while frame is not None:
            if frame.f_code is function.__code__:
                return frame.f_lineno
            frame = frame.f_back
        return None

    eventually(lambda: where() == number, what=f"the main thread is at {text!r}")


class Main:
    """Serves jobs in the main thread until the last has ended; ``meanwhile`` runs in a thread beside it."""

    def __init__(self):
        self.ledger = RecordingLedger()
        self.executor = MainThreadExecutor(self.ledger)
        self.ledger.executor = self.executor

    def serve(self, *jobs, meanwhile=lambda: None):
        errors = []

        def beside():
            try:
                meanwhile()
                self.ledger.wait_ended(len(jobs))
            except BaseException as error:
                errors.append(error)
            finally:
                self.executor.stop()

        self.executor.start()
        for job in jobs:
            self.executor.submit(job)
        thread = threading.Thread(target=beside)
        thread.start()
        self.executor.serve()
        thread.join()
        if errors:
            raise errors[0]
        return [self.ledger.outcomes[job.run] for job in jobs]

    def stop(self, reason):
        """Stop the one run, and insist, as the sentinel does."""
        self.ledger.wait_for(self.executor.handles)
        (handle,) = self.executor.handles()
        assert handle.stop(reason)
        while not self.ledger.outcomes:
            self.executor.insist(handle)
            threading.Event().wait(0.01)


@pytest.fixture
def main(bodies):
    """A served main thread, with its SIGTERM handler in place as a child has it."""
    made = Main()
    old = signal.signal(signal.SIGTERM, made.executor.on_signal)
    yield made
    signal.signal(signal.SIGTERM, old)


@pytest.fixture
def bodies():
    """Bodies by key."""
    yield sample.BODIES
    sample.BODIES.clear()


ENDS = [
    (Cancelled, End.CANCELLED),
    (Interrupted, End.INTERRUPTED),
    (LeaseLost, End.INTERRUPTED),
    (TaskTimeout, End.FAILED),
]


@pytest.mark.parametrize(("reason", "end"), ENDS)
def test_a_stop_breaks_into_a_blocking_call(main, bodies, reason, end):
    """A body in the middle of a sleep is woken by the reason to stop, and ends by it."""

    def body():
        time.sleep(WITHIN)

    bodies["x"] = body
    job = claimed(sample.do_in_process, "x", overrides={"timeout": 5})

    def meanwhile():
        wait_until_in(body, "time.sleep")
        main.stop(reason)

    (outcome,) = main.serve(job, meanwhile=meanwhile)
    assert outcome.end is end
    assert "time.sleep" in outcome.detail


@pytest.mark.parametrize(("reason", "end"), ENDS)
def test_a_stop_breaks_into_a_suspects_coroutine(main, bodies, reason, end):
    """A suspect that is a coroutine runs on a loop of its own in the main thread, and is stopped the same way."""
    asleep = threading.Event()

    async def body():
        asleep.set()
        await asyncio.sleep(WITHIN)

    bodies["x"] = body
    job = claimed(sample.ado, "x", overrides={"timeout": 5}, suspect=True)

    def meanwhile():
        assert asleep.wait(WITHIN)
        main.stop(reason)

    (outcome,) = main.serve(job, meanwhile=meanwhile)
    assert outcome.end is end


def test_suspects_of_every_kind_run_in_the_main_thread(main, bodies):
    """A ``def``, an ``async def`` and a body with a context: alone in a process, each runs as it was written."""

    async def asynchronous():
        await asyncio.sleep(0)
        return threading.current_thread() is threading.main_thread()

    async def with_context(context):
        context.progress(1)
        return context.attempt

    bodies |= {
        "def": lambda: threading.current_thread() is threading.main_thread(),
        "async": asynchronous,
        "context": with_context,
    }
    outcomes = main.serve(
        claimed(sample.do, "def", suspect=True),
        claimed(sample.ado, "async", suspect=True),
        claimed(sample.ado_with_context, "context", suspect=True),
    )
    assert [outcome.result for outcome in outcomes] == ["true", "true", "1"]


def test_a_stop_between_begun_and_the_body_is_not_lost(main, bodies):
    """The signal comes while the gate is still closed: the body is not called, and the job ends by the reason."""
    bodies["x"] = lambda: pytest.fail("the body was called")
    begun = main.ledger.begun

    def begin(handle):
        begun(handle)
        handle.stop(Cancelled)

    main.ledger.begun = begin
    (outcome,) = main.serve(claimed(sample.do_in_process, "x"))
    assert outcome.end is End.CANCELLED


def test_a_signal_that_was_missed_is_made_up_for(main, bodies):
    """It came when the blocking call was about to begin, and its handler waits for the call: insisting ends it."""
    asleep = threading.Event()

    def body():
        asleep.set()
        time.sleep(WITHIN)

    bodies["x"] = body

    def meanwhile():
        assert asleep.wait(WITHIN)
        main.ledger.wait_for(main.executor.handles)
        (handle,) = main.executor.handles()
        handle.interrupt_with(None)  # the one that is missed
        assert handle.stop(Cancelled)
        while not main.ledger.outcomes:
            main.executor.insist(handle)
            threading.Event().wait(0.01)

    (outcome,) = main.serve(claimed(sample.do_in_process, "x"), meanwhile=meanwhile)
    assert outcome.end is End.CANCELLED


def test_a_body_that_cleans_up_is_left_in_peace(main, bodies):
    """The reason is raised once: whoever insists later, or signals the group, does not disturb the cleaning up."""
    cleaned = []

    def body():
        try:
            time.sleep(WITHIN)
        finally:
            for _ in range(20):
                signal.raise_signal(signal.SIGTERM)
                cleaned.append(1)

    bodies["x"] = body

    def meanwhile():
        wait_until_in(body, "time.sleep")
        main.stop(Cancelled)

    (outcome,) = main.serve(claimed(sample.do_in_process, "x"), meanwhile=meanwhile)
    assert outcome.end is End.CANCELLED
    assert len(cleaned) == 20


def test_a_lost_lease_is_raised_even_after_a_cancel(main, bodies):
    """It outranks the first reason, so a body that swallowed that one hears of it too."""
    asleep, again = threading.Event(), threading.Event()

    def body():
        try:
            asleep.set()
            time.sleep(WITHIN)
        except Cancelled:
            again.set()
        time.sleep(WITHIN)

    bodies["x"] = body

    def meanwhile():
        for event, reason in ((asleep, Cancelled), (again, LeaseLost)):
            assert event.wait(WITHIN)
            main.ledger.wait_for(main.executor.handles)
            (handle,) = main.executor.handles()
            handle.stop(reason)
            while handle.stop_reason is reason and not main.ledger.outcomes and not again.is_set():
                main.executor.insist(handle)
                threading.Event().wait(0.01)
        while not main.ledger.outcomes:
            main.executor.insist(handle)
            threading.Event().wait(0.01)

    (outcome,) = main.serve(claimed(sample.do_in_process, "x"), meanwhile=meanwhile)
    assert outcome.end is End.INTERRUPTED


def test_a_signal_between_bodies_changes_nothing(main, bodies):
    """SIGTERM while no body runs, or one that was not told to stop, is left to the supervisor: all jobs succeed."""

    def body():
        signal.raise_signal(signal.SIGTERM)
        return 1

    bodies["x"] = body
    ended = main.ledger.ended

    def end(*args):
        signal.raise_signal(signal.SIGTERM)
        ended(*args)

    main.ledger.ended = end
    outcomes = main.serve(*(claimed(sample.do_in_process, "x") for _ in range(20)))
    assert {outcome.end for outcome in outcomes} == {End.SUCCEEDED}


def test_signals_at_any_moment_lose_no_job(main, bodies):
    """Stops that race the end of very short bodies: each job gets one outcome, the slot survives them all."""

    def body(context):
        for _ in range(20):
            context.progress(1)

    bodies["x"] = body
    jobs = [claimed(sample.do_in_process_with_context, "x") for _ in range(150)]

    def meanwhile():
        for n in range(len(jobs)):
            main.ledger.wait_for(lambda n=n: len(main.ledger.outcomes) > n or len(main.ledger.count("begun")) > n)
            for handle in main.executor.handles():
                handle.stop(Cancelled)

    outcomes = main.serve(*jobs, meanwhile=meanwhile)
    assert {outcome.end for outcome in outcomes} <= {End.CANCELLED, End.SUCCEEDED}
    assert set(main.ledger.count("ended").values()) == {1}


def test_nothing_replaces_a_main_thread(make):
    """Writing off a process's one slot makes no other: its supervisor kills it."""
    served = make(Kind.PROCESS)
    entered, go = threading.Event(), threading.Event()

    def body():
        entered.set()
        go.wait(WITHIN)

    stuck = served.submit(body)
    assert entered.wait(WITHIN)
    assert served.executor.write_off(served.executor.handles()[0])
    waiting = served.submit(lambda: 1)
    assert served.executor.waiting == 1
    go.set()
    assert served.ledger.outcome_of(stuck).end is End.SUCCEEDED
    assert served.ledger.outcome_of(waiting).end is End.SUCCEEDED
