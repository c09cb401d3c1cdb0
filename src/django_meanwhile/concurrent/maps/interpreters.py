"""Subinterpreters, each with a GIL of its own: ``parallel_map(executor="interpreter")`` on Python 3.14 and later.

Called by ``lanes``. What runs in them is ``callee``'s, as in a child process; many C extensions, that of psycopg among
them, cannot be imported there. Tested by hand, with 3.14.10: the versions that each commit is tested with have none.
"""

from __future__ import annotations

import sys
import threading
from concurrent import futures
from typing import Any

from ...conf import get_settings
from . import callee
from .processes import settings_module

_lock = threading.Lock()
_pool: Any = None  # guarded by _lock


def submit(job: bytes, _label: str) -> futures.Future[bytes]:
    """Have an interpreter answer a job."""
    global _pool  # noqa: PLW0603 - one for each process
    with _lock:
        if _pool is None:
            _pool = _make()
        try:
            future: futures.Future[bytes] = _pool.submit(callee.answer, job)
        except futures.BrokenExecutor:  # one could not be started, for want of memory maybe: that may pass
            _pool = _make()
            future = _pool.submit(callee.answer, job)
    return future


def _make() -> Any:
    make: Any = futures.InterpreterPoolExecutor  # type: ignore[attr-defined,unused-ignore]
    return make(
        get_settings().concurrent.processes,
        initializer=callee.set_up_interpreter,
        initargs=(settings_module(), list(sys.path)),
    )
