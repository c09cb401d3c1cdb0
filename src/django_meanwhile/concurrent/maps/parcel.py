"""What a map sends to a process or interpreter, and gets back; or refuses to send, with the reason, before it starts.

Called by ``lanes``. The other end is ``callee``.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

from django.db import connections
from django.db.models import Manager, Model, QuerySet
from django.db.models.query import RawQuerySet
from django.http import HttpRequest

from ...core.errors import NotAllowed, ProcessFailed
from ...surroundings import capture
from ..admission import label_of
from .callee import Job, Reply

_BASIC = frozenset({bool, bytes, float, int, str, type(None)})


class Packer:
    """Pickles the calls of one map. Refuses the function at once, and items when they come."""

    def __init__(self, function: Callable[[Any], Any], label: str, executor: str) -> None:
        self.label = label
        self._function, self._executor = function, executor
        self._context = capture(label, "not started")
        self._databases = {alias: str(connections.settings[alias]["NAME"]) for alias in connections}
        self._check_function()

    def pack(self, items: list[Any]) -> bytes:
        """Return a pickled ``Job``; ``NotAllowed`` for an item that cannot go there."""
        try:
            return self._pickled(Job(self._function, items, self.label, self._context, self._databases))
        except _Refused as refused:
            reason = str(refused)
        except Exception as error:  # noqa: BLE001 - classes may raise anything there
            reason = f"{_shown(items)} cannot be pickled: {error}. Pass data, and make the rest of it in the function"
        raise NotAllowed(f"{self.label}: {reason}.")

    def _check_function(self) -> None:
        try:
            self._pickled(self._function)
        except _Refused as refused:
            reason = str(refused)
        except Exception as error:  # noqa: BLE001 - as above
            reason = f"it cannot be pickled: {error}. Write a function at the top level of a module of an app"
        else:
            return
        raise NotAllowed(f'{self.label}: executor="{self._executor}": {reason}.')

    def _pickled(self, value: Any) -> bytes:
        buffer = io.BytesIO()
        _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
        return buffer.getvalue()


class _Refused(Exception):
    """Why, and what to do instead."""


class _Pickler(pickle.Pickler):
    """Sees each value that is no plain data, before it is pickled."""

    def reducer_override(self, value: Any) -> Any:
        """Refuse what would arrive as something else, or not at all."""
        if isinstance(value, type | FunctionType):
            _refuse_unimportable(value)
        elif isinstance(value, Model):
            raise _Refused(  # the label is all of it that costs no query
                f"an instance of {value._meta.label} would be a copy of what the row was here, and its "  # noqa: SLF001 - documented
                "save() there would write that back. Pass its pk, and fetch it in the function"
            )
        elif isinstance(value, QuerySet | RawQuerySet | Manager):
            raise _Refused(
                f"a {label_of(value)} would run its query here and carry all rows over as copies. Pass primary keys, "
                'as in queryset.values_list("pk", flat=True).iterator()'
            )
        elif isinstance(value, HttpRequest):
            raise _Refused("a request belongs to the thread that answers it. Pass what the function needs of it")
        return NotImplemented


def _refuse_unimportable(value: Any) -> None:
    """Refuse a function or class that a child could not import under its name."""
    name, module = value.__qualname__, value.__module__
    if "<lambda>" in name:
        raise _Refused("a lambda cannot be imported by another process. Write a function at the top level of a module")
    if "<locals>" in name:
        raise _Refused(
            f"{module}.{name} stands inside a function, so another process cannot import it. Move it to the top level "
            "of a module, and pass what it takes from around it as an argument, or by functools.partial"
        )
    if module == "__main__":
        raise _Refused(
            f"{name} is in __main__, the script or shell that runs here, which another process does not import. "
            "Move it to a module of an app"
        )
    if module not in sys.modules:
        raise _Refused(f"{module}.{name} is in a module that is not among those imported here")


def _shown(items: list[Any]) -> str:
    kinds = sorted({type(item).__qualname__ for item in items if type(item) not in _BASIC})
    return f"an item of type {', '.join(kinds)}" if kinds else "an item"


def unpack(pickled: bytes, label: str) -> tuple[list[Any], BaseException | None]:
    """Return the results of a pickled ``Reply``, and what was raised after them, the child's traceback as its cause."""
    reply: Reply = pickle.loads(pickled)  # noqa: S301 - of a child of ours
    results: list[Any] = pickle.loads(reply.results)  # noqa: S301 - as above
    if reply.failure is None:
        return results, None
    error: BaseException
    if reply.failure.error is not None:
        error = pickle.loads(reply.failure.error)  # noqa: S301 - as above
    else:
        error = ProcessFailed(f"{label}: {reply.failure.shown}")
    error.__cause__ = InTheChild(reply.failure.text)
    return results, error


class InTheChild(Exception):
    """The traceback of what was raised in a child, as text: the cause of the error that the caller gets."""

    def __str__(self) -> str:
        return f"\n{self.args[0].rstrip()}"
