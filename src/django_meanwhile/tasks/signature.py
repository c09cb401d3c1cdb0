"""What a task's function takes, and what is said of a call that it would not take.

Called by ``enqueue`` for each call, and by ``Task.call`` to tell whether a context was passed. Runs no body.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..compat import TaskContext as DjangoTaskContext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .task import Task

_POSITIONAL = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
_NAMED = {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}


@dataclass(frozen=True, slots=True)
class Shape:
    """What a function takes: ``bind`` without the context, and its positional names."""

    signature: inspect.Signature
    positional: tuple[str, ...]


@lru_cache(maxsize=1024)
def shape_of(function: Callable[..., Any], takes_context: bool) -> Shape:  # noqa: FBT001
    """Return what ``function`` takes, without the context and the annotations."""
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415 - annotations may name what only type checkers import

        signature = inspect.signature(function, annotation_format=annotationlib.Format.STRING)
    else:
        signature = inspect.signature(function)
    empty = inspect.Parameter.empty
    parameters = [p.replace(annotation=empty) for p in signature.parameters.values()]
    parameters = parameters[1:] if takes_context else parameters
    return Shape(
        signature=inspect.Signature(parameters),
        positional=tuple(p.name for p in parameters if p.kind in _POSITIONAL),
    )


def takes(task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether these are the arguments of ``task``, without a context."""
    try:
        shape_of(task.func, task.takes_context).signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def bind(task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Shape:
    """Return the shape of ``task``; raise ``TypeError`` for arguments that it would not take."""
    shape = shape_of(task.func, task.takes_context)
    try:
        shape.signature.bind(*args, **kwargs)
    except TypeError as error:
        called = f"{task.func.__name__}.enqueue{shape.signature}"
        more = _unknown(shape.signature, kwargs) + _context(task, args, kwargs)
        raise TypeError(f"{task.registered_name}: {error}. Write {called}.{more}") from None
    return shape


def _unknown(signature: inspect.Signature, kwargs: Mapping[str, Any]) -> str:
    """Name the first keyword that no parameter takes: Python complains of a missing one before."""
    parameters = signature.parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return ""
    known = [p.name for p in parameters if p.kind in _NAMED]
    for name in kwargs:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            return f" It takes no {name}=." + (f" Did you mean {near[0]}=?" if near else "")
    return ""


def _context(task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    if not task.takes_context:
        return ""
    leading = bool(args) and (args[0] is None or isinstance(args[0], DjangoTaskContext))
    return " The worker passes the context: leave it out." if leading or "context" in kwargs else ""
