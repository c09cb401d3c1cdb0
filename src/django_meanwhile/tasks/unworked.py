"""Queues that no living worker serves. Never silent: said at enqueue, by ``check`` and by ``status``.

``unworked`` is the answer; ``Watch`` asks it at most once a minute per queue, after
a commit, and logs a warning.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from .. import conf, logs
from ..compat import DEFAULT_TASK_BACKEND_ALIAS, task_backends
from ..core.clock import Clock
from ..core.states import Executor
from ..store import get_store

logger = logs.get_logger("jobs")

PERIOD = 60.0
"""Seconds between two questions about one queue, in one process."""

_MAX_KEYS = 1000

_FLAGS = {Executor.THREAD: "--threads 8", Executor.ASYNCIO: "--coroutines 100", Executor.PROCESS: "--processes 2"}


def unworked(alias: str, wanted: Iterable[tuple[str, Executor]]) -> list[tuple[str, Executor]]:
    """Return those (queue, executor) pairs that no living worker on ``alias`` serves. One query."""
    workers = get_store(alias).workers()
    return [
        (queue, executor)
        for queue, executor in dict.fromkeys(wanted)
        if not any(executor in worker.executors and (not worker.queues or queue in worker.queues) for worker in workers)
    ]


def worker_line(database: str, queue: str, executor: Executor) -> str:
    """Return the command that starts a worker for these jobs; it names the backend where the default is another."""
    ours = {}
    for alias in task_backends:
        try:
            backend = task_backends[alias]
        except ImproperlyConfigured:  # the checks tell
            continue
        if hasattr(backend, "database"):
            ours[alias] = backend.database == database and (not backend.queues or queue in backend.queues)
    alias = next((alias for alias, serves in ours.items() if serves), DEFAULT_TASK_BACKEND_ALIAS)
    is_default = ours.get(DEFAULT_TASK_BACKEND_ALIAS) or len(ours) == 1
    named = "" if is_default else f"--backend {alias} "
    return f"manage.py meanwhile worker {named}--queues {logs.escape(queue)} {_FLAGS[executor]}"


class Watch:
    """Remembers when a queue was last asked about. ``_lock`` guards ``_asked``."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, str, Executor], float] = {}
        self._expected = 0.0

    def expect(self, seconds: float) -> None:
        """Say that a worker is on its way: nobody is asked before that many seconds have passed."""
        self._expected = self._clock.monotonic() + seconds

    def is_due(self, alias: str, queue: str, executor: Executor) -> bool:
        """Whether it is time to ask again. Cheap, for every enqueue."""
        asked = self._asked.get((alias, queue, executor))
        if asked is not None:
            return self._clock.monotonic() - asked >= PERIOD
        return self._clock.monotonic() >= self._expected

    def look(self, alias: str, wanted: Iterable[tuple[str, Executor]]) -> None:
        """Ask about the pairs that are due, and warn of those that nobody works.

        Call it after the commit, outside any transaction. It never raises because
        of the database.
        """
        due = self._take(alias, wanted)
        if not due:
            return
        try:
            missing = unworked(alias, due)
        except DatabaseError as error:
            logger.debug("database %r: whether anybody works could not be asked: %s", alias, error)
            return
        for queue, executor in missing:
            logger.warning(
                "nobody works queue %r with executor %r on database %r: its jobs wait. "
                "Start a worker: %s",
                queue, str(executor), alias, worker_line(alias, queue, executor),
            )  # fmt: skip

    def _take(self, alias: str, wanted: Iterable[tuple[str, Executor]]) -> list[tuple[str, Executor]]:
        now = self._clock.monotonic()
        with self._lock:
            if len(self._asked) > _MAX_KEYS:  # queue names that are made up as it goes
                self._asked.clear()
            due = [pair for pair in wanted if self.is_due(alias, *pair)]
            self._asked.update({(alias, *pair): now for pair in due})
        return due

    def forget(self) -> None:
        """Ask again at the next enqueue. For tests."""
        with self._lock:
            self._asked.clear()

    def renew_lock(self) -> None:
        """Forget a lock that another thread held while this process was forked."""
        self._lock = threading.Lock()


watch = Watch(conf.real_clock())
"""The one of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=watch.renew_lock)
