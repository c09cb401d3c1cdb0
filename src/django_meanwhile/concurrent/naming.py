"""The name by which messages call a function: the path of what the user wrote. Called by all that reports calls."""

from __future__ import annotations

import functools
from pathlib import PurePath
from types import FunctionType
from typing import Any


def name_of(function: Any) -> str:
    """Return the dotted path of a callable, or of its class; a ``partial`` is named after its function.

    So is one of our own callables, whose class says what it wraps.
    """
    while isinstance(function, functools.partial) or isinstance(getattr(type(function), "__wrapped__", None), property):
        function = function.func if isinstance(function, functools.partial) else function.__wrapped__
    named = function if hasattr(function, "__qualname__") else type(function)
    module = getattr(named, "__module__", None)  # a method of a built-in class has none
    return f"{module}.{named.__qualname__}{line_of(named)}" if module else str(named.__qualname__)


def line_of(function: Any) -> str:
    """Return where a ``lambda`` is written, " (views.py:12)", to be put behind its name; nothing for others."""
    if not isinstance(function, FunctionType) or function.__name__ != "<lambda>":
        return ""
    code = function.__code__
    return f" ({PurePath(code.co_filename).name}:{code.co_firstlineno})"
