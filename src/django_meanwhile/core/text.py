"""Text that every database can store and a terminal can show."""

from __future__ import annotations

import traceback

MAX_DETAIL = 64 * 1024
"""Characters kept of a traceback: its beginning and its end."""

MAX_SUMMARY = 500
"""Characters kept of the line that says what went wrong."""


def storable(text: str) -> str:
    """Replace what PostgreSQL's ``text`` refuses: NUL characters and lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")


def clip(text: str, limit: int = MAX_DETAIL) -> str:
    """Keep the beginning and the end of a long text."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[len(text) - half :]}"


def class_path(error: BaseException | type[BaseException]) -> str:
    """Return the dotted path of an exception's class."""
    cls = error if isinstance(error, type) else type(error)
    return f"{cls.__module__}.{cls.__qualname__}"


def summary(exception: str, detail: str) -> str:
    """Return the line that says what went wrong: ``ZeroDivisionError: division by zero``.

    ``exception`` is the path of the class, ``detail`` a traceback or a text. Of a traceback
    it is the last line that names the class: notes may follow it.
    """
    name = exception.removeprefix("builtins.")
    lines = detail.splitlines()
    for line in reversed([line.lstrip(" |") for line in lines]):  # a group's traceback has a margin
        if line == name or line.startswith(f"{name}:"):
            return line[:MAX_SUMMARY]
    first = "" if not lines or "Traceback (most recent call last)" in lines[0] else lines[0]
    return f"{name}: {first}"[:MAX_SUMMARY] if first else name


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
