"""A server's thread that sees to the host's worker: waits for the lock, starts the worker, starts it again.

Made by ``start``, one for each backend of ours; a thread of every server process, of which one on a host has the
worker and the others wait. Asks no database and touches no signal handler. What ties the worker to this process is
the writing end of a pipe: closed by ``stop``, or by the kernel when this process ends, however it ends.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TypedDict
from uuid import uuid4

from .. import conf, logs, ties
from ..ties import describe_status
from ..worker.part import Part
from . import serving
from .leash import EX_CONFIG
from .lock import Note, NoWorker, lock_path, read_note, try_lock, write_note

logger = logs.get_logger("worker")

START_AFTER = 0.1
"""Seconds that the server gets first: for its first answer, or for its own start."""

LOOK_EVERY = 0.25
"""Seconds between two looks at a lock that another process has."""

STARTS_WITHIN = 15.0
"""Seconds that a worker gets before anybody complains that a queue has none."""

RESTART_FIRST, RESTART_LAST = 0.5, 30.0
HEALTHY_AFTER = 60.0
"""A worker that lived this long did not die of its start: the delay is forgotten."""

RESTS_FOR = 30.0
"""Seconds without a worker after somebody has told it to stop: most likely the server's own end is near."""

_BOOT = (
    "import json, sys; s = json.loads(sys.argv[2]); sys.path[:] = s['path'];"
    "from django_meanwhile.embedded.boot import main; main(s)"
)


class Specification(TypedDict):
    """Everything a worker is told at its start. JSON. Descriptors are inherited."""

    path: list[str]
    backend: str
    supervisor: str
    predecessors: list[str]
    checks: bool
    pipe: int
    lock: int


fork_lock = threading.Lock()
"""Held while descriptors are opened or closed that a forked child must not keep, and around every fork."""


class Keeper(Part):
    """See the module. ``fork_lock`` guards ``_leash`` and ``_held``: a number is another file's once closed."""

    name = "keeper"

    def __init__(self, backend: str, database: str) -> None:
        super().__init__()
        self._backend = backend
        self._database = database
        self._clock = conf.real_clock()
        self._born = self._clock.monotonic()
        self._woken = threading.Event()
        self._leash: int | None = None
        self._held: int | None = None

    # --- from other threads -------------------------------------------------------------

    def wake(self) -> None:
        """See ``Part``. Called by ``stop``: the worker's leash is let go, and it ends."""
        self._woken.set()
        self._let_go()

    def abandon(self) -> None:
        """Close, in a forked child, what ties the worker to the parent: the parent's end must not go unnoticed."""
        for descriptor in (self._leash, self._held):
            if descriptor is not None:
                os.close(descriptor)
        self._leash = self._held = None

    # --- the thread ---------------------------------------------------------------------

    def run(self) -> None:
        """Wait for the lock and keep a worker, until stopped or until no worker can be had."""
        self._woken.clear()
        self._woken.wait(START_AFTER)
        try:
            self._keep_one_after_another()
        except NoWorker as error:
            logger.error("backend %r has no embedded worker: %s", self._backend, error)  # noqa: TRY400 - it says it all

    def _keep_one_after_another(self) -> None:
        delay = RESTART_FIRST
        while not self.is_stopping:
            began = self._clock.monotonic()
            try:
                status = self._keep(lock_path(self._backend, self._database))
            except OSError as error:  # no memory, no processes, no descriptors left: that may pass
                reason = f"could not be started: {error}"
            else:
                if status is None:
                    self._woken.wait(LOOK_EVERY)
                    continue
                if self._woken.is_set():
                    return
                if status == EX_CONFIG:
                    logger.error(
                        "backend %r has no embedded worker: mend what it said, and restart the server", self._backend
                    )
                    return
                if status == 0:
                    logger.info("the embedded worker was told to stop; this server has none for %g s", RESTS_FOR)
                    continue
                reason = f"ended by itself: exit status {describe_status(status)}"
            delay = RESTART_FIRST if self._clock.monotonic() - began >= HEALTHY_AFTER else delay
            logger.warning("the embedded worker %s; another one is started in %g s", reason, delay)
            self._woken.wait(delay)
            delay = min(RESTART_LAST, 2 * delay)

    def _keep(self, path: Path) -> int | None:
        """Start a worker and wait for its end; None while there is to be none, as another process has the lock."""
        with fork_lock:
            self._held = try_lock(path)
            if self._held is None:
                return None
            try:
                note = read_note(self._held)
                if self._rests(note):
                    return None
                process = self._start_worker(self._held, note)
            except OSError:
                self._close_leash()
                raise
            finally:
                os.close(self._held)  # the worker's tree holds it now, and nobody else
                self._held = None
        self._say(f"a worker for backend {self._backend!r} comes along as process {process.pid}")
        try:
            if self._woken.is_set():  # stop() came before there was a leash to let go
                self._let_go()
            return process.wait()
        finally:
            self._let_go()

    def _rests(self, note: Note) -> bool:
        """Whether the last worker was told to stop just now, while this server was up. A server that came since may."""
        told = note.stopped_at
        return told is not None and self._born < told <= self._clock.monotonic() < told + RESTS_FOR

    def _start_worker(self, lock: int, note: Note) -> subprocess.Popen[bytes]:
        supervisor = uuid4()
        write_note(lock, Note(supervisors=(*note.supervisors, supervisor)))
        reader, self._leash = os.pipe()
        specification: Specification = {
            "path": sys.path,
            "backend": self._backend,
            "supervisor": str(supervisor),
            "predecessors": [str(each) for each in note.supervisors],
            "checks": serving.is_runserver(),
            "pipe": reader,
            "lock": lock,
        }
        title = f"embedded worker of process {os.getpid()}"
        warnings = [f"-W{option}" for option in sys.warnoptions]
        try:
            return subprocess.Popen(  # noqa: S603 - our own interpreter, our own code
                [interpreter(), *warnings, "-c", _BOOT, title, json.dumps(specification)],
                pass_fds=(reader, lock),
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the server; the worker learns of its end by the pipe
            )
        finally:
            os.close(reader)

    def _let_go(self) -> None:
        """Close the leash: the worker ends. Idempotent."""
        with fork_lock:
            self._close_leash()

    def _close_leash(self) -> None:
        """Do so, under ``fork_lock``."""
        if self._leash is not None:
            os.close(self._leash)
            self._leash = None

    def _say(self, text: str) -> None:
        """Log it; under ``runserver``, whose terminal shows no INFO of ours, print it."""
        logger.info("%s", text)
        if serving.is_runserver() and not logger.isEnabledFor(logging.INFO):
            sys.stderr.write(f"Meanwhile, {text}.\n")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=fork_lock.acquire, after_in_parent=fork_lock.release, after_in_child=fork_lock.release
    )  # fmt: skip


def interpreter() -> str:
    """Return the Python to start a worker with: under mod_wsgi and uWSGI ``sys.executable`` is the server.

    Raises ``NoWorker`` if none can be found.
    """
    try:
        return ties.interpreter()
    except FileNotFoundError as error:
        raise NoWorker(str(error)) from None
