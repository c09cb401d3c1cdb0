"""What surrounds a call that runs elsewhere: captured once in the caller, restored for each call.

::

    caller: capture() ──▶ Surroundings ──run(function)──▶ thread: a copy of the context variables for this call,
                                                          language, time zone, URLconf, script prefix, hooks

``contextvars.copy_context()`` alone does not do: current asgiref ties the values of a
``Local`` (Django keeps language, time zone and URLs in such) to the thread that set them. So
they are handed to the thread as asgiref itself does in ``sync_to_async``, and then language,
time zone and URLs are compared and set by name. What belongs to the caller's thread stays
there: its caches, and the executors by which asgiref comes back to it.

Each call runs in a copy of its own: nothing that it sets is seen by the next one.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from asgiref import local as asgiref_local
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

from ..surroundings import capture_hooks, restored_hooks
from .naming import name_of

T = TypeVar("T")

_TIED: Any = getattr(asgiref_local, "_Storage", None)
"""The class of a ``Local``'s values that are tied to a thread; None before asgiref did that."""


class Surroundings:
    """What was in force in the caller. Immutable; any number of threads may run calls in it at once."""

    __slots__ = ("_context", "_hooks", "_language", "_prefix", "_tied", "_urlconf", "_zone")

    def __init__(self, hooks: Mapping[str, Any]) -> None:
        self._hooks = hooks
        self._context = contextvars.copy_context()
        self._language = translation.get_language()
        self._zone = timezone.get_current_timezone()
        self._urlconf = get_urlconf()
        self._prefix = get_script_prefix()
        self._tied: tuple[tuple[contextvars.ContextVar[Any], Any], ...] = ()
        if _TIED is not None:
            self._tied = tuple((var, value) for var, value in self._context.items() if type(value) is _TIED)

    def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call ``function`` in a copy of the surroundings, in the calling thread."""
        return self._context.copy().run(self._call, function, args, kwargs)

    def _call(self, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        for var, value in self._tied:
            var.set(asgiref_local._rehome(value))  # noqa: SLF001
        if translation.get_language() != self._language:
            _set_language(self._language)
        if timezone.get_current_timezone() is not self._zone:
            timezone.activate(self._zone)
        if get_urlconf() != self._urlconf:
            set_urlconf(self._urlconf)
        if get_script_prefix() != self._prefix:
            set_script_prefix(self._prefix)
        if not self._hooks:
            return function(*args, **kwargs)
        with restored_hooks(self._hooks, name_of(function)):
            return function(*args, **kwargs)


def _set_language(language: str | None) -> None:
    if language is None:
        translation.deactivate_all()
    else:
        translation.activate(language)


def capture(what: str = "a call in another thread") -> Surroundings:
    """Return the surroundings of the calling thread or task. ``ContextError`` if a hook cannot say what it should.

    ``what`` names the function, or what was asked for, in that error.
    """
    return Surroundings(capture_hooks(what, "not started"))
