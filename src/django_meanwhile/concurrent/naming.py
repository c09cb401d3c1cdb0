"""The name by which messages call a function: the path of what the user wrote. Called by all that reports calls."""

from __future__ import annotations

import functools
from typing import Any


def name_of(function: Any) -> str:
    """Return the dotted path of a callable, or of its class; a ``partial`` is named after its function.

    So is one of our own callables, whose class says what it wraps.
    """
    while isinstance(function, functools.partial) or isinstance(getattr(type(function), "__wrapped__", None), property):
        function = function.func if isinstance(function, functools.partial) else function.__wrapped__
    named = function if hasattr(function, "__qualname__") else type(function)
    module = getattr(named, "__module__", None)  # a method of a built-in class has none
    return f"{module}.{named.__qualname__}" if module else str(named.__qualname__)
