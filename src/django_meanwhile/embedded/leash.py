"""A worker's thread that notices the end of the server that brought it along, and sees to the worker's own.

Its end of the pipe is at end of file once the server is gone. The worker then drains; if it has not ended in time, it
is ended: the lock's next owner buries its rows, and its jobs run again. Meanwhile it keeps the lock's file young, as
cleaners of temporary directories go by age.
"""

from __future__ import annotations

import os
import select
import threading
from contextlib import suppress

GONE_WITHIN = 2.7
"""Seconds from the end of the server to the end of the worker, whatever its jobs and its database do."""

REFRESH_EVERY = 3600.0

EX_CONFIG = 78
"""Exit status of a worker whose code or settings are wrong: to start it again would not help. (sysexits.h)"""


class Leash:
    """See the module. ``server_is_gone`` is set for others to see."""

    def __init__(self, pipe: int, lock: int) -> None:
        self._pipe = pipe
        self._lock = lock
        self._holds_jobs = False
        self.server_is_gone = threading.Event()

    def hold(self) -> None:
        """Start watching; at once, before anything that may take long."""
        threading.Thread(target=self._watch, name="meanwhile-leash", daemon=True).start()

    def hold_jobs(self) -> None:
        """Say that from now on there are jobs to be given back first: whoever calls it sees to ``server_is_gone``."""
        self._holds_jobs = True
        if self.server_is_gone.is_set():
            os._exit(0)

    def _watch(self) -> None:
        while not select.select([self._pipe], [], [], REFRESH_EVERY)[0]:  # nobody ever writes: readable at end of file
            with suppress(OSError):
                os.utime(self._lock)
        self.server_is_gone.set()
        if not self._holds_jobs:
            os._exit(0)
        threading.Event().wait(GONE_WITHIN)
        os._exit(1)  # the kernel ends the children with it
