"""Tasks of ``JobConformance``, made by our decorator: they use its options."""

from __future__ import annotations

from typing import Any

from ... import Retry
from ...tasks.decorator import task


@task
def double(number: int) -> int:
    """Return a value."""
    return 2 * number


@task(max_attempts=3, backoff=lambda _error, _result: 0.0, takes_context=True)
def succeed_at(context: Any, attempt: int) -> int:
    """Fail until that attempt."""
    if context.attempt < attempt:
        raise RuntimeError(f"attempt {context.attempt}")
    return int(context.attempt)


@task(max_attempts=3, backoff=lambda _error, _result: 0.0, dont_retry=(KeyError,))
def fail_for_good() -> None:
    """Fail with what is not retried."""
    raise KeyError("for good")


@task(max_attempts=2)
def ask_again() -> None:
    """Ask for another attempt."""
    raise Retry(after=0)


@task(takes_context=True)
def report_progress(context: Any) -> str:
    """Tell how far it is."""
    context.progress(1, 4, "begun")
    context.progress(3, 4, "nearly there")
    return str(context.metadata.get("colour"))
