"""Fixtures: executors that end with their test, gates by which tests and calls wait for each other, time by events."""

import threading
import time

import pytest

from django_meanwhile.concurrent import ThreadPoolExecutor
from django_meanwhile.concurrent.threads import budget, deadlock
from django_meanwhile.concurrent.together import async_gathering, gathering, scope
from tests.playground import eventually

PATIENCE = 20
"""Seconds after which a wait within a test has failed."""


class Gate:
    """A call that tells that it has begun, and waits to be let through; then it returns what it was made with."""

    def __init__(self, result=None):
        self.result = result
        self._begun, self._open = threading.Event(), threading.Event()

    def __call__(self):
        self._begun.set()
        assert self._open.wait(PATIENCE), "nobody opened the gate"
        return self.result

    def wait_until_begun(self):
        assert self._begun.wait(PATIENCE), "the call was never begun"

    @property
    def has_begun(self):
        return self._begun.is_set()

    def open(self):
        self._open.set()


@pytest.fixture
def _gates():
    return []


@pytest.fixture
def gate(_gates):
    """Make gates; they are opened at the end of the test at the latest."""

    def make(result=None):
        _gates.append(Gate(result))
        return _gates[-1]

    yield make
    for one in _gates:
        one.open()


@pytest.fixture
def time_by(monkeypatch):
    """Have the deadlines of ``parallel()`` and its like pass by what happens: none is missed on a busy machine.

    Time stands still until the first condition is true, then until the next one, and goes on after the last; at each,
    100 seconds have passed.
    """

    def replace(*conditions):
        begun, passed, lock = time.monotonic(), [], threading.Lock()

        def now():
            with lock:  # several threads may ask
                while len(passed) < len(conditions) and conditions[len(passed)]():
                    passed.append(100)
            return (begun if len(passed) < len(conditions) else time.monotonic()) + sum(passed)

        for module in (scope, gathering, async_gathering):
            monkeypatch.setattr(module, "monotonic", now)

    return replace


@pytest.fixture
def executor(_gates):
    """Make executors; they are shut down at the end of the test. Nothing is left of them then."""
    made = []

    def make(max_workers=2, **options):
        made.append(ThreadPoolExecutor(max_workers, **options))
        return made[-1]

    yield make
    for one in _gates:
        one.open()
    for one in made:
        one.shutdown(cancel_futures=True, wait=False)
    for one in made:
        for thread in one._pool.close("the test has ended"):  # also those that only close their connections yet
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"{thread.name} outlived its executor"
    # Threads of other pools, as the shared one, may be about to note that their wait has ended.
    eventually(lambda: not deadlock._waiting, what="nobody is noted as waiting")
    eventually(lambda: not any(share.waiting for share in budget._shares.values()), what="nobody wants a connection")
