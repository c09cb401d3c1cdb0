"""The options that ``parallel()`` and ``TaskGroup`` have in common, checked.

Called by ``calls`` and ``group``, before anything has started.
"""

from __future__ import annotations

from typing import Any, cast

from ...core.errors import InvalidOption


def max_workers_of(what: str, value: Any) -> int | None:
    """Return how many calls may run at once; None: as many as the executor has threads."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise InvalidOption(
            f"{what}(max_workers={value!r}): must be a whole number, 1 or more; None for as many as there are threads."
        )
    return value


def timeout_of(what: str, value: Any) -> float | None:
    """Return after how many seconds to give up; None: never."""
    if value is not None and (not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0):
        raise InvalidOption(f"{what}(timeout={value!r}): must be a number of seconds, 0 or more; None for no limit.")
    return cast("float | None", value)
