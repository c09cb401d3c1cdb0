"""What surrounds a call that runs elsewhere: captured once in the caller, restored for each call.

::

    caller: capture() ──▶ Surroundings ──run(function)──▶ thread: a copy of the context variables for this call,
                                                          language, time zone, URLconf, script prefix, hooks

``contextvars.copy_context()`` alone does not do. asgiref's ``Local``, in which Django keeps
language, time zone and URLs, is a context variable whose value is either tied to the thread
that set it (current versions) or a dictionary that all copies share (older ones). So each call
gets values of its own, as ``sync_to_async`` would hand them over. Should a future asgiref keep
them in another way, language, time zone and URLs are set by name, which costs more.

What belongs to the caller's thread stays there: its caches, of which Django keeps one for each
thread, and the executors by which asgiref comes back to that thread, which may well be waiting
for this very call. Nothing that a call sets is seen by the next one.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from functools import cache
from typing import Any, TypeVar, cast

from asgiref.sync import AsyncToSync, SyncToAsync
from django.core.cache import caches
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

from ..surroundings import capture_hooks, has_hooks, restored_hooks
from .naming import name_of

T = TypeVar("T")
_Var = contextvars.ContextVar[Any]


# --- what asgiref keeps in context variables -----------------------------------------------


def _set_by(setter: Callable[..., object], *args: object) -> contextvars.Context:
    """Return a context in which nothing is set but what ``setter`` sets."""
    context = contextvars.Context()
    context.run(setter, *args)
    return context


(_CACHES,) = _set_by(caches.__setitem__, "meanwhile", None)
(_EXECUTORS,) = _set_by(setattr, AsyncToSync.executors, "current", None)
_LOCAL = _CACHES.name

_WAYS_BACK: dict[_Var, Any] = {SyncToAsync.thread_sensitive_context: None}
"""Variables by which asgiref comes back to the caller's thread, and their values where it cannot.

Not ``deadlock_context``: where that is set, the thread that asgiref would use is the caller's, and asgiref says so.
"""
if hasattr(AsyncToSync, "async_single_thread_context"):
    _WAYS_BACK[AsyncToSync.async_single_thread_context] = None


def _handed_over(context: contextvars.Context) -> Iterator[tuple[_Var, Any, type | None]]:
    """Yield what is to be set in the thread: variable, value, and how ``Local`` wraps the value."""
    for variable, value in context.items():
        if variable in _WAYS_BACK:
            yield variable, _WAYS_BACK[variable], None
        elif variable.name == _LOCAL:
            stays = variable is _CACHES or variable is _EXECUTORS
            if isinstance(value, dict):
                yield variable, {} if stays else dict(value), dict  # as it is now: the caller goes on setting it
            elif _is_tied(value) and not stays:
                yield variable, value.data, type(value)


def _is_tied(value: Any) -> bool:
    return hasattr(value, "thread_id") and hasattr(value, "data")


@cache
def _is_by_name() -> bool:
    """Whether ``_handed_over`` would not find language, time zone and URLs, so that they are set by name."""
    contexts = (
        _set_by(translation.deactivate_all),  # sets nothing with USE_I18N = False
        _set_by(timezone.activate, UTC),
        _set_by(set_urlconf, "meanwhile"),
        _set_by(set_script_prefix, "/"),
    )
    return any(
        variable.name != _LOCAL or not (isinstance(value, dict) or _is_tied(value))
        for context in contexts
        for variable, value in context.items()
    )


# --- surroundings ---------------------------------------------------------------------------


class Surroundings:
    """What was in force in the caller. Immutable; any number of threads may run calls in it at once."""

    __slots__ = ("_by_name", "_context", "_handed_over", "_hooks")

    def __init__(self, hooks: Mapping[str, Any]) -> None:
        self._hooks = hooks
        self._context = contextvars.copy_context()
        self._handed_over = tuple(_handed_over(self._context))
        self._by_name = _ByName() if _is_by_name() else None

    def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call ``function`` in a copy of the surroundings, in the calling thread."""
        return self._context.copy().run(self._call, function, args, kwargs)

    def _call(self, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        for variable, value, kind in self._handed_over:
            if kind is None:
                variable.set(value)
            elif kind is dict:
                variable.set(dict(value))
            else:
                variable.set(kind(threading.get_ident(), value))
        if self._by_name is not None:
            self._by_name.set()
        if not self._hooks:
            return function(*args, **kwargs)
        with restored_hooks(self._hooks, name_of(function)):
            return function(*args, **kwargs)


class _ByName:
    """Language, time zone, URLconf and script prefix."""

    def __init__(self) -> None:
        self._language = cast("str | None", translation.get_language())
        self._zone = timezone.get_current_timezone()
        self._urlconf = get_urlconf()
        self._prefix = get_script_prefix()

    def set(self) -> None:
        if self._language is None:
            translation.deactivate_all()
        else:
            translation.activate(self._language)
        timezone.activate(self._zone)
        set_urlconf(self._urlconf)
        set_script_prefix(self._prefix)


def capture(what: Any = "a call in another thread") -> Surroundings:
    """Return the surroundings of the calling thread or task. ``ContextError`` if a hook cannot say what it should.

    ``what`` is the function, or a text that names what was asked for, in that error.
    """
    if not has_hooks():
        return Surroundings({})
    return Surroundings(capture_hooks(what if isinstance(what, str) else name_of(what), "not started"))
