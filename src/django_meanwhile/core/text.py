"""Text that every database can store and a terminal can show."""

from __future__ import annotations

import traceback

MAX_DETAIL = 64 * 1024
"""Characters kept of a traceback: its beginning and its end."""


def storable(text: str) -> str:
    """Replace what PostgreSQL's ``text`` refuses: NUL characters and lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")


def clip(text: str, limit: int = MAX_DETAIL) -> str:
    """Keep the beginning and the end of a long text."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def class_path(error: BaseException | type[BaseException]) -> str:
    """Return the dotted path of an exception's class."""
    cls = error if isinstance(error, type) else type(error)
    return f"{cls.__module__}.{cls.__qualname__}"


def describe(error: BaseException, *, skip: int = 0) -> str:
    """Return the traceback of ``error`` without locals, storable, its first frames skipped."""
    frames = error.__traceback__
    for _ in range(skip):
        if frames is not None and frames.tb_next is not None:
            frames = frames.tb_next
    try:
        lines = traceback.format_exception(type(error), error, frames)
    except Exception as broken:  # noqa: BLE001 - a __str__ of the user's that raises
        lines = [f"{class_path(error)} (its text cannot be shown: {class_path(broken)})\n"]
    return clip(storable("".join(lines)))
