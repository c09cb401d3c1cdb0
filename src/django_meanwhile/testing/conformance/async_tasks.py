"""Coroutine functions of the suites. Imported only for backends with ``supports_async_task``."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

from .dialect import task


@task()
async def noop_async(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""


@task()
async def answer_async() -> int:
    """Return a value."""
    return 42
