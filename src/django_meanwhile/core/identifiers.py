"""Version 7 UUIDs (RFC 9562): ids that sort by the time of their making.

Python gains ``uuid.uuid7`` with 3.14; this is method 3 of section 6.2 (replace
the leftmost random bits with increased clock precision) and never goes back
within one process, so jobs of one process are claimed in the order of enqueue.
"""

from __future__ import annotations

import os
import threading
import time
from uuid import UUID

_SUB_MILLISECOND_BITS = 12
_lock = threading.Lock()
_last = 0  # guarded by _lock: (milliseconds << 12) | fraction of the newest id


def uuid7() -> UUID:
    """Return a new, time-ordered UUID. Strictly increasing within a process."""
    global _last  # noqa: PLW0603 - one counter per process is the point
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    stamp = (milliseconds << _SUB_MILLISECOND_BITS) | (rest << _SUB_MILLISECOND_BITS) // 1_000_000
    with _lock:
        stamp = _last = max(stamp, _last + 1)
    milliseconds, fraction = divmod(stamp, 1 << _SUB_MILLISECOND_BITS)
    random = int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
    return UUID(int=(milliseconds << 80) | (7 << 76) | (fraction << 64) | (0b10 << 62) | random)


if hasattr(os, "register_at_fork"):
    # A fork while another thread holds the lock would leave the child's lock taken for ever.
    def _new_lock() -> None:
        global _lock  # noqa: PLW0603
        _lock = threading.Lock()

    os.register_at_fork(after_in_child=_new_lock)
