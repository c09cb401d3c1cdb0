"""One slot in the process's main thread: ``executor="process"``, and suspects alone.

The main thread is the only one that a signal can break into: SIGTERM raises the
reason to stop inside the body, and the supervisor's SIGKILL follows for bodies
that do not listen. A process of its own runs on a core of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import functools
import inspect
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from ..connections import close_thread_connections
from ..core.states import Executor as Kind
from ..run.pipeline import Call, Gate, call
from .base import Executor, tidy

if TYPE_CHECKING:
    from ..core.errors import JobStopped
    from ..core.outcome import Outcome
    from ..run.handle import RunHandle
    from .base import Ledger


class MainThreadExecutor(Executor):
    """See the module. ``serve`` is called by the main thread and returns after ``stop``."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(Kind.PROCESS, 1, ledger)
        self._gate = Gate()
        #: The stop that was last raised into a body; touched by the main thread.
        self._raised: tuple[RunHandle, type[JobStopped] | None] | None = None
        self._break_in: Callable[[], None] = lambda: None

    def start(self) -> None:
        """See ``Executor.start``. The slot is the thread that calls ``serve``."""
        self._stopping = False

    def on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        """Break into the body, if one runs and was told to stop; once for each reason. The SIGTERM handler."""
        handle = self._gate.handle
        if handle is not None and self._raised != (handle, handle.stop_reason):
            self._raised = handle, handle.stop_reason
            handle.raise_if_stopped()

    def insist(self, handle: RunHandle) -> None:
        """See ``Executor``.

        A signal that comes just before a blocking call begins does not end that call,
        and its handler would wait for it.
        """
        if self._raised != (handle, handle.stop_reason):
            self._break_in()

    def serve(self) -> None:
        """Run jobs until stopped."""
        self._break_in = _breaker()
        try:
            while (job := self._take()) is not None:
                bound = self._begin(job)
                if bound is None:
                    continue
                started = self.ledger.clock.monotonic()
                bound.handle.interrupt_with(self._break_in)
                outcome = contextvars.Context().run(self._call, bound)
                tidy()
                self._end(bound, outcome, self.ledger.clock.monotonic() - started)
        finally:
            close_thread_connections()

    def _call(self, bound: Call) -> Outcome:
        if inspect.iscoroutinefunction(bound.function):
            return call(_Synchronous.of(bound), self._gate)
        return call(bound, self._gate)

    def _replace_slot(self) -> None:
        """Nothing replaces a main thread: the supervisor kills its process."""


def _breaker() -> Callable[[], None]:
    """Return what makes the calling thread's blocking call return, from any thread."""
    if not hasattr(signal, "pthread_kill"):
        return lambda: None
    return functools.partial(signal.pthread_kill, threading.get_ident(), signal.SIGTERM)


class _Synchronous(Call):
    """A suspect's coroutine function, run on a loop of its own."""

    @classmethod
    def of(cls, bound: Call) -> _Synchronous:
        return cls(**{f.name: getattr(bound, f.name) for f in dataclasses.fields(bound)})

    @property
    def function(self) -> Callable[..., object]:
        coroutine_function = self.handle.task.func
        return lambda *args, **kwargs: asyncio.run(coroutine_function(*args, **kwargs))
