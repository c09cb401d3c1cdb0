"""Locks that a finalizer may come upon, whatever other locks its thread holds.

The garbage collector runs finalizers wherever it likes, also in a thread that is changing what a lock guards. A
finalizer may stop calls, or drop an executor. If it waited for a lock, who has that one might in turn wait for what its
thread holds. So it leaves what is to be done with the lock, and whoever has that does it when letting go::

    do(function) ──▶ later ─┬─ nobody has the lock: at once, here
                            ├─ another thread has it ──────────┬─▶ by that thread, at its release()
                            └─ this one has it, further up ────┘

Made by ``pool``, ``thread`` and ``budget``. It knows nothing of what it guards.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

Then = Callable[[], object]


class Lock:
    """A ``threading.RLock`` with ``do()``. Also for ``threading.Condition``."""

    def __init__(self) -> None:
        self._inner = threading.RLock()
        self._later: deque[Callable[[], Then | None]] = deque()  # changed with and without the lock

    def acquire(self) -> None:
        """Wait for the lock. Not in what a finalizer may call."""
        self._inner.acquire()

    def release(self) -> None:
        """Let go of the lock; then do what was left meanwhile."""
        self._inner.release()
        if self._later:
            self._catch_up()

    def __enter__(self) -> None:
        self._inner.acquire()

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._inner.release()  # as release(), which each call of a pool would pay for several times
        if self._later:
            self._catch_up()

    def do(self, function: Callable[[], Then | None]) -> None:
        """Have ``function`` called under the lock, and what it returns without; at once or soon. Never waits.

        Neither may raise.
        """
        self._later.append(function)
        self._catch_up()

    def _catch_up(self) -> None:
        # Whoever fails to acquire has left its function before, and who has the lock looks after it has let go.
        while self._later and not is_held_here(self) and self._inner.acquire(blocking=False):
            then = None
            try:
                if self._later:  # only who has the lock takes something away
                    then = self._later.popleft()()
            finally:
                self._inner.release()
            if then is not None:
                then()

    # --- for threading.Condition: as an RLock ---

    def locked(self) -> bool:
        """Whether anybody holds the lock. From Python 3.14 on, where an RLock can tell."""
        return bool(self._inner.locked())  # type: ignore[attr-defined]

    def _is_owned(self) -> bool:
        return bool(self._inner._is_owned())  # type: ignore[attr-defined]  # noqa: SLF001

    def _release_save(self) -> Any:
        state = self._inner._release_save()  # type: ignore[attr-defined]  # noqa: SLF001
        self._catch_up()
        return state

    def _acquire_restore(self, state: Any) -> None:
        self._inner._acquire_restore(state)  # type: ignore[attr-defined]  # noqa: SLF001


def is_held_here(lock: threading.RLock | Lock) -> bool:
    """Whether the calling thread holds ``lock``. ``threading.Condition`` asks in the same way."""
    return bool(lock._is_owned())  # type: ignore[union-attr]  # noqa: SLF001
