"""The start/stop contract of every long-lived part that is a thread.

``start`` is idempotent, ``stop`` may come before ``start``, both may be repeated,
and a stopped part can be started again. ``stop`` asks; ``join`` waits. One stress
test (``tests/worker/test_part.py``) runs them all.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

from .. import logs
from ..connections import close_thread_connections

logger = logs.get_logger("worker")


class Part(ABC):
    """A thread of ours with a name. Subclasses write ``run``, which ends after ``stop``."""

    name: str

    def __init__(self) -> None:
        self._life = threading.Lock()  # guards _thread, and that start and stop are not half done
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def is_stopping(self) -> bool:
        """Whether ``stop`` was called since the last ``start``."""
        return self._stop.is_set()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        with self._life:
            return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread, unless it runs."""
        with self._life:
            if self._thread is not None and self._thread.is_alive():
                if not self._stop.is_set():
                    return
                self._thread.join()
            self._stop.clear()
            self._thread = threading.Thread(target=self._main, name=f"meanwhile-{self.name}", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end."""
        with self._life:  # a wake-up that came late would reach the thread of the next start
            self._stop.set()
            self.wake()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread to end; returns whether it has."""
        with self._life:
            thread = self._thread
        if thread is None or thread is threading.current_thread():
            return thread is None
        thread.join(timeout)
        return not thread.is_alive()

    def wake(self) -> None:  # noqa: B027 - most wait on nothing else
        """Make a waiting ``run`` look around. Override it where ``run`` waits on more."""

    @abstractmethod
    def run(self) -> None:
        """Do the work until ``is_stopping``."""

    def _main(self) -> None:
        try:
            self.run()
        except Exception:
            logger.exception("the %s ended by an error of its own", self.name)
            self.on_failure()
        finally:
            close_thread_connections()

    def on_failure(self) -> None:  # noqa: B027 - most processes go on
        """Called in the thread if ``run`` raised: a bug. Override it to end the process."""
