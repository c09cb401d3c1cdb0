"""What was found: told once for each place, with its stack, and again at each power of ten.

Called by the parts of the guard. A thread that is coming to its end cannot log by itself: whatever a handler keeps
in thread-locals would be lost, or live for ever. So there is ``later``: a short-lived thread of ours that tells.
"""

from __future__ import annotations

import concurrent.futures.thread
import contextvars
import functools
import inspect
import os
import threading
import traceback
from collections import deque
from collections.abc import Callable, Hashable
from types import CodeType, FrameType
from typing import TypeAlias

from django.db import connections
from django.db.models import QuerySet
from django.db.models.manager import BaseManager

from .. import logs
from ..concurrent.naming import name_of

logger = logs.get_logger("guard")

Stack: TypeAlias = tuple[tuple[CodeType, int], ...]
"""Code and line, the innermost first. Cheap to take; turned into text only when it is told."""

DEPTH = 100
PLACES = 1000
"""Of more places than that the rest is told as one."""

_WAYS = tuple(
    f"{os.sep}{way.replace('/', os.sep)}"
    for way in ("django/db/", "django/dispatch/", "django/test/", "django/utils/asyncio.py", "django_meanwhile/guard/")
)
"""Where every stack passes through before it comes to us: not told."""

_lock = threading.Lock()
_counts: dict[Hashable, int] = {}  # guarded by _lock
_waiting: deque[Callable[[], None]] = deque()  # guarded by _lock
_speaker: threading.Thread | None = None  # guarded by _lock


def stack() -> Stack:
    """Return the stack of the caller."""
    frame: FrameType | None = inspect.currentframe()
    found: list[tuple[CodeType, int]] = []
    while frame is not None and len(found) < DEPTH:
        found.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return tuple(found)


def target() -> str:
    """Name what the calling thread was started to call, or an executor's call in it; "" if nobody can tell."""
    function = getattr(threading.current_thread(), "_target", None)
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "run" and frame.f_code.co_filename == concurrent.futures.thread.__file__:
            found = frame.f_locals  # from Python 3.14 on "fn" is one of them, up to 3.13 the item's
            function = found.get("fn", getattr(found.get("self"), "fn", function))
            break
        frame = frame.f_back
    while isinstance(function, functools.partial):
        runs_in_context = isinstance(getattr(function.func, "__self__", None), contextvars.Context)  # asyncio.to_thread
        function = function.args[0] if runs_in_context and function.args else function.func
    owner = getattr(function, "__self__", None)
    name = getattr(function, "__name__", type(function).__name__)
    if isinstance(owner, BaseManager):
        return f"{owner}.{name}"  # "auth.User.objects.count"; any other object's text might ask the database
    if isinstance(owner, QuerySet):
        return f"{name}() of a queryset of {owner.model._meta.label}"  # noqa: SLF001 - documented
    return name_of(function) if function is not None else ""


def count(place: Hashable) -> int | None:
    """Count one more finding at ``place``; return how many there were if it is to be told, else None."""
    with _lock:
        if place not in _counts and len(_counts) >= PLACES:
            place = None
        number = _counts[place] = _counts.get(place, 0) + 1
    return number if number == 10 ** (len(str(number)) - 1) else None


def text(stack: Stack) -> str:
    """Return the stack as a traceback shows it, up to the project's own line."""
    frames = list(stack)
    while frames and any(way in frames[0][0].co_filename for way in _WAYS):
        del frames[0]
    summary = traceback.StackSummary.from_list(
        [traceback.FrameSummary(code.co_filename, line, code.co_name) for code, line in reversed(frames or stack)]
    )
    return "".join(summary.format()).rstrip("\n")


def later(tell: Callable[[], None]) -> None:
    """Have another thread call ``tell``, soon."""
    global _speaker  # noqa: PLW0603 - one at a time
    with _lock:
        _waiting.append(tell)
        if _speaker is not None:
            return
        # Not a daemon: the end of the process waits until all is told.
        _speaker = threading.Thread(target=_speak, name="meanwhile-guard", daemon=False)
        try:
            _speaker.start()
        except RuntimeError:  # no more threads: the process ends, or its limit is reached. The next one tells.
            _speaker = None


def forget() -> None:
    """Begin to count anew."""
    with _lock:
        _counts.clear()


def _speak() -> None:
    global _speaker  # noqa: PLW0603 - as above
    while True:
        with _lock:
            if not _waiting:
                _speaker = None
                break
            tell = _waiting.popleft()
        try:
            tell()
        except Exception:
            logger.exception("a finding of the guard could not be told")
    connections.close_all()  # those of handlers that log into a database


def _after_fork() -> None:
    """Another thread of the parent may have held the lock, and the one that tells is not here."""
    global _lock, _speaker  # noqa: PLW0603 - as above
    _lock = threading.Lock()
    _speaker = None
    _waiting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
