"""Arguments and results as JSON text, and back, with the same values and the same types.

Called where a job is enqueued, run and looked at. It imports no Django, mutates no object and names no code. The one
thing outside that it reads is the host's time zone database.

Stored as they are: ``None``, ``bool``, ``int``, finite ``float``, ``str``, ``list``, ``dict`` with ``str`` keys.
Stored under a tag, a dict of one key that begins with ``$``::

    {"$datetime": "2026-10-25T02:30:00+01:00[Europe/Berlin][fold=1]"}     the zone and the fold if there are any
    {"$time": "02:30:00"}     {"$date": "2026-10-25"}     {"$timedelta": "P-1DT86399.000001S"}
    {"$decimal": "1.50"}      {"$uuid": "018f…"}          {"$bytes": "AAEC"} (base64)
    {"$int": "-0x1f…"}        beyond 2048 bits: Python limits the decimal digits it reads

A caller's own dict of that shape gets one more ``$`` on its key, taken off on the way back. What would come back as
another type is refused with the fix shown: enum members, subclasses (namedtuple, OrderedDict, ``numpy.float64``), lazy
strings, sets. Four exceptions, on purpose:

- a ``tuple`` comes back as a ``list``, as in JSON and in Django's own tasks;
- text marked safe for HTML (``SafeString``) comes back as plain ``str``, to be escaped again;
- an aware datetime always keeps its instant and offset; it keeps its ``ZoneInfo`` if the host that reads it knows the
  zone and agrees on the offset, and nothing of any other ``tzinfo``;
- freezegun's stand-ins for ``date`` and ``datetime`` come back as the real ones.

The text belongs in a text column: ``jsonb`` would reorder keys and turn ``1e16`` into an int.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from math import isfinite
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from .errors import DecodingError
from .unstorable import STORABLE, Refused, argument_of, refusal_of, shown, steps, title, too_large

MAX_ARGUMENTS_BYTES = 256 * 1024
MAX_RESULT_BYTES = 1024 * 1024
MAX_DEPTH = 64  # lists and dicts inside one another, in one argument or one result

_BIG = 1 << 2048  # 617 digits; sys.set_int_max_str_digits() cannot forbid fewer than 640
_MOMENT = re.compile(r"([^\[]+)(?:\[([\w+/-]+)\])?(\[fold=1\])?", re.ASCII)
_BAD_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\u(?:0000|[dD][89a-fA-F])")


def encode_arguments(args: Sequence[Any], kwargs: Mapping[str, Any], *, task: str, names: Sequence[str] = ()) -> str:
    """Return ``{"args": […], "kwargs": {…}}`` as JSON text of at most ``MAX_ARGUMENTS_BYTES``.

    ``task`` is the task's name and ``names`` are those of its positional parameters, both for messages only. Raises
    ``EncodingError``, which names task, argument, the place within it, the rule and the next step.
    """
    budget = [MAX_ARGUMENTS_BYTES, MAX_ARGUMENTS_BYTES]
    try:
        positional = _list(args, MAX_DEPTH + 1, budget)
        keywords = _dict(kwargs, MAX_DEPTH + 1, budget)
        text = _ENCODER.encode({"args": positional, "kwargs": keywords})
        if (size := _size(text)) > MAX_ARGUMENTS_BYTES:
            sizes = [_size(_ENCODER.encode(value)) for value in (*positional, *keywords.values())]
            largest = sizes.index(max(sizes))
            refusal = too_large(f"{sizes[largest]:,} of {size:,} bytes of arguments", MAX_ARGUMENTS_BYTES)
            refusal.path.append([*range(len(args)), *kwargs][largest])
            raise refusal
    except Refused as refusal:
        raise refusal.error(task, argument_of(refusal.path, names)) from None
    return text


def encode_result(value: Any, *, task: str) -> str:
    """Return a task's result as JSON text of at most ``MAX_RESULT_BYTES``, or ``EncodingError``."""
    return encode_value(value, task=task, what="result", limit=MAX_RESULT_BYTES)


def encode_value(value: Any, *, task: str, what: str, limit: int) -> str:
    """Return ``value`` as JSON text of at most ``limit`` bytes of UTF-8.

    ``task`` and ``what`` ("result", "metadata") name the value in the ``EncodingError`` that is raised for a value
    outside the list above, too deep or too large.
    """
    try:
        text = _ENCODER.encode(_WRITERS.get(type(value), _other)(value, MAX_DEPTH, [limit, limit]))
        if (size := _size(text)) > limit:
            raise too_large(f"{size:,} bytes", limit)
    except Refused as refusal:
        raise refusal.error(task, what + steps(refusal.path)) from None
    return text


def decode_arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Return what ``encode_arguments`` was given, or raise ``DecodingError``."""
    content = _loads(text, "arguments", MAX_DEPTH + 2)
    if type(content) is dict and {key: type(value) for key, value in content.items()} == {"args": list, "kwargs": dict}:
        return content["args"], content["kwargs"]
    raise DecodingError(f'The stored arguments are not {{"args": [...], "kwargs": {{...}}}}. {_NOT_OURS}')


def decode_result(text: str) -> Any:
    """Return what ``encode_result`` was given, or raise ``DecodingError``."""
    return _loads(text, "result", MAX_DEPTH)


def decode_value(text: str, *, what: str) -> Any:
    """Return what ``encode_value`` was given, or raise ``DecodingError`` that names ``what``."""
    return _loads(text, what, MAX_DEPTH)


def _other(value: Any, room: int, budget: list[int]) -> Any:
    """Write what only stands in for a storable value; refuse the rest, saying what to pass."""
    kind = type(value)
    if issubclass(kind, str) and hasattr(kind, "__html__"):
        return _text(str.__str__(value))
    base = next((base for base in kind.__mro__ if base in _WRITERS), None)
    if base and kind.__module__ == "freezegun.api":
        return _WRITERS[base](value, room, budget)
    if (refusal := refusal_of(kind)) is not None:
        raise refusal
    if base:
        plain = f"{base.__name__}(value)" if base.__module__ == "builtins" else f"a plain {base.__name__} made of it"
        raise Refused(f"{title(kind)} is a subclass of {base.__name__}, which would be lost", f"Pass {plain}")
    raise Refused(f"{title(kind)} is not among the types that can be", STORABLE)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _enter(value: Any, room: int, budget: list[int]) -> int:
    """Return how many levels may lie below this one. ``budget`` is how many values still fit, and the limit in bytes:
    counted on the way, since a small value full of shared references (YAML aliases) would expand without end.
    """
    if room == 0:
        reason = f"there are more than {MAX_DEPTH} lists and dicts inside one another"
        raise Refused(reason, "Break the circle if it contains itself; if not, flatten it")
    budget[0] -= len(value)
    if budget[0] < 0:
        raise too_large("more values than bytes", budget[1])
    return room - 1


def _list(value: Sequence[Any], room: int, budget: list[int]) -> list[Any]:
    room = _enter(value, room, budget)
    written: list[Any] = []
    try:
        for item in value:
            write = _WRITERS.get(type(item), _other)  # plain text is passed on here, a call being most of its cost
            written.append(
                item if write is _text and item.isascii() and "\0" not in item else write(item, room, budget)
            )
    except Refused as refusal:
        refusal.path.append(len(written))
        raise
    return written


def _dict(value: Mapping[Any, Any], room: int, budget: list[int]) -> dict[str, Any]:
    room = _enter(value, room, budget)
    written: dict[str, Any] = {}
    key = ""
    for given, item in value.items():
        key = given if type(given) is str and given.isascii() and "\0" not in given else _key(given)
        try:
            write = _WRITERS.get(type(item), _other)
            written[key] = item if write is _text and item.isascii() and "\0" not in item else write(item, room, budget)
        except Refused as refusal:
            refusal.path.append(key)
            raise
    return {f"${key}": written[key]} if len(written) == 1 and key[:1] == "$" else written


def _key(key: Any) -> str:
    if type(key) is not str:
        value = f"{key!r}, " if type(key) in {int, float, bool} else ""
        reason = f"a dict has a key that is {value}of type {title(type(key))}, and JSON has only str keys"
        raise Refused(reason, "Use str(key), key.value of an enum, or a list of [key, value] pairs")
    return _text(key, what=f"the key {shown(key)}")


def _text(value: str, _room: int = 0, _budget: Sequence[int] = (), what: str = "the text") -> str:
    if "\0" in value:
        reason = f"{what} has a NUL character at index {value.index(chr(0))}, which databases refuse"
        raise Refused(reason, 'Remove it, as by value.replace("\\0", ""), or pass bytes')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        reason = f"{what} has a lone surrogate at index {error.start}, which UTF-8 cannot carry"
        raise Refused(reason, 'Decode it again with errors="replace", or pass bytes') from None
    return value


def _float(value: float, _room: int, _budget: Sequence[int]) -> float:
    if not isfinite(value):
        raise Refused(f"JSON has no {value!r}", "Pass None instead, or str(value)")
    return value


def _int(value: int, _room: int, _budget: Sequence[int]) -> Any:
    return value if -_BIG < value < _BIG else {"$int": hex(value)}


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise Refused(f"a Decimal that is {value} is no number", "Pass None instead, or str(value)")
    return str(value).upper()  # a decimal context may ask for "1e+5"


def _read_duration(text: str) -> timedelta:
    days, _, rest = text[1:].partition("DT")
    seconds, _, microseconds = rest[:-1].partition(".")
    return timedelta(int(days), int(seconds), int(microseconds))


def _moment(value: datetime | time) -> str:
    text, zone = value.isoformat(), value.tzinfo
    if isinstance(zone, ZoneInfo) and zone.key and _MOMENT.fullmatch(f"{text}[{zone.key}]"):
        text += f"[{zone.key}]"
    elif zone is not None and ((offset := value.utcoffset()) is None or offset.microseconds):
        reason = f"its tzinfo, of type {title(type(zone))}, has no offset in whole seconds for it"
        raise Refused(reason, "Use a zoneinfo.ZoneInfo, or leave tzinfo out")
    return f"{text}[fold=1]" if value.fold else text


def _read_moment(parse: Callable[[str], Any], text: str) -> Any:
    """Parse what ``_moment`` wrote; the zone counts if this host's rules give the same offset."""
    iso, key, fold = match.groups() if (match := _MOMENT.fullmatch(text)) else ("", None, None)
    value = zoned = parse(iso).replace(fold=1 if fold else 0)
    if value.isoformat() != iso:
        raise ValueError(text)
    if key:
        with suppress(KeyError, ValueError, OSError):  # unknown here, or the name of no zone at all
            zoned = value.replace(tzinfo=ZoneInfo(key))
        zoned = zoned if zoned.utcoffset() == value.utcoffset() else value
        if zoned.tzinfo is None:
            raise ValueError(text)
    return zoned


_TAGS: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "$datetime": (datetime, _moment, partial(_read_moment, datetime.fromisoformat)),
    "$date": (date, date.isoformat, date.fromisoformat),
    "$time": (time, _moment, partial(_read_moment, time.fromisoformat)),
    "$timedelta": (timedelta, lambda value: f"P{value.days}DT{value.seconds}.{value.microseconds:06}S", _read_duration),
    "$decimal": (Decimal, _decimal, Decimal),
    "$uuid": (UUID, str, UUID),
    "$bytes": (bytes, lambda value: b64encode(value).decode(), b64decode),
    "$int": (int, lambda value: "" if -_BIG < value < _BIG else hex(value), partial(int, base=16)),
}


def _tagged(tag: str, write: Callable[[Any], str], value: Any, _room: int, _budget: Sequence[int]) -> dict[str, str]:
    return {tag: write(value)}


_WRITERS: dict[type, Callable[[Any, int, list[int]], Any]] = {
    kind: partial(_tagged, tag, write) for tag, (kind, write, _) in _TAGS.items()
}
_WRITERS |= dict.fromkeys((bool, type(None)), lambda value, *_: value)
_WRITERS |= {str: _text, int: _int, float: _float, list: _list, tuple: _list, dict: _dict}
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))


def _loads(text: str, what: str, levels: int) -> Any:
    reason = f"there are more than {MAX_DEPTH} lists and dicts inside one another"
    try:
        value = _DECODER.decode(text)
        if "\\u" in text and _BAD_ESCAPE.search(text):
            reason = "it has an escaped NUL or surrogate"
        elif text.count("[") + text.count("{") <= levels or not _is_deeper(value, levels):
            return value
    except (ValueError, TypeError, RecursionError) as error:
        reason = reason if isinstance(error, RecursionError) else str(error)
    raise DecodingError(f"The stored {what} cannot be read: {reason}. {_NOT_OURS}")


def _is_deeper(value: Any, levels: int) -> bool:
    boxes: list[Any] = [[value]]
    for _ in range(levels + 1):
        contents = (box.values() if type(box) is dict else box for box in boxes)
        boxes = [item for content in contents for item in content if isinstance(item, (list, dict))]
    return bool(boxes)


def _object(pairs: list[tuple[str, Any]]) -> Any:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError(f"a dict has a key twice, among {', '.join(map(shown, [*members][:5]))}")
    if len(pairs) == 1 and pairs[0][0][:1] == "$":
        return _read_tag(*pairs[0])
    return members


def _read_tag(tag: str, content: Any) -> Any:
    if tag[:2] == "$$":
        return {tag[1:]: content}
    if tag not in _TAGS:
        raise ValueError(f"unknown tag {shown(tag)}, known are {', '.join(_TAGS)}")
    _, write, read = _TAGS[tag]
    try:
        value = read(content) if type(content) is str else None
        if value is not None and (write is _moment or write(value) == content):
            return value
    except (ValueError, ArithmeticError, Refused):
        pass
    raise ValueError(f"tag {tag} with {shown(content) if type(content) is str else type(content).__name__} in it")


def _finite(text: str) -> float:
    if isfinite(value := float(text)):
        return value
    raise ValueError(f"{shown(text)} is no finite number")


_NOT_OURS = "This version of django-meanwhile does not write that."
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_finite)
