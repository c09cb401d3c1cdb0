"""A run while it goes on: the one value that its body, its executor and its watchers share.

Made by the executor when it takes the job, read by the body through its context,
told to stop by the child's sentinel. Never writes to the database.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING, Any

from ..core.errors import EncodingError, JobStopped, LeaseLost
from ..core.text import storable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core.job import ClaimedJob
    from ..tasks.task import Task

MAX_PROGRESS_MESSAGE = 1000
"""Characters of a progress message that are kept."""

_LARGEST = sys.float_info.max


class RunHandle:
    """Mutable state of one run. ``_lock`` guards everything below it."""

    def __init__(self, job: ClaimedJob, task: Task[..., Any], deadline: float | None) -> None:
        self.job = job
        self.task = task
        #: Monotonic seconds at which the run is overdue, or None.
        self.deadline = deadline
        #: Monotonic seconds at which the body was begun; noted by the ledger.
        self.begun_at = 0.0
        self._lock = threading.Lock()
        self._stop: type[JobStopped] | None = None
        self._interrupter: Callable[[], object] | None = None
        self._progress: str | None = None
        self._unwritten = False
        self._ended = False

    # --- stopping -----------------------------------------------------------------------

    @property
    def stop_reason(self) -> type[JobStopped] | None:
        """Why the body should end, or None."""
        return self._stop

    def stop(self, reason: type[JobStopped]) -> bool:
        """Ask the body to end. The first reason stands, but ``LeaseLost`` outranks all.

        Returns whether this call changed anything. A body that has ended is left alone.
        """
        with self._lock:
            if self._ended or self._stop is LeaseLost or (self._stop and reason is not LeaseLost):
                return False
            self._stop = reason
            interrupter = self._interrupter
        if interrupter is not None:
            interrupter()
        return True

    def interrupt_with(self, interrupter: Callable[[], object] | None) -> None:
        """Say how the executor can break into the body; called at once if it is too late."""
        with self._lock:
            self._interrupter = interrupter
            late = self._stop is not None
        if late and interrupter is not None:
            interrupter()

    def raise_if_stopped(self) -> None:
        """Raise the reason to stop, if there is one."""
        if self._stop is not None:
            raise self._stop(self.describe(self._stop))

    @property
    def label(self) -> str:
        """Name the job, for messages."""
        return f"{self.job.task} {self.job.id}"

    def describe(self, reason: type[JobStopped]) -> str:
        """Say what ``reason`` means for this job, for the traceback that a user reads."""
        what = self.label
        if reason.__name__ == "TaskTimeout":
            return f"{what} ran longer than its timeout of {self.task.timeout:g} s"
        return f"{what}: {(reason.__doc__ or '').partition(chr(10))[0]}"

    def end(self) -> None:
        """Say that the body has ended; nothing can stop it any more."""
        with self._lock:
            self._ended = True
            self._interrupter = None

    # --- progress -----------------------------------------------------------------------

    def set_progress(self, n: float, total: float | None, message: str) -> None:
        """Remember the newest progress. Written at most once a second, and with the finish."""
        try:
            text = encode_progress(n, total, message)
        except EncodingError as error:
            raise EncodingError(f"{self.label}: {error}") from None
        with self._lock:
            self._progress = text
            self._unwritten = True

    @property
    def progress(self) -> str | None:
        """The newest progress, encoded."""
        return self._progress

    def take_progress(self) -> str | None:
        """Return progress that has not been written yet, once."""
        with self._lock:
            if not self._unwritten or self._ended:
                return None
            self._unwritten = False
            return self._progress

    def keep_progress(self) -> None:
        """Say that what was taken could not be written: it is to be taken again."""
        with self._lock:
            self._unwritten = self._progress is not None


def encode_progress(n: float, total: float | None, message: str) -> str:
    """Return the stored form: ``{"n": number, "total": number or null, "message": text}``.

    Raises ``EncodingError`` for anything but finite numbers.
    """
    for name, value in (("n", n), ("total", total)):
        if value is None and name == "total":
            continue
        finite = isinstance(value, int | float) and -_LARGEST <= value <= _LARGEST
        if not finite or isinstance(value, bool):
            msg = f"progress({name}={value!r}): must be a finite number; pass a count or a fraction."
            raise EncodingError(msg)
    kept = storable(str(message))[:MAX_PROGRESS_MESSAGE]
    return json.dumps({"n": n, "total": total, "message": kept})
