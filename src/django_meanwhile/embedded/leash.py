"""A worker's thread that notices the end of the server that brought it along, and sees to the worker's own.

Its end of the pipe is at end of file once the server is gone. The worker is then told to drain, as SIGTERM does; if
it has not ended in time, it is ended: the lock's next owner buries its rows, and its jobs run again.
"""

from __future__ import annotations

import os
import signal
import threading

GONE_WITHIN = 2.7
"""Seconds from the end of the server to the end of the worker, whatever its jobs and its database do."""


class Leash:
    """See the module. ``server_is_gone`` is set for others to wait on."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self.server_is_gone = threading.Event()

    def hold(self) -> None:
        """Start watching; at once, before anything that may take long."""
        threading.Thread(target=self._watch, name="meanwhile-leash", daemon=True).start()

    def _watch(self) -> None:
        os.read(self._pipe, 1)  # nobody ever writes: this returns at end of file
        self.server_is_gone.set()
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(GONE_WITHIN)
        os._exit(1)  # the kernel ends the children with it
