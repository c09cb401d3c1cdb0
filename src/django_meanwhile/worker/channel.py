"""What a supervisor says to a child: JSON lines over a pipe, one writer, one reader.

The other direction needs none: the child speaks through its slot table and its
exit status. The pipe's end of file means that the supervisor is gone.
"""

from __future__ import annotations

import json
import os
import threading
from typing import Any, Literal, TypedDict

Op = Literal["wake", "stop", "drain", "interrupt"]


class Message(TypedDict, total=False):
    """``wake``: claim now. ``stop``: one run, with a reason. ``drain``: claim no more.

    ``interrupt``: give everything back now.
    """

    op: Op
    job: str
    epoch: int
    reason: Literal["Cancelled", "Interrupted", "LeaseLost", "TaskTimeout"]


class Sender:
    """The supervisor's end, for all of its threads. Never blocks: a full pipe means a child that does not read.

    ``_lock`` guards ``_fd``: a number that was closed may be another file's by now.
    """

    def __init__(self, fd: int) -> None:
        self._lock = threading.Lock()
        self._fd: int | None = fd
        os.set_blocking(fd, False)

    def send(self, message: Message) -> bool:
        """Send; returns whether the child can receive it."""
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            if self._fd is None:
                return False
            try:
                os.write(self._fd, line)
            except (BlockingIOError, BrokenPipeError):
                return False
        return True

    def close(self) -> None:
        """Close: the child takes it as the supervisor's death. Idempotent."""
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None


class Receiver:
    """The child's end. ``receive`` after the descriptor is readable."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._rest = b""

    def receive(self) -> list[dict[str, Any]] | None:
        """Return whole messages; None once the supervisor is gone."""
        data = os.read(self.fd, 65_536)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]
