"""Every error that django-meanwhile raises on its own account.

::

    MeanwhileError
    ├── InvalidOption (ValueError)       an option of @task or .using() that cannot be
    ├── EncodingError (ValueError)       a value that JSON rows cannot carry
    ├── DecodingError (ValueError)       a stored row that cannot be read back
    ├── TransactionMismatch              enqueue() would commit apart from the caller's data
    ├── ContextError                     a hook of MEANWHILE["CONTEXT"] failed or is missing
    ├── NotCancellable                   the job has already ended
    ├── ResultTimeout (TimeoutError)     result.wait(timeout=…) ran out
    ├── UnknownTask (LookupError)        a stored name that no installed app registers
    ├── ConcurrencyError                 parallel code that would go wrong (django_meanwhile.concurrent)
    │   ├── InsideTransaction            it could not see, or would outlive, the caller's open transaction
    │   ├── QueueFull                    an executor that rejects has no room
    │   ├── WouldDeadlock                everybody who could run the awaited call waits for it
    │   ├── NotAllowed (TypeError)       a call that this way of running cannot take
    │   ├── NoLastingLoop                a coroutine that nobody would run to its end
    │   ├── ProcessFailed                a child process died of a call, or cannot bring back what came of it
    │   ├── SnapshotUnavailable          one snapshot for all, on a database that has none
    │   ├── ConnectionTimeout (TimeoutError)   the process's share of connections was not free in time
    │   ├── LockTimeout (TimeoutError)   somebody else kept the lock
    │   └── LockLost                     the lock went to somebody else while it was held
    ├── Retry                            raised *by a body*: run me again
    └── JobStopped                       raised *in a body*: it should end now
        ├── Cancelled                    somebody asked for it
        ├── TaskTimeout (TimeoutError)   its time is up
        ├── Interrupted                  the worker is going down; the job will be run again
        └── LeaseLost                    the job is no longer this worker's

Names of outcomes that no body raises, but that ``result.errors`` shows::

    Crashed        the process that ran the job died
    Quarantined    the job killed its workers once too often
"""

from __future__ import annotations

from datetime import timedelta


class MeanwhileError(Exception):
    """Base of every error of this package."""


class InvalidOption(MeanwhileError, ValueError):
    """An option of ``@task`` or ``.using()`` is unknown, of a wrong type or impossible."""


class EncodingError(MeanwhileError, ValueError):
    """A value cannot be stored as an argument, result or progress message."""


class DecodingError(MeanwhileError, ValueError):
    """A stored text is not what the codec writes."""


class TransactionMismatch(MeanwhileError):
    """``enqueue()`` inside a transaction of another database than the queue's."""


class ContextError(MeanwhileError):
    """A hook of ``MEANWHILE["CONTEXT"]`` failed at the enqueue or around a body, or is missing where a job needs it."""


class NotCancellable(MeanwhileError):
    """The job has already ended, so it cannot be cancelled or retried as asked."""


class ResultTimeout(MeanwhileError, TimeoutError):
    """``result.wait(timeout=…)`` ended before the job did."""


class UnknownTask(MeanwhileError, LookupError):
    """A stored task name that no installed app registers."""


class ConcurrencyError(MeanwhileError):
    """Base of what ``django_meanwhile.concurrent`` raises on its own account."""


class InsideTransaction(ConcurrencyError):
    """Parallel code inside ``atomic()``: on connections of its own it could not see what the transaction wrote."""


class QueueFull(ConcurrencyError):
    """The executor rejects what it has no room for."""


class WouldDeadlock(ConcurrencyError):
    """A call waits for one that can never run, as every thread that could run it waits too."""


class NotAllowed(ConcurrencyError, TypeError):
    """A callable, coroutine or queryset that this way of running it cannot take."""


class NoLastingLoop(ConcurrencyError):
    """No event loop that outlives the caller: the coroutine would be cancelled half-way."""


class ProcessFailed(ConcurrencyError):
    """A child process died of a call, could not be started for it, or cannot bring back what came of it."""


class SnapshotUnavailable(ConcurrencyError):
    """The database cannot give several connections one snapshot."""


class ConnectionTimeout(ConcurrencyError, TimeoutError):
    """The process holds as many connections as it may, and none became free in time."""


class LockTimeout(ConcurrencyError, TimeoutError):
    """The lock was not free in time."""


class LockLost(ConcurrencyError):
    """The lock went to somebody else before its holder was done."""


class Retry(MeanwhileError):
    """Raise it in a body to be run again, as long as ``max_attempts`` allows.

    ``after`` is a number of seconds or a ``timedelta``; without it the task's
    ``backoff`` decides.
    """

    def __init__(self, message: str = "", *, after: float | timedelta | None = None) -> None:
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if seconds is not None and not (is_number and 0 <= seconds < float("inf")):
            msg = f"Retry(after={after!r}): must be zero or more seconds, or a timedelta."
            raise InvalidOption(msg)
        super().__init__(message or "the task asked to be run again")
        self.after = seconds


class JobStopped(MeanwhileError):
    """The body should end now. Base of the reasons."""


class Cancelled(JobStopped):
    """The job was cancelled while it ran."""


class TaskTimeout(JobStopped, TimeoutError):
    """The job ran longer than its ``timeout``."""


class Interrupted(JobStopped):
    """The worker is stopping; the job is given back and will be run again."""


class LeaseLost(JobStopped):
    """The job belongs to another run by now; whatever this one returns is discarded."""


class Crashed(MeanwhileError):
    """The process that ran the job died. Never raised in a body: it names an attempt."""


class Quarantined(MeanwhileError):
    """The job killed its workers too often and is not run again. Names an outcome."""
