"""What ``parallel()`` and its kin are given: told apart, or refused before anything has started.

Called by ``calls`` and ``group``. It looks at types and signatures only, never at values: the text of a queryset or of
a model instance would run a query here, in the caller.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from functools import partial
from types import CoroutineType, FunctionType, GeneratorType
from typing import Any, NamedTuple

from asgiref.sync import iscoroutinefunction
from django.db.models import Manager, Model, QuerySet
from django.db.models.query import RawQuerySet

from ..compat import BaseTask
from ..core.errors import NotAllowed
from .naming import line_of

_LAZY_FLAGS = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
_SHOWN = (bool, bytes, float, int, str, type(None))  # any other value's text might run a query
_PLAIN = {bool, bytes, dict, float, int, list, str, tuple}
_QUERYSETS = (QuerySet, RawQuerySet)
_ONCE = "A queryset is evaluated into itself, and a coroutine is awaited once. Pass it once, or a copy: queryset.all()."


class Call(NamedTuple):
    """One of the things to do, admitted."""

    given: Any  # what the caller passed, for labels
    function: Callable[[], Any]  # called in a thread; of a coroutine: on the event loop, and what it returns is awaited
    is_awaited: bool = False


def admit(what: str, given: Iterable[Any], *, awaits: bool = False, alias: str | None = None) -> list[Call]:
    """Return what is to be done, in order, or raise ``NotAllowed`` for the first that cannot be.

    ``what`` names the function in messages, "parallel()"; ``awaits`` says whether it takes coroutines, too; with
    ``alias``, querysets of other databases are refused. When anything is refused, no coroutine is left unawaited.
    """
    given = tuple(given)
    try:
        calls = [_admit_one(what, place, value, awaits, alias) for place, value in enumerate(given, start=1)]
        if any(call.function is not call.given for call in calls):
            _refuse_twice(what, given)
    except NotAllowed:
        close_coroutines(given)
        raise
    return calls


def admit_function(what: str, value: Any) -> None:
    """Raise ``NotAllowed`` unless a thread can call ``value``; with which arguments is for the caller to say."""
    if isinstance(value, _QUERYSETS):
        raise NotAllowed(
            f"{what}: {label_of(value)} cannot be called. Pass list and the queryset: {what[:-1]}list, queryset)."
        )
    if inspect.isawaitable(value):
        close_coroutines([value])
        _refuse_what_is_not_awaited(what, "the first argument", value, awaits=False, alias=None)
    _refuse_what_is_no_function(what, "the first argument", value)
    if _is_coroutine_function(value):
        _refuse_what_is_not_awaited(what, "the first argument", value, awaits=False, alias=None)


def close_coroutines(given: Iterable[Any]) -> None:
    """Close coroutines that nobody will await; Python warns of each otherwise."""
    for value in given:
        if isinstance(value, CoroutineType):
            value.close()


def label_of(value: Any) -> str:
    """Name what the caller passed, for messages and records."""
    if isinstance(value, _QUERYSETS):
        return f"queryset of {getattr(value.model, '__name__', value.model)}"
    while isinstance(value, partial):
        value = value.func
    name = getattr(value, "__qualname__", None)
    if not isinstance(name, str):
        return type(value).__qualname__
    module = getattr(value, "__module__", None)
    return f"{module}.{name}{line_of(value)}" if isinstance(module, str) else name


def outcome(value: Any) -> Any:
    """Return what a call in a thread has come to: a lazy result would be worked off in the caller, one by one.

    A queryset that a function returns is evaluated here, in its thread. A coroutine cannot be awaited here.
    """
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, _QUERYSETS):
        return evaluate(value)
    if isinstance(value, CoroutineType):
        name = label_of(value)
        value.close()
        raise NotAllowed(
            f"A function that ran in a thread returned a coroutine, {name}, which is never awaited there. Await it: "
            f"await aparallel(...) with the coroutine function itself, or with {name.rpartition('.')[2]}(...)."
        )
    if isinstance(value, GeneratorType):
        name = label_of(value)
        value.close()
        raise NotAllowed(
            f"A function that ran in a thread returned a generator, {name}, of which nothing has run there. "
            "Return a list of what it yields."
        )
    return value


def evaluate(queryset: Any) -> Any:
    """Run a queryset's query, and those of its ``prefetch_related()``, into its own cache; return it."""
    queryset._fetch_all()  # noqa: SLF001 - what iter() and len() call, without building a list once more
    return queryset


def _admit_one(what: str, place: int, value: Any, awaits: bool, alias: str | None) -> Call:  # noqa: FBT001
    if type(value) is FunctionType and not value.__dict__ and not value.__code__.co_flags & _LAZY_FLAGS:
        code = value.__code__  # the usual case, without the cost of a signature
        if code.co_argcount == len(value.__defaults__ or ()) and not code.co_kwonlyargcount:
            return Call(value, value)
    where = f"argument {place}"
    if isinstance(value, _QUERYSETS):
        if alias is not None and value.db != alias:
            raise NotAllowed(
                f"{what}: {where} is a {label_of(value)} on database {value.db!r}, but the snapshot is one of "
                f"{alias!r}. Write queryset.using({alias!r}), or snapshot={value.db!r}, or call {what} once for each."
            )
        return Call(value, partial(evaluate, value))
    if inspect.isawaitable(value):
        return _admit_awaitable(what, where, value, awaits=awaits, alias=alias)
    _refuse_what_is_no_function(what, where, value)
    if _is_coroutine_function(value):
        _refuse_what_is_not_awaited(what, where, value, awaits=awaits, alias=alias)
        _refuse_arguments(what, where, value)
        return Call(value, value, is_awaited=True)
    _refuse_arguments(what, where, value)
    return Call(value, value)


def _admit_awaitable(what: str, where: str, value: Any, *, awaits: bool, alias: str | None) -> Call:
    _refuse_what_is_not_awaited(what, where, value, awaits=awaits, alias=alias)
    return Call(value, lambda: value, is_awaited=True)


def _refuse_what_is_not_awaited(what: str, where: str, value: Any, *, awaits: bool, alias: str | None) -> None:
    name, kind = label_of(value), "a coroutine function" if callable(value) else f"an awaitable ({_kind(value)})"
    if not awaits:
        raise NotAllowed(
            f"{what}: {where}, {name}, is {kind}, which threads do not await. In async code write await "
            "aparallel(...), which takes both; in sync code pass a plain function."
        )
    if alias is not None:
        raise NotAllowed(
            f"{what}: {where}, {name}, is {kind}, whose queries cannot be brought into the snapshot: its "
            "transaction would have to stay open between them. Pass querysets or plain functions, or leave snapshot= "
            "out."
        )


def _refuse_what_is_no_function(what: str, where: str, value: Any) -> None:
    kind = _kind(value)
    reason = advice = ""
    if isinstance(value, Manager):
        reason, advice = f"a manager ({kind})", "Pass a queryset: manager.all(), or .filter(...)."
    elif isinstance(value, Model):
        reason, advice = f"an instance of {kind}", "Pass a function that does something, or a queryset."
    elif isinstance(value, type) and issubclass(value, Model):
        reason, advice = f"the model {value.__qualname__}", f"Pass a queryset: {value.__qualname__}.objects.all()."
    elif isinstance(value, BaseTask):
        reason = f"a task ({label_of(value.func)})"
        advice = "enqueue() is one INSERT and needs no thread; to run it here, pass functools.partial(task.call, ...)."
    elif hasattr(value, "__next__") or hasattr(value, "__anext__"):
        reason = f"a generator or iterator ({kind})"
        advice = "Nothing of it would run in a thread. Pass a function that returns a list."
    elif inspect.isgeneratorfunction(_bare(value)) or inspect.isasyncgenfunction(_bare(value)):
        reason = f"a generator function ({label_of(value)})"
        advice = "Calling it runs nothing. Pass a function that returns a list."
    elif not callable(value):
        reason, advice = _not_callable(what, value)
    if reason:
        raise NotAllowed(f"{what}: {where} is {reason}. {advice}")


def _not_callable(what: str, value: Any) -> tuple[str, str]:
    """Say what it is, and what to write instead."""
    kind = _kind(value)
    if isinstance(value, list | tuple | set | frozenset | dict):
        close_coroutines(value.values() if isinstance(value, dict) else value)
        if what == "create_task()":
            return f"a {kind}", "Call create_task() for each of its members."
        return f"a {kind}", f"Pass its members: {what[:-1]}*calls{'.values()' if isinstance(value, dict) else ''})."
    shown = repr(value)[:60] if isinstance(value, _SHOWN) else ""
    reason = f"{shown} ({kind}), which cannot be called" if shown else f"{kind}, which cannot be called"
    advice = f"Was a function called too early? Write {what[:-2]}(load), not {what[:-2]}(load()); with arguments: "
    return reason, f"{advice}functools.partial(load, 1)."


def _refuse_arguments(what: str, where: str, value: Any) -> None:
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # of a builtin, say: it is tried
        return
    try:
        signature.bind()
    except TypeError:
        needed = [
            name if parameter.kind is not parameter.KEYWORD_ONLY else f"{name}=..."
            for name, parameter in signature.parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
        ]
        name, arguments = label_of(value), ", ".join(needed)
        short = getattr(_bare(value), "__name__", name.rpartition(".")[2])
        raise NotAllowed(
            f"{what}: {where}, {name}, needs arguments ({arguments}), and {what} calls it without any. Write "
            f"functools.partial({short}, {arguments})."
        ) from None


def _refuse_twice(what: str, given: Iterable[Any]) -> None:
    seen: dict[int, Any] = {}
    for value in given:
        if asyncio.isfuture(value) or callable(value):
            continue
        if id(value) in seen:
            raise NotAllowed(f"{what}: {label_of(value)} is there twice. {_ONCE}")
        seen[id(value)] = value


def _is_coroutine_function(value: Any) -> bool:
    value = _bare(value)
    return iscoroutinefunction(value) or iscoroutinefunction(getattr(value, "__call__", None))  # noqa: B004


def _bare(value: Any) -> Any:
    while isinstance(value, partial):
        value = value.func
    return value


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
