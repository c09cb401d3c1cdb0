"""What cannot be stored, and what to pass instead: the refusals of ``codec``, in the caller's terms.

Called by ``codec`` alone. It looks at the types of values and never touches the values: a lazy object or a queryset
would run a query.
"""

from __future__ import annotations

import json
from collections.abc import ItemsView, KeysView, Sequence, ValuesView
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType

from .errors import EncodingError


class Refused(Exception):
    """Inside ``codec``: a value cannot be stored. ``path`` grows on the way out, the innermost key first."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason, advice)
        self.reason, self.advice = reason, advice
        self.path: list[str | int] = []

    def error(self, task: str, where: str) -> EncodingError:
        """Make the error that a user sees, with the place named."""
        return EncodingError(f"{task}: {where}: cannot be stored: {self.reason}. {self.advice}.")


def too_large(found: str, limit: int) -> Refused:
    """Make the refusal of a value beyond ``limit`` bytes."""
    reason = f"it is too large: {found}, the limit is {limit:,} bytes as JSON"
    return Refused(reason, "Keep large data in a model or a file, and pass its key or its name")


def argument_of(path: list[str | int], names: Sequence[str]) -> str:
    """Name the argument that ``path`` (innermost first) leads into, in the caller's terms."""
    if not path:
        return "arguments"
    note, (*inner, name) = "", path
    if isinstance(name, int):
        if name >= len(names):
            return f"argument args{steps(path)}"
        name, note = names[name], f" (position {name})"
    name = shown(name)[1:-1]
    return f"argument {name}{steps(inner)}{note}" if inner else f"argument '{name}'{note}"


def steps(path: list[str | int]) -> str:
    """Write the keys that lead into a value; ``path`` has the innermost first."""
    keys = [f"[{shown(key) if isinstance(key, str) else key}]" for key in reversed(path)]
    keys[6:-1] = ["…"] if keys[8:] else keys[6:-1]  # a circular reference has MAX_DEPTH of them
    return "".join(keys)


def shown(text: str) -> str:
    """Quote the beginning of a text."""
    short = text[:40] + ("…" if text[40:] else "")
    return json.dumps(short, ensure_ascii=not short.isprintable())


def title(kind: type) -> str:
    """Name a type as its users import it."""
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


# What it is and what to pass instead, told by the names its type has, by "…" and how the name of a class ends, or by a
# base class.
_SHAPES: tuple[tuple[str | tuple[type, ...], str, str], ...] = (
    ((Enum,), "an enum member, which would come back as its bare value", "Pass value.value"),
    ("_meta pk", "a model instance", "Pass the primary key, instance.pk, and fetch it in the task"),
    ("_wrapped _setup", "a lazy object", "Pass the key of what it wraps, as request.user.pk"),
    ("…Promise", "a lazy string", "Pass str(value)"),
    ("values_list", "a queryset", 'Pass list(queryset.values_list("pk", flat=True))'),
    ("__dataclass_fields__", "a dataclass instance", "Pass dataclasses.asdict(value)"),
    ("model_dump", "a pydantic model", 'Pass value.model_dump(mode="json")'),
    ("_asdict", "a namedtuple, which would come back as a list", "Pass value._asdict()"),
    ("…Request", "a request", "Pass what the task needs of it, as request.user.pk or the form's data"),
    ("read", "a file", "Save it to a storage and pass the storage name"),
    ("tolist", "an array or a scalar of one", "Pass value.tolist()"),
    ("__fspath__", "a path", "Pass str(value)"),
    ("__next__", "a generator or iterator", "Pass list(value)"),
    ("__await__", "an awaitable", "Await it first and pass what it returns"),
    ((set, frozenset), "a set, which JSON lacks", "Pass sorted(value) or list(value)"),
    ((range, KeysView, ValuesView, ItemsView), "a view of other data", "Pass list(value)"),
    ((type,), "a class", "Pass data and let the task import it"),
    ((FunctionType, BuiltinFunctionType, MethodType, partial), "a function", "Pass data and let the task import it"),
)
STORABLE = "Pass None, bool, int, float, str, list, dict, datetime, date, time, timedelta, Decimal, UUID or bytes"


def _fits(kind: type, sign: str | tuple[type, ...]) -> bool:
    if isinstance(sign, tuple):
        return issubclass(kind, sign)
    if sign[0] == "…":
        return any(base.__name__.endswith(sign[1:]) for base in kind.__mro__)
    return all(hasattr(kind, name) for name in sign.split())


def refusal_of(kind: type) -> Refused | None:
    """Return the refusal of a type that has a known shape."""
    for sign, what, advice in _SHAPES:
        if _fits(kind, sign):
            return Refused(f"{title(kind)} is {what}", advice)
    return None
