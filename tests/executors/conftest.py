"""An executor of each kind, served, with a ledger that remembers; nothing of them outlives its test."""

import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from django_meanwhile.conf import real_clock
from django_meanwhile.core.codec import encode_arguments
from django_meanwhile.core.states import Executor as Kind
from django_meanwhile.executors.base import Executor
from django_meanwhile.executors.loop import LoopExecutor
from django_meanwhile.executors.main import MainThreadExecutor
from django_meanwhile.executors.thread import ThreadExecutor
from tests.run import sample
from tests.run.jobs import claimed

WITHIN = 20.0  # seconds that an event may take on a busy machine; nothing waits that long when all is well


class RecordingLedger:
    """Remembers every step in order. ``_changed`` guards everything."""

    def __init__(self, clock=None):
        self.clock = clock or real_clock()
        self.executor: Executor | None = None
        self.steps = []
        self.outcomes = {}
        self.idle_while_ending = []
        self._changed = threading.Condition()

    def begun(self, handle):
        with self._changed:
            self.steps.append(("begun", handle.job.run))
            self._changed.notify_all()

    def ended(self, job, outcome, bound):
        idle = self.executor.is_idle if self.executor else None
        with self._changed:
            self.idle_while_ending.append(idle)
            self.steps.append(("ended", job.run))
            self.outcomes[job.run] = outcome
            self._changed.notify_all()

    def count(self, word):
        with self._changed:
            return Counter(run for step, run in self.steps if step == word)

    def wait_for(self, condition):
        with self._changed:
            assert self._changed.wait_for(condition, WITHIN), f"not within {WITHIN} s; so far: {self.steps[-10:]}"

    def wait_ended(self, number):
        self.wait_for(lambda: len(self.outcomes) >= number)

    def outcome_of(self, job):
        self.wait_for(lambda: job.run in self.outcomes)
        return self.outcomes[job.run]


def slot_threads():
    """Threads of executors that live now."""
    return [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith(("meanwhile-slot", "meanwhile-loop", "main-"))
    ]


class Served:
    """An executor that is served, and jobs of its kind."""

    def __init__(self, kind: Kind, slots: int, clock=None):
        self.kind = kind
        self.ledger = RecordingLedger(clock)
        match kind:
            case Kind.THREAD:
                self.executor: Executor = ThreadExecutor(slots, self.ledger)
            case Kind.ASYNCIO:
                self.executor = LoopExecutor(slots, self.ledger)
            case Kind.PROCESS:
                assert slots == 1
                self.executor = MainThreadExecutor(self.ledger)
        self.ledger.executor = self.executor
        self.task = {Kind.THREAD: sample.do, Kind.ASYNCIO: sample.ado, Kind.PROCESS: sample.do_in_process}[kind]

    def start(self):
        """Start it; a main thread is played by a thread, as long as no signal is needed."""
        self.executor.start()
        if isinstance(self.executor, MainThreadExecutor):
            threading.Thread(target=self.executor.serve, name="main-thread", daemon=True).start()
        return self

    def job(self, body: Callable, *args, **changes):
        """Return a job whose body is ``body(*args)``, for a coroutine awaited if need be."""
        key = f"body-{len(sample.BODIES)}"
        if self.kind is Kind.ASYNCIO:

            async def asynchronous():
                value = body(*args)
                return await value if hasattr(value, "__await__") else value

            sample.BODIES[key] = asynchronous
        else:
            sample.BODIES[key] = functools.partial(body, *args)
        values = {"arguments": encode_arguments([key], {}, task="test")} | changes
        return claimed(values.pop("task", self.task), **values)

    def submit(self, body: Callable, *args, **changes):
        job = self.job(body, *args, **changes)
        self.executor.submit(job)
        return job

    def run(self, body: Callable, *args, **changes):
        """Run a body to its outcome."""
        return self.ledger.outcome_of(self.submit(body, *args, **changes))

    def end(self):
        """Stop it, and wait until no thread of it is left."""
        self.executor.stop()
        for thread in slot_threads():
            thread.join(WITHIN)
        assert not slot_threads()


@pytest.fixture
def make() -> Iterator[Callable[..., Served]]:
    """Make executors: ``make(kind, slots=…)``, started unless told otherwise."""
    assert not slot_threads()
    made = []

    def make_one(kind: Kind, slots: int = 1, *, started: bool = True, clock=None) -> Served:
        served = Served(kind, slots, clock)
        made.append(served)
        return served.start() if started else served

    yield make_one
    for served in made:
        served.end()
    sample.BODIES.clear()


@pytest.fixture(params=list(Kind), ids=str)
def kind(request) -> Kind:
    """Each kind of executor."""
    return request.param


@pytest.fixture(params=[Kind.THREAD, Kind.ASYNCIO], ids=str)
def pool(request) -> Kind:
    """Each kind with several slots."""
    return request.param
