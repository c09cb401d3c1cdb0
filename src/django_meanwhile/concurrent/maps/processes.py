"""The processes of ``parallel_map(executor="process")``: warm, shared by the whole server process, tied to it.

::

    any thread ──submit──▶ inbox ─┐                        ┌─▶ child: set up ▶ ready ▶ call ▶ reply ▶ call ...
                                  ├─▶ one thread: dispatch ┤
    any thread ───stop───▶ inbox ─┘   start, kill, reap    └─▶ child

One thread owns all children; others only put into its inbox. It comes with the first call and goes, with the
children, when they have been idle for a while.

Not ``concurrent.futures.ProcessPoolExecutor``: there a child that is killed breaks the calls of everybody and does not
tell its exit status, a call that runs cannot be stopped, the children outlive a parent that is killed, and they import
the server's ``__main__`` once more.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from queue import Empty, SimpleQueue
from typing import Any

from django.conf import settings as django_settings

from ... import logs
from ...conf import get_settings
from ...core.errors import NotAllowed, ProcessFailed
from ...ties import describe_status, interpreter
from .callee import BROKEN, READY
from .parcel import InTheChild

logger = logs.get_logger("concurrent")

START_WITHIN = 60.0
"""Seconds that a child may take for importing the project."""

STOP_WITHIN = 0.5
"""Seconds that a call which nobody wants any more may go on before its child is killed: a new child costs as much."""

_BOOT = (
    "import json, sys; s = json.loads(sys.argv[1]); sys.path[:] = s['path'];"
    "from django_meanwhile.concurrent.maps.callee import main; main(s)"
)


class Call(Future[bytes]):
    """A job that was submitted, and its reply."""

    def __init__(self, job: bytes, label: str, pool: Pool) -> None:
        super().__init__()
        self.job = job
        self.label = label
        self._pool = pool
        self.is_unwanted = False

    def stop(self) -> None:
        """Have it end: at once if it has not begun, else its process is killed. Takes no lock of the pool's.

        The garbage collector calls it, in whatever thread, at whatever moment.
        """
        self.is_unwanted = True
        self.cancel()
        self._pool.look()


@dataclass(eq=False, kw_only=True)
class Child:
    """A process, idle unless it has a call. Touched by the pool's thread only."""

    process: subprocess.Popen[bytes]
    connection: Connection
    leash: int
    born: float
    is_ready: bool = False
    call: Call | None = None
    kill_at: float | None = None
    idle_since: float = field(default=0.0)

    @classmethod
    def spawn(cls) -> Child:
        """Start a process. From the pool's thread only: the kernel ties it to the thread that forks."""
        ours, theirs = socket.socketpair()
        reader, leash = os.pipe()
        with theirs:
            specification = {
                "path": sys.path, "parent": os.getpid(), "connection": theirs.fileno(), "leash": reader,
            }  # fmt: skip
            warnings = [f"-W{option}" for option in sys.warnoptions]
            try:
                process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own code
                    [interpreter(), *warnings, "-c", _BOOT, json.dumps(specification)],
                    pass_fds=(theirs.fileno(), reader),
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, "DJANGO_SETTINGS_MODULE": settings_module()},
                )
            except BaseException:  # re-raised: no descriptor is left behind, whatever it was
                ours.close()
                os.close(leash)
                raise
            finally:
                os.close(reader)
        return cls(process=process, connection=Connection(ours.detach()), leash=leash, born=time.monotonic())

    def end(self) -> int:
        """Kill it if it lives, and reap it. Returns its exit status."""
        self.process.kill()
        self.connection.close()
        os.close(self.leash)
        return self.process.wait()


class Pool:
    """See the module. ``_lock`` guards ``_thread``; everything below it is the thread's own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._inbox: SimpleQueue[Call] = SimpleQueue()
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._is_closed = False
        self._pending: deque[Call] = deque()
        self._children: list[Child] = []

    # --- any thread -----------------------------------------------------------------------------

    def submit(self, job: bytes, label: str) -> Call:
        """Have a job run as soon as a process is free."""
        call = Call(job, label, self)
        with self._lock:
            if self._is_closed:
                raise ProcessFailed(f"{label}: the interpreter is ending; no process is started any more.")
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name="meanwhile-processes", daemon=True)
                thread.start()  # may fail: then nothing was submitted
                self._thread = thread
            self._inbox.put(call)
        self.look()
        return call

    def look(self) -> None:
        """Have the thread look at what has changed. Takes no lock."""
        with suppress(OSError):  # full: it will look anyway; or closed
            self._waker.send(b"\0")

    def pids(self) -> list[int]:
        """Return the process ids of the children, for tests and tools."""
        return [child.process.pid for child in list(self._children)]

    def close(self) -> None:
        """End the thread and all children. Whatever runs fails."""
        with self._lock:
            self._is_closed = True
            thread = self._thread
        if thread is not None:
            self.look()
            thread.join()
        self._woken.close()
        self._waker.close()

    def forget(self) -> None:
        """In a process that was forked off: let go of what is the parent's."""
        self._woken.close()
        self._waker.close()
        for child in self._children:
            with suppress(OSError):
                child.connection.close()
            with suppress(OSError):
                os.close(child.leash)
            child.process.returncode = 0  # not ours to reap

    # --- the thread -----------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while self._stay():
                self._dispatch()
                if self._children:
                    self._wait()
        except BaseException as error:  # whatever it was, those who wait for a reply are told
            logger.exception("the processes of parallel_map() ended by an error of their own")
            self._end_all(error)

    def _stay(self) -> bool:
        """Whether there is anything to do, or soon may be."""
        with suppress(Empty):
            while True:
                self._pending.append(self._inbox.get_nowait())
        if self._is_closed:
            self._end_all(ProcessFailed("the interpreter is ending"))
            return False
        if self._pending or self._children:
            return True
        with self._lock:
            if self._inbox.empty():
                self._thread = None
                return False
        return self._stay()

    def _end_all(self, why: BaseException) -> None:
        with self._lock:
            self._thread = None
        for child in self._children:
            child.end()
            if child.call is not None:
                _fail(child.call, why)
        self._children.clear()
        while self._pending:
            _fail(self._pending.popleft(), why)

    def _dispatch(self) -> None:
        """Give pending calls to idle children; start children for the rest, as many as are allowed."""
        now = time.monotonic()
        idle = [child for child in self._children if child.is_ready and child.call is None]
        idle.sort(key=lambda child: child.idle_since)  # the last one that was used comes first; the others may end
        while self._pending and idle:
            call = self._pending.popleft()
            if call.set_running_or_notify_cancel():
                self._give(idle.pop(), call)
        starting = sum(not child.is_ready for child in self._children)
        limits = get_settings().concurrent
        room = limits.processes - len(self._children)
        for _ in range(min(room, len(self._pending) - starting)):
            try:
                self._children.append(Child.spawn())
            except OSError as error:
                self._cannot_start(str(error), "")
                break
        for child in list(self._children):
            if child.call is not None and child.call.is_unwanted and child.kill_at is None:
                child.kill_at = now + STOP_WITHIN
            if (child in idle and now - child.idle_since >= limits.idle) or (child.kill_at or now + 1) <= now:
                self._bury(child)
            elif not child.is_ready and now - child.born > START_WITHIN:
                child.end()
                self._children.remove(child)
                self._cannot_start(f"it was not set up after {START_WITHIN:g} s", "")

    def _give(self, child: Child, call: Call) -> None:
        child.call = call
        with suppress(OSError):  # dead: seen by what follows
            child.connection.send_bytes(call.job)

    def _wait(self) -> None:
        now, idle = time.monotonic(), get_settings().concurrent.idle
        times = [now + START_WITHIN]
        for child in self._children:
            if not child.is_ready:
                times.append(child.born + START_WITHIN)
            elif child.call is None:
                times.append(child.idle_since + idle)
            elif child.kill_at is not None:
                times.append(child.kill_at)
        by_connection: dict[Any, Child] = {child.connection: child for child in self._children}
        for ready in wait([self._woken, *by_connection], max(0.0, min(times) - now)):
            if ready is self._woken:
                self._woken.recv(4096)
            else:
                self._hear(by_connection[ready])

    def _hear(self, child: Child) -> None:
        """Take what a child says: that it is ready, a reply, or nothing any more."""
        try:
            message = child.connection.recv_bytes()
        except (EOFError, OSError):
            self._bury(child)
            return
        if child.is_ready:
            call, child.call, child.kill_at = child.call, None, None
            if call is not None:
                call.set_result(message)
        elif message == READY:
            child.is_ready = True
        else:
            child.end()
            self._children.remove(child)
            self._cannot_start("setting up Django failed there", message.removeprefix(BROKEN).decode())
            return
        child.idle_since = time.monotonic()

    def _bury(self, child: Child) -> None:
        """End a child, whether it lives or not; its call fails."""
        self._children.remove(child)
        status = child.end()
        call = child.call
        if call is not None:
            _fail(call, ProcessFailed(
                f"{call.label}: the process that ran it ended; exit status {describe_status(status)}. Other calls are "
                "not affected, and the next one gets a new process."
            ))  # fmt: skip
        elif not child.is_ready:
            self._cannot_start(f"it ended; exit status {describe_status(status)}", "")

    def _cannot_start(self, reason: str, text: str) -> None:
        """Fail what waits: it would go on failing. The next call tries again."""
        while self._pending:
            call = self._pending.popleft()
            error = ProcessFailed(f"{call.label}: no process could be started for it: {reason}.")
            error.__cause__ = InTheChild(text) if text else None
            _fail(call, error)


def settings_module() -> str:
    """Return the name by which a child imports the settings; refuse if there is none."""
    name = getattr(django_settings, "SETTINGS_MODULE", None)
    if not name:
        raise NotAllowed(
            'executor="process" or "interpreter": what runs there imports the settings by their name, and '
            "settings.configure() has given them none. Put them into a module and its name into DJANGO_SETTINGS_MODULE."
        )
    return str(name)


def _fail(call: Call, error: BaseException) -> None:
    if call.running() or call.set_running_or_notify_cancel():
        call.set_exception(error)


_pool: Pool | None = None
_pool_lock = threading.Lock()


def shared_pool() -> Pool:
    """Return the pool of this process."""
    global _pool  # noqa: PLW0603 - one for each process
    with _pool_lock:
        if _pool is None:
            _pool = Pool()
        return _pool


def _close() -> None:
    if _pool is not None:
        _pool.close()


def _forget() -> None:
    """In a forked child: the pool is the parent's, and another thread of it may have had the lock."""
    global _pool, _pool_lock
    if _pool is not None:
        _pool.forget()
    _pool, _pool_lock = None, threading.Lock()


atexit.register(_close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
