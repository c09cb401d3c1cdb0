"""``ThreadPoolExecutor`` and ``default_executor()``: the standard library's interface, safe under Django.

::

    submit ─▶ refuse inside atomic() ─▶ capture ─▶ start ─▶ pool ─▶ thread
                                          (in a TestCase: run at once, here)
"""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Literal, NoReturn, ParamSpec, TypeVar

from asgiref.sync import iscoroutinefunction

from ...conf import get_settings
from ...core.errors import InvalidOption, NotAllowed
from ..context import Surroundings, capture
from ..naming import name_of
from ..transactions import SUBMITTED, runs_inline_or_refuse
from .future import Future
from .pool import BrokenThreadPool, Pool
from .thread import current, run_plainly

__all__ = ["BrokenThreadPool", "ThreadPoolExecutor", "default_executor"]

P = ParamSpec("P")
T = TypeVar("T")

_numbers = itertools.count()


class ThreadPoolExecutor(concurrent.futures.Executor):
    """Threads that leak nothing and lose nothing. Not durable: for work that must survive, use @task.

    Takes what the standard library's takes, and:

    ``max_queued``  calls that may wait for a thread. Default: ``MEANWHILE["CONCURRENT"]["max_queued"]``.
    ``when_full``   what becomes of the next one: "wait" for room, or "reject" it with ``QueueFull``.
    ``idle``        a thread without work ends after so many seconds, and closes its connections.
    ``outside_transaction``  allow calls inside ``atomic()``, of which they will see nothing.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_queued: int | None = None,
        when_full: Literal["wait", "reject"] = "wait",
        idle: float | None = None,
        outside_transaction: bool = False,
    ) -> None:
        if max_workers is None:
            max_workers = min(32, (getattr(os, "process_cpu_count", os.cpu_count)() or 1) + 4)
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if when_full not in {"wait", "reject"}:
            raise InvalidOption(f"ThreadPoolExecutor(when_full={when_full!r}): must be 'wait' or 'reject'.")
        if max_queued is not None and max_queued < 0:
            raise InvalidOption(f"ThreadPoolExecutor(max_queued={max_queued!r}): must be 0 or more calls.")
        if idle is not None and not 0 <= idle <= threading.TIMEOUT_MAX:
            raise InvalidOption(
                f"ThreadPoolExecutor(idle={idle!r}): must be 0 or more seconds, at most threading.TIMEOUT_MAX."
            )
        settings = get_settings().concurrent
        self._max_workers = max_workers
        self._outside_transaction = outside_transaction
        self._pool = Pool(
            thread_name_prefix or f"ThreadPoolExecutor-{next(_numbers)}",
            max_workers,
            max_queued=settings.max_queued if max_queued is None else max_queued,
            when_full=when_full,
            idle=settings.idle if idle is None else idle,
            initializer=initializer,
            initargs=initargs,
        )
        weakref.finalize(self, self._pool.abandon).atexit = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a thread call ``fn``; return its future.

        Raises ``NotAllowed`` for a coroutine function, ``InsideTransaction`` inside ``atomic()``, ``QueueFull`` if
        there is no room and ``when_full`` is "reject", ``RuntimeError`` after ``shutdown()``. In a ``TestCase`` the
        call has ended when this returns.
        """
        if _makes_coroutines(fn):
            raise NotAllowed(
                f"submit(): {name_of(fn)} is a coroutine function: a thread would make a coroutine, and nobody would "
                "await it. Submit a plain function; await a coroutine, several at once with aparallel()."
            )
        if runs_inline_or_refuse("submit()", outside_transaction=self._outside_transaction, words=SUBMITTED):
            future: Future[T] = Future(None, fn, args, kwargs, capture(fn))
            run_plainly(future)
            return future
        return self.start(fn, args, kwargs)

    def start(
        self,
        function: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        surroundings: Surroundings | None = None,
    ) -> Future[T]:
        """Do as ``submit()``, for callers here that have looked at the transactions and captured the surroundings."""
        future = Future(self._pool, function, args, kwargs, surroundings or capture(function))
        self._pool.put(future)
        return future

    def is_mine(self) -> bool:
        """Whether the calling thread is one of this executor's."""
        thread = current()
        return thread is not None and thread.pool is self._pool

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        """Take no more calls; end the threads once the queue is empty, and wait for that."""
        threads = self._pool.close("cannot schedule new futures after shutdown")
        if cancel_futures:
            for future in self._pool.withdraw_all():
                future.cancel()
                future.drop()
        if wait:
            for thread in threads:
                thread.join()

    # What the standard library's executor has too, and other code may look at.

    @property
    def _broken(self) -> bool:
        return self._pool.is_broken()

    @property
    def _threads(self) -> set[threading.Thread]:
        return set(self._pool.threads())


class _SharedExecutor(ThreadPoolExecutor):
    """What ``default_executor()`` returns: the process's one pool, which nobody may end for all."""

    def __init__(self, pool: Pool, *, outside_transaction: bool) -> None:  # its pool is made already
        self._pool = pool
        self._max_workers = pool.max_workers
        self._outside_transaction = outside_transaction

    def __enter__(self) -> NoReturn:
        self.shutdown()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> NoReturn:  # noqa: ARG002, FBT001, FBT002
        """Refuse."""
        raise NotAllowed(
            "default_executor() is shared by the whole process, so it is never shut down and no context manager. "
            "Wait for its futures; or use a ThreadPoolExecutor of your own."
        )


def _makes_coroutines(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


_lock = threading.Lock()
_default: Pool | None = None  # guarded by _lock


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def default_executor(*, outside_transaction: bool = False) -> ThreadPoolExecutor:
    """Return the executor that the whole process shares. Not durable: for work that must survive, use @task.

    Its size is ``MEANWHILE["CONCURRENT"]["max_workers"]``. With ``outside_transaction`` it takes calls inside
    ``atomic()``.
    """
    global _default  # noqa: PLW0603
    with _lock:
        if _default is None:
            settings = get_settings().concurrent
            _default = Pool(
                "default_executor",
                settings.max_workers,
                max_queued=settings.max_queued,
                when_full=settings.when_full,
                idle=settings.idle,
            )
        return _SharedExecutor(_default, outside_transaction=outside_transaction)
