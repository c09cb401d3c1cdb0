"""A real worker, with processes of its own, on the test's database.

For what a single thread cannot show: parallel bodies, real timeouts and cancels, signals, connections. Needs
real commits (``TransactionTestCase``, ``django_db(transaction=True)``) and a database that other processes can
open. It never works on a database that is not a test's.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connections

from .. import conf
from ..core.states import JobState
from ..models import Job
from ..store import get_store
from .backends import database_backend
from .errors import UnusableForTests
from .worker_settings_names import ENVIRONMENT, SETTINGS

if TYPE_CHECKING:
    from uuid import UUID

START_WITHIN = 60.0
"""Seconds until the children have to have registered: the project's imports may take their time."""

STOP_WITHIN = 10.0
"""Seconds behind the grace period, before the worker is killed."""

_LOOK_EVERY = 0.02


class RunningWorker:
    """A worker that runs. What ``running_worker`` yields."""

    def __init__(self, process: subprocess.Popen[bytes], database: str, log: Any, grace: float) -> None:
        self._process = process
        self._database = database
        self._log = log
        self._grace = grace
        self._told = False
        self._last_words: str | None = None

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What the worker and its children have printed so far; everything, behind the block."""
        if self._last_words is not None:
            return self._last_words
        with open(self._log.name, encoding="utf-8", errors="replace") as log:  # noqa: PTH123 - the name of an open file
            return log.read()

    @property
    def is_running(self) -> bool:
        """Whether the supervisor lives."""
        return self._process.poll() is None

    def wait_until_idle(self, timeout: float = 30.0) -> None:
        """Wait until no job is running and none is due. ``TimeoutError`` after ``timeout`` seconds."""
        clock = conf.real_clock()
        deadline = clock.monotonic() + timeout
        store = get_store(self._database)
        while True:
            jobs = Job.objects.using(self._database)
            busy = jobs.filter(state__in=[JobState.READY, JobState.RUNNING]).count()
            busy += jobs.filter(state=JobState.SCHEDULED, due_at__lte=store.now()).count()
            if not busy:
                return
            self._refuse_dead("while jobs were waiting")
            if clock.monotonic() > deadline:
                raise TimeoutError(
                    f"after {timeout:g} s jobs are still due or running: {busy}. The worker said:\n{self.log}"
                )
            time.sleep(_LOOK_EVERY)

    def stop(self) -> None:
        """Tell it to stop, and wait: running jobs get the grace period, the rest is given back. Idempotent."""
        self._told = True
        if self.is_running:
            self._process.terminate()
            try:
                self._process.wait(self._grace + STOP_WITHIN)
            except subprocess.TimeoutExpired:
                self.kill()
        self._close_pipe()

    def kill(self) -> None:
        """SIGKILL the supervisor. Its children end with it; their jobs are rescued by the next worker."""
        self._told = True
        self._process.kill()
        self._process.wait()
        self._close_pipe()

    def close(self) -> None:
        """Stop it, and keep what it has printed. Called at the end of the block."""
        self.stop()
        self._last_words = self.log

    def check(self) -> None:
        """Raise ``AssertionError`` if it has ended without being told to."""
        self._refuse_dead("by itself")

    def _close_pipe(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _refuse_dead(self, when: str) -> None:
        if not (self.is_running or self._told):
            raise AssertionError(
                f"the worker ended {when}, with status {self._process.returncode}. It said:\n{self.log}"
            )

    def wait_until_ready(self, number: int, before: set[UUID]) -> None:
        """Wait until so many children have registered, besides those of ``before``."""
        clock = conf.real_clock()
        deadline = clock.monotonic() + START_WITHIN
        while len({row.id for row in get_store(self._database).workers()} - before) < number:
            self._refuse_dead("before it was ready")
            if clock.monotonic() > deadline:
                raise TimeoutError(f"the worker was not ready within {START_WITHIN:g} s. It said:\n{self.log}")
            time.sleep(_LOOK_EVERY)


@contextlib.contextmanager
def running_worker(
    *,
    threads: int = 2,
    coroutines: int = 10,
    processes: int = 1,
    queues: Sequence[str] = (),
    grace: float = 2.0,
    backend: str | None = None,
) -> Iterator[RunningWorker]:
    """Run a real worker beside the block. It is ready when the block begins, and gone when it has ended.

    Raises ``UnusableForTests`` where it could not see the test's data: inside a transaction, on an in-memory
    database, without ``DJANGO_SETTINGS_MODULE``; ``AssertionError`` if it ended by itself.
    """
    served = database_backend(backend, "running_worker()")
    database = served.database
    _refuse_transaction(database)
    given = json.dumps(specification(database))
    arguments = ["--backend", served.alias, "--grace", f"{grace:g}"]
    for name, number in (("threads", threads), ("coroutines", coroutines), ("processes", processes)):
        arguments += [f"--{name}", str(number)]
    if queues:
        arguments += ["--queues", ",".join(queues)]
    before = {row.id for row in get_store(database).workers()}
    with tempfile.NamedTemporaryFile(prefix="meanwhile-worker-", suffix=".log") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own code
            [sys.executable, "-m", "django_meanwhile.testing.worker_process", *arguments],
            env=os.environ
            | {ENVIRONMENT: given, "DJANGO_SETTINGS_MODULE": SETTINGS, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the tests: they stop it
        )
        worker = RunningWorker(process, database, log, grace)
        try:
            worker.wait_until_ready(bool(threads or coroutines) + processes, before)
            yield worker
            worker.check()
        finally:
            worker.close()


def specification(database: str) -> dict[str, Any]:
    """Return what the worker's settings need to know: the project's module, the databases of this test run.

    Raises ``UnusableForTests`` if ``database`` is not a test's, or not one that another process can open.
    """
    # Not settings.SETTINGS_MODULE: inside override_settings() that is None.
    module = os.environ.get("DJANGO_SETTINGS_MODULE")
    if not module:
        raise UnusableForTests(
            "running_worker(): DJANGO_SETTINGS_MODULE is not set. A worker is a process of its own and imports the "
            "settings by that name; settings.configure() cannot reach it."
        )
    _refuse_memory(database)
    if not _is_of_a_test(database):
        raise UnusableForTests(
            f"running_worker(): database {database!r} is {connections[database].settings_dict['NAME']!r}, which was "
            "not made for tests: the worker would run real jobs. Let Django's or pytest-django's runner create it."
        )
    reachable = [alias for alias in connections if _is_of_a_test(alias) and not _is_in_memory(alias)]
    changed = {"DEBUG": settings.DEBUG}
    for name in ("TASKS", "MEANWHILE"):  # a test may have overridden them
        with contextlib.suppress(AttributeError, TypeError, ValueError):
            changed[name] = json.loads(json.dumps(getattr(settings, name)))
    return {"settings": module, "changed": changed, "databases": {alias: _place(alias) for alias in reachable}}


def _place(alias: str) -> dict[str, str]:
    found = connections[alias].settings_dict
    return {name: str(found[name]) for name in ("NAME", "HOST", "PORT", "USER", "PASSWORD") if found.get(name)}


def _is_of_a_test(alias: str) -> bool:
    """Whether the runner has put a database of its own in the place of the configured one. Clones count."""
    found = connections[alias].settings_dict
    name, wanted = str(found["NAME"]), found.get("TEST", {}).get("NAME")
    if _is_in_memory(alias):
        return True
    if not wanted:
        return name.rpartition("/")[2].startswith("test_")
    stem, dot, suffix = str(wanted).rpartition(".")
    return name == str(wanted) or name.startswith(f"{stem if dot else suffix}_")


def _is_in_memory(alias: str) -> bool:
    connection: Any = connections[alias]
    return connection.vendor == "sqlite" and bool(connection.is_in_memory_db())


def _refuse_memory(database: str) -> None:
    if _is_in_memory(database):
        raise UnusableForTests(
            f"running_worker(): the test database of {database!r} is in memory, where no other process can see it. "
            f'Write in the settings: DATABASES["{database}"]["TEST"] = {{"NAME": BASE_DIR / "test.sqlite3"}}'
        )


def _refuse_transaction(database: str) -> None:
    if connections[database].in_atomic_block:
        raise UnusableForTests(
            f"running_worker(): the test is inside a transaction on {database!r}, which a worker could not see into. "
            "Use TransactionTestCase, or with pytest @pytest.mark.django_db(transaction=True); for TestCase there is "
            "run_jobs()."
        )
