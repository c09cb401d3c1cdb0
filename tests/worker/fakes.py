"""Fakes for a worker's parts: a store of scripted answers, an idle executor, a child that is no process."""

import threading
from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from uuid import UUID, uuid4

from django.db import OperationalError

from django_meanwhile.core.job import Run
from django_meanwhile.core.states import Executor as Kind
from django_meanwhile.core.states import JobState
from django_meanwhile.run.handle import RunHandle
from django_meanwhile.worker.plan import ChildPlan, WorkerPlan
from django_meanwhile.worker.slots import Flag
from tests.run import sample
from tests.run.jobs import ManualClock, claimed

WITHIN = 20.0  # seconds that an event may take on a busy machine


def away(text="the database is away"):
    """What the store raises while the database is away."""
    return OperationalError(text)


def run(number=1):
    """A run of some job."""
    return Run(UUID(int=number), 1)


def plan(**changes) -> WorkerPlan:
    """A worker with short durations."""
    values = {
        "backend": "default",
        "database": "default",
        "queues": (),
        "threads": 2,
        "coroutines": 0,
        "processes": 0,
        "max_tasks": None,
        "drain": False,
        "lease": 30.0,
        "beat": 10.0,
        "sweep": 5.0,
        "poll": 1.0,
        "grace": 25.0,
        "end_grace": 25.0,
        "stop_grace": 1.0,
        "margin": 6.0,
    }
    return WorkerPlan(**(values | changes))


class FakeStore:
    """Answers what it was told to, and remembers every question. ``changed`` guards everything.

    ``script[verb]`` is a queue of answers: a value, an exception to raise, or a function to call with the arguments.
    Without one, the verb's default below answers.
    """

    alias = "default"
    vendor = "fake"

    def __init__(self, *, one_writer=False):
        self.one_writer = one_writer
        self.changed = threading.Condition()
        self.calls = []
        self.script = {}
        self.rows = {}  # run -> state, of jobs that are known to be in the table; RUNNING ones can be finished
        self.finished = []  # decisions that were accepted

    def plan(self, verb, *answers):
        """Let the next calls of ``verb`` have these answers, in order."""
        self.script.setdefault(verb, deque()).extend(answers)

    def called(self, verb):
        """The arguments of every call of ``verb`` so far."""
        with self.changed:
            return [arguments for name, arguments in self.calls if name == verb]

    def wait_for(self, condition):
        """Wait until ``condition()``, asked after each call, is true."""
        with self.changed:
            assert self.changed.wait_for(condition, WITHIN), f"not within {WITHIN} s; so far: {self.calls[-10:]}"

    def wait_called(self, verb, times=1):
        """Wait until ``verb`` was called that often."""
        self.wait_for(lambda: sum(name == verb for name, _ in self.calls) >= times)

    def __getattr__(self, verb):
        if verb.startswith("_"):
            raise AttributeError(verb)

        def call(*args, **kwargs):
            with self.changed:
                self.calls.append((verb, (*args, *kwargs.values())))
                answers = self.script.get(verb)
                answer = answers.popleft() if answers else getattr(FakeStore, f"_{verb}", lambda *_: None)
                self.changed.notify_all()
            if isinstance(answer, BaseException):
                raise answer
            if not callable(answer):
                return answer
            own = answer is getattr(FakeStore, f"_{verb}", None)
            return answer(self, *args, **kwargs) if own else answer(*args, **kwargs)

        return call

    # --- what it answers by itself ------------------------------------------------------

    def _connection_options(self):
        return {}

    def _beat_options(self, beat):
        return {}

    def _claim(self, worker_id, executor, queues, limit, *, suspects=False):
        return []

    def _finish(self, decisions):
        with self.changed:
            accepted = {}
            for decision in decisions:
                if self.rows.get(decision.run, JobState.RUNNING) is JobState.RUNNING:
                    self.rows[decision.run] = accepted[decision.run] = decision.state
                    self.finished.append(decision)
            self.changed.notify_all()
            return accepted

    def _recorded(self, runs):
        return {r: self.rows[r] for r in runs if r in self.rows}

    def _renew(self, worker_ids, lease):
        return set(worker_ids)

    def _write_progress(self, progress):
        return {item.run: False for item in progress}

    def _held(self, worker_id):
        return []

    def _leases(self):
        return []

    def _kill(self, worker_ids):
        return set(worker_ids)

    def _orphans(self, limit=500):
        return []

    def _cancel_requests(self, worker_ids):
        return []

    def _promote(self, limit=500):
        return {}

    def _suspects(self, queues, limit):
        return 0

    def _prune(self, state, age, limit=500):
        return 0

    def _depths(self, limit=1000):
        return []


@dataclass(eq=False)
class FakeExecutor:
    """Holds what is submitted and runs nothing. Its load is what the test says."""

    kind: Kind = Kind.THREAD
    slots: int = 2
    load: int = 0
    usual_seconds: float = 1.0
    waiting: int = 0
    is_idle: bool = True
    submitted: list = field(default_factory=list)
    going_on: list = field(default_factory=list)
    given_up: list = field(default_factory=list)
    to_withdraw: list = field(default_factory=list)
    unreported: set = field(default_factory=set)
    insisted: list = field(default_factory=list)

    def submit(self, job):
        self.submitted.append(job)
        self.load += 1

    def withdraw(self, waited=0.0):
        jobs, self.to_withdraw = self.to_withdraw, []
        return jobs

    def runs(self):
        return {job.run for job in self.submitted} | self.unreported

    def handles(self):
        return [*self.going_on, *self.given_up]

    def written_off(self):
        return list(self.given_up)

    def insist(self, handle):
        self.insisted.append(handle)

    def write_off(self, handle):
        if handle not in self.going_on:
            return False
        self.going_on.remove(handle)
        self.given_up.append(handle)
        return True


def handle(*, deadline=None, task=sample.do_in_time, **changes) -> RunHandle:
    """A run that goes on."""
    return RunHandle(claimed(task, "x", **changes), task, deadline)


class FakeChild:
    """What the beat, the upkeep and the listener see of a child."""

    def __init__(self, *, ready=True):
        self.worker_id = uuid4()
        self.plan = ChildPlan(kind="shared", threads=2)
        self.table = SimpleNamespace(fence=float("inf"), pulse=0.0, flags=Flag.READY)
        self.ready = ready
        self.lost = False
        self.sent = []
        self.cancelled = []

    def deserves_beat(self):
        return self.ready and not self.lost

    def declare_lost(self):
        self.lost = True

    def send(self, message):
        self.sent.append(message)
        return True

    def cancel(self, runs):
        self.cancelled.append(runs)


__all__ = ["WITHIN", "FakeChild", "FakeExecutor", "FakeStore", "ManualClock", "away", "handle", "plan", "run"]
