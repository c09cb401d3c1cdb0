"""Whether a failed attempt is followed by another, and when. Pure.

``retry_delay`` is asked once for each failed attempt. A policy of the user's that
raises or returns nonsense must not lose the job: the attempt then ends the job,
and the verdict's ``note`` says what was wrong with the policy.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from .errors import InvalidOption, JobStopped, Retry, TaskTimeout
from .options import Backoff, ExceptionClasses, exception_classes, shown

MAX_DELAY = 3650 * 86_400.0
"""Ten years. Longer delays are cut: they would leave the range of a database's dates."""


class HasAttempts(Protocol):
    """What ``ExponentialBackoff`` needs of a result."""

    @property
    def attempts(self) -> int:
        """Attempts so far, the failed one included."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryVerdict:
    """``delay`` in seconds until the next attempt, None for no further one.

    ``note`` is for whoever reads the attempt: why a retry that the code asks for is
    not made. It belongs below the traceback.
    """

    delay: float | None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ExponentialBackoff:
    """``first`` seconds after the first attempt, ``factor`` times as long each time after.

    Never longer than ``maximum``. ``jitter`` takes a random share of up to that
    much off each delay, so that jobs that failed together do not come back
    together.
    """

    first: float = 2.0
    factor: float = 2.0
    maximum: float = 3600.0
    jitter: float = 0.25
    random: Callable[[], float] = field(default=random.random, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check("first", self.first, 0.0, MAX_DELAY)
        self._check("factor", self.factor, 1.0, 1000.0)
        self._check("maximum", self.maximum, self.first, MAX_DELAY)
        self._check("jitter", self.jitter, 0.0, 1.0)

    def __call__(self, exception: BaseException, result: HasAttempts) -> float:  # noqa: ARG002
        """Return the delay after the attempt that has just failed, in seconds."""
        return self.delay(result.attempts)

    def delay(self, attempts: int) -> float:
        """Return the delay after that many attempts, in seconds."""
        try:
            full = min(self.first * self.factor ** max(attempts - 1, 0), self.maximum)
        except OverflowError:
            full = self.maximum
        return full * (1.0 - self.jitter * self.random())

    @staticmethod
    def _check(name: str, value: Any, low: float, high: float) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            msg = f"ExponentialBackoff({name}={shown(value)}): must be a number from {low:g} to {high:g}."
            raise InvalidOption(msg)


DEFAULT_BACKOFF = ExponentialBackoff()


def retry_delay(
    *,
    attempts: int,
    max_attempts: int,
    backoff: Backoff | None,
    retry_on: ExceptionClasses,
    dont_retry: ExceptionClasses,
    exception: BaseException,
    result: Any,
) -> RetryVerdict:
    """Decide on the attempt that has just failed with ``exception``.

    ``attempts`` counts it. ``Retry`` is retried whatever the two lists say;
    ``dont_retry`` wins over ``retry_on``, and an empty ``retry_on`` means every
    failure. A stop that is no failure (a cancel) is never retried; ``TaskTimeout``
    is a failure like others.
    """
    if isinstance(exception, JobStopped) and not isinstance(exception, TaskTimeout):
        return RetryVerdict(delay=None)
    if attempts >= max_attempts:
        return RetryVerdict(delay=None, note=_used_up(exception, attempts, max_attempts))
    if isinstance(exception, Retry):
        if exception.after is not None:
            return RetryVerdict(delay=min(exception.after, MAX_DELAY))
    elif not _is_retried(exception, retry_on, dont_retry):
        return RetryVerdict(delay=None)
    return _ask(backoff or DEFAULT_BACKOFF, exception, result)


def _is_retried(exception: BaseException, retry_on: ExceptionClasses, dont_retry: ExceptionClasses) -> bool:
    if isinstance(exception, exception_classes(dont_retry)):
        return False
    wanted = exception_classes(retry_on)
    return not wanted or isinstance(exception, wanted)


def _used_up(exception: BaseException, attempts: int, max_attempts: int) -> str:
    if not isinstance(exception, Retry):
        return ""
    if max_attempts == 1:
        return "The body raised Retry, but max_attempts is 1: write @task(max_attempts=...) to allow further attempts."
    return f"The body raised Retry, but attempt {attempts} of max_attempts={max_attempts} was the last."


def _ask(backoff: Backoff, exception: BaseException, result: Any) -> RetryVerdict:
    """Ask the policy, and trust nothing about its answer."""
    delay: Any
    try:
        delay = backoff(exception, result)
    except BaseException as error:  # noqa: BLE001 - the policy is user code: it may even sys.exit()
        return _no_answer(f"raised {type(error).__name__}: {_text(error)}")
    if delay is None:
        return RetryVerdict(delay=None)
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return _no_answer(f"returned {shown(delay)}, a {type(delay).__name__}")
    if math.isnan(seconds) or seconds < 0:
        return _no_answer(f"returned {shown(delay)}")
    return RetryVerdict(delay=float(min(seconds, MAX_DELAY)))


def _no_answer(what: str) -> RetryVerdict:
    note = f"Not retried: the task's backoff {what}; it must return zero or more seconds, or None."
    return RetryVerdict(delay=None, note=note)


def _text(error: BaseException) -> str:
    try:
        return str(error)[:500]
    except Exception:  # noqa: BLE001 - an exception whose text cannot be had
        return "(no text)"
