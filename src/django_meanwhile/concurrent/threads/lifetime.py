"""What becomes of the pools when the process forks, and when it ends.

Fork: all locks are taken before, so that nothing is half done in the child; there the pools are
empty, and work as new ones. End: as with the standard library's executors, what was submitted
is still run, and the process waits for it; idle threads end at once.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from ... import logs
from . import budget, deadlock, thread

if TYPE_CHECKING:
    from .pool import Pool

logger = logs.get_logger("concurrent")

_lock = threading.Lock()
_pools: weakref.WeakSet[Pool] = weakref.WeakSet()  # guarded by _lock
_is_ending = False  # guarded by _lock

AT_EXIT = "cannot schedule new futures after interpreter shutdown"


def register(pool: Pool) -> None:
    """Take care of a new pool. ``RuntimeError`` at the end of the process."""
    with _lock:
        if _is_ending:
            raise RuntimeError(AT_EXIT)
        _pools.add(pool)


# --- fork -------------------------------------------------------------------------------------

_locked: list[Any] = []  # guarded by _lock: what has taken its lock for a fork, in this order


def _before_fork() -> None:
    _lock.acquire()
    everything: list[Any] = [deadlock, *_pools, budget]
    for one in everything:
        one.before_fork()
        _locked.append(one)


def _after_fork_in_parent() -> None:
    while _locked:
        _locked.pop().after_fork_in_parent()
    _lock.release()


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    while _locked:
        _locked.pop().after_fork_in_child()
    here = thread.current()
    if here is not None:
        here.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


# --- the end ----------------------------------------------------------------------------------


def _end() -> None:
    global _is_ending  # noqa: PLW0603
    with _lock:
        _is_ending = True
        pools = list(_pools)
    threads = [python for pool in pools for python in pool.close(AT_EXIT)]
    try:
        for python in threads:
            python.join()
    except KeyboardInterrupt:
        # Not is_alive(): up to Python 3.12 it is wrong about a thread whose join() was interrupted.
        left = sorted(python.name for pool in pools for python in pool.threads())
        logger.warning("interrupted at the end of the process: not waiting for %s", ", ".join(left))


# The standard library's executors use this private function, which runs before Python joins threads and ends those
# executors, and in children of multiprocessing. Where it is missing, the public one will do, which runs a little later.
getattr(threading, "_register_atexit", atexit.register)(_end)
