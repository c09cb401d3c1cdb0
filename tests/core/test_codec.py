"""The codec: what goes in comes back, what would not is refused by name, and hostile text is an error, not a crash."""

import base64
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import io
import json
import math
import pathlib
import time as clock
import uuid
from collections import OrderedDict, namedtuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_meanwhile.core import codec
from django_meanwhile.core.codec import (
    MAX_ARGUMENTS_BYTES,
    MAX_DEPTH,
    MAX_RESULT_BYTES,
    decode_arguments,
    decode_result,
    decode_value,
    encode_arguments,
    encode_result,
    encode_value,
)
from django_meanwhile.core.errors import DecodingError, EncodingError, MeanwhileError

TASK = "reports.tasks.send"
proven = settings(max_examples=200, deadline=None)  # a busy machine is no failure
BERLIN = ZoneInfo("Europe/Berlin")
FIXED = st.integers(-86_399, 86_399).map(lambda seconds: dt.timezone(dt.timedelta(seconds=seconds)))
ZONES = st.one_of(
    st.none(),
    st.just(dt.UTC),
    FIXED,
    st.sampled_from(["Europe/Berlin", "America/Port-au-Prince", "Etc/GMT+5", "UTC"]).map(ZoneInfo),
)
TAGS = [
    "$date",
    "$datetime",
    "$decimal",
    "$bytes",
    "$int",
    "$time",
    "$timedelta",
    "$uuid",
    "$nonsense",
    "$",
    "$$",
    "$$x",
]

keys = st.text() | st.sampled_from(TAGS)
texts = st.text().filter(lambda text: "\0" not in text)
clean_keys = texts | st.sampled_from(TAGS)
folds = st.sampled_from([0, 1])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**2040, max_value=2**2060) | st.integers(max_value=-(2**2040), min_value=-(2**2060)),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    st.binary(),
    st.dates(),
    st.timedeltas(),
    st.builds(lambda value, fold: value.replace(fold=fold), st.times(timezones=ZONES), folds),
    st.builds(lambda value, fold: value.replace(fold=fold), st.datetimes(timezones=ZONES), folds),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(clean_keys, inner, max_size=5),
    max_leaves=30,
)


def alike(left, right):
    """Whether two values are equal in type, value, zone, fold, sign and exponent, all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(alike, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(map(alike, left.values(), right.values()))
    if isinstance(left, dt.datetime | dt.time):
        same_zone = type(left.tzinfo) is type(right.tzinfo) and str(left.tzinfo) == str(right.tzinfo)
        return same_zone and left.isoformat() == right.isoformat() and left.fold == right.fold
    return left == right and (isinstance(left, int) or repr(left) == repr(right))


def refusal(value, **options):
    """Return the message with which ``value`` is refused as the argument ``data``."""
    with pytest.raises(EncodingError) as caught:
        encode_arguments([], {"data": value}, task=TASK, **options)
    return str(caught.value)


def nested(depth, box=list):
    """Return ``depth`` lists or dicts inside one another."""
    value = box()
    for _ in range(depth - 1):
        value = [value] if box is list else {"a": value}
    return value


# --- round trips ----------------------------------------------------------------------------------------------------


@proven
@given(values)
def test_what_goes_in_comes_back(value):
    """decode(encode(x)) is x, with the same types, zone, fold, sign of zero and exponent."""
    text = encode_result(value, task=TASK)
    assert alike(decode_result(text), value)


@proven
@given(st.lists(values, max_size=3), st.dictionaries(clean_keys, values, max_size=3))
def test_arguments_come_back(args, kwargs):
    """Positional and keyword arguments come back each in their place, whatever the keywords are called."""
    got_args, got_kwargs = decode_arguments(encode_arguments(args, kwargs, task=TASK))
    assert alike(got_args, args)
    assert alike(got_kwargs, kwargs)


@proven
@given(values)
def test_the_text_is_plain_compact_json_of_the_same_size_everywhere(value):
    """The text is JSON that any reader accepts, has no blanks between its parts, and is UTF-8 without NUL."""
    text = encode_result(value, task=TASK)
    parsed = json.loads(text, parse_constant=pytest.fail)
    assert json.dumps(parsed, ensure_ascii=False, separators=(",", ":")) == text
    assert b"\0" not in text.encode()


def test_nothing_given_is_mutated():
    """Encoding leaves the caller's data as it was, down to the inner containers."""
    given_value = {"$date": [(1, 2), {"$x": decimal.Decimal("1.50")}], "b": {"$$y": b"\x00"}}
    before = copy.deepcopy(given_value)
    encode_result(given_value, task=TASK)
    assert given_value == before
    assert type(given_value["$date"][0]) is tuple


def test_tuples_come_back_as_lists():
    """A tuple, at any place, comes back as a list, as in JSON and in Django's tasks."""
    args, kwargs = decode_arguments(encode_arguments(((1, (2,)),), {"a": ()}, task=TASK))
    assert alike(args, [[1, [2]]])
    assert alike(kwargs, {"a": []})


@pytest.mark.parametrize("key", TAGS)
def test_a_dict_that_looks_like_a_tag_comes_back_as_that_dict(key):
    """A caller's dict with a tag's name as its only key is data, also within itself and beside real tags."""
    value = {key: {key: "2026-01-01", "more": {key: dt.date(2026, 1, 1)}}}
    assert alike(decode_result(encode_result(value, task=TASK)), value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
            '{"$datetime":"2026-10-25T02:30:00+01:00[Europe/Berlin][fold=1]"}',
        ),
        (dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN), '{"$datetime":"2026-10-25T02:30:00+02:00[Europe/Berlin]"}'),
        (dt.datetime(2026, 10, 25, 2, 30), '{"$datetime":"2026-10-25T02:30:00"}'),
        (dt.datetime(2026, 10, 25, tzinfo=dt.UTC), '{"$datetime":"2026-10-25T00:00:00+00:00"}'),
        (dt.time(2, 30, fold=1), '{"$time":"02:30:00[fold=1]"}'),
        (dt.time(2, 30, tzinfo=BERLIN), '{"$time":"02:30:00[Europe/Berlin]"}'),
        (dt.date(2026, 10, 25), '{"$date":"2026-10-25"}'),
        (dt.timedelta(microseconds=-1), '{"$timedelta":"P-1DT86399.999999S"}'),
        (decimal.Decimal("-0.00"), '{"$decimal":"-0.00"}'),
        (uuid.UUID(int=1), '{"$uuid":"00000000-0000-0000-0000-000000000001"}'),
        (b"\x00\x01\x02", '{"$bytes":"AAEC"}'),
        (2**2048, '{"$int":"' + hex(2**2048) + '"}'),
        (2**2048 - 1, str(2**2048 - 1)),
        ({"$date": 1}, '{"$$date":1}'),
        ({"$$date": 1}, '{"$$$date":1}'),
        ({"$date": 1, "b": 2}, '{"$date":1,"b":2}'),
    ],
)
def test_the_stored_form_stays(value, text):
    """The text of each tag is a promise to rows already written: it is this, and reads back as the value."""
    assert encode_result(value, task=TASK) == text
    assert alike(decode_result(text), value)


def test_integers_of_any_size_come_back():
    """An integer past the digits that Python agrees to read (4,300 by default) comes back as well."""
    value = -(7**20_000)
    assert decode_result(encode_result([value], task=TASK)) == [value]


def test_the_decimal_context_has_no_say():
    """Neither precision, traps nor capitals of the context change what is stored or read."""
    value = decimal.Decimal("1.23456789E+50")
    with decimal.localcontext(prec=3, capitals=0) as context:
        context.clear_traps()
        text = encode_result(value, task=TASK)
        assert alike(decode_result(text), value)
        with pytest.raises(DecodingError, match=r"\$decimal"):
            decode_result('{"$decimal":"abc"}')
    assert text == '{"$decimal":"1.23456789E+50"}'


def test_an_unknown_zone_costs_the_zone_not_the_instant(monkeypatch):
    """A host without the zone reads the same instant with its offset; a time without an offset is an error there."""
    moment = dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1)
    text, wall = encode_result(moment, task=TASK), encode_result(moment.timetz(), task=TASK)

    def absent(key):
        raise ZoneInfoNotFoundError(key)

    monkeypatch.setattr(codec, "ZoneInfo", absent)
    read = decode_result(text)
    assert read.isoformat() == "2026-10-25T02:30:00+01:00"
    assert read.tzinfo == dt.timezone(dt.timedelta(hours=1))
    assert read.timestamp() == moment.timestamp()
    with pytest.raises(DecodingError, match=r"tag \$time"):
        decode_result(wall)


def test_changed_rules_of_a_zone_do_not_move_the_instant():
    """If this host's rules give another offset than the stored one, the offset wins."""
    read = decode_result('{"$datetime":"2026-07-01T12:00:00+05:00[Europe/Berlin]"}')
    assert read.isoformat() == "2026-07-01T12:00:00+05:00"
    assert not isinstance(read.tzinfo, ZoneInfo)


@pytest.mark.parametrize("key", ["/etc/passwd", "Europe", "no/such", "x" * 5000, "-", "posixrules/UTC"])
def test_the_name_of_no_zone_costs_nothing_either(key):
    """What looks like a zone's name but is none leaves the instant with its offset, as an unknown zone does."""
    read = decode_result(json.dumps({"$datetime": f"2026-07-01T12:00:00+02:00[{key}]"}))
    assert read.isoformat() == "2026-07-01T12:00:00+02:00"
    assert type(read.tzinfo) is dt.timezone


@pytest.mark.parametrize("key", ["../../etc/passwd", "a.b", "a b", "", "\u00fc", "fold=0", "Europe/Berlin\n"])
def test_the_name_of_a_zone_opens_nothing_else(key):
    """A row cannot name a file outside the zone database: no dots, no blanks, no other marks."""
    with pytest.raises(DecodingError, match=r"tag \$datetime"):
        decode_result(json.dumps({"$datetime": f"2026-07-01T12:00:00+02:00[{key}]"}))


def test_another_kind_of_zone_keeps_the_offset():
    """A tzinfo of another library keeps the instant and the offset; one without an offset is refused."""

    class Other(dt.tzinfo):
        def utcoffset(self, when):
            return dt.timedelta(hours=3) if when is not None else None

    moment = dt.datetime(2026, 1, 1, tzinfo=Other())
    read = decode_result(encode_result(moment, task=TASK))
    assert read == moment
    assert read.tzinfo == dt.timezone(dt.timedelta(hours=3))
    assert "in whole seconds" in refusal(dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(microseconds=1))))
    message = refusal(dt.time(1, tzinfo=Other()))
    assert "Other, has no offset in whole seconds for it" in message
    assert "Use a zoneinfo.ZoneInfo" in message


def test_safe_text_comes_back_as_plain_text():
    """Text marked safe for HTML loses the mark and nothing else: it will be escaped again."""

    class SafeString(str):
        __slots__ = ()

        def __html__(self):
            return self

        def __str__(self):
            return self

    value = SafeString("<b>ü</b>")
    assert alike(decode_result(encode_result([value], task=TASK)), ["<b>ü</b>"])
    assert "NUL" in refusal(SafeString("\0"))


def test_freezegun_is_seen_through():
    """A test under freezegun may enqueue "now": its stand-ins are stored as the real types."""
    frozen = type("FakeDatetime", (dt.datetime,), {"__module__": "freezegun.api"})
    assert alike(decode_result(encode_result(frozen(2026, 1, 2, 3), task=TASK)), dt.datetime(2026, 1, 2, 3))


# --- refusals -------------------------------------------------------------------------------------------------------


class _Colour(enum.Enum):
    RED = "red"


class _Size(enum.IntEnum):
    SMALL = 1


class _Status(enum.StrEnum):
    DONE = "done"


class _Model:
    _meta = object()
    pk = property(lambda self: pytest.fail("the instance was asked"))


class _LazyObject:
    _wrapped = None

    def _setup(self):
        pytest.fail("the lazy object was evaluated")

    @property
    def __class__(self):
        return pytest.fail("the lazy object was evaluated")


class _Promise:
    pass


class _WSGIRequest:
    META = {}
    read = property(lambda self: pytest.fail("the request was read"))


class _UploadedFile:
    read = property(lambda self: pytest.fail("the file was read"))


class _QuerySet:
    def values_list(self):
        pytest.fail("a query ran")

    def __iter__(self):
        pytest.fail("a query ran")

    __repr__ = __len__ = __bool__ = __iter__


class _Array:
    def tolist(self):
        return []


class _Schema:
    def model_dump(self):
        return {}


@dataclasses.dataclass
class _Order:
    read: bool = False


_Point = namedtuple("Point", "x y")  # noqa: PYI024 - what is tested


class _Mapped(dict):
    pass


class _Stamp(dt.datetime):
    pass


async def _coroutine():
    pass


REFUSED = [
    (_Model(), "Model is a model instance", "Pass the primary key, instance.pk, and fetch it in the task"),
    (_WSGIRequest(), "WSGIRequest is a request", "Pass what the task needs of it"),
    (_UploadedFile(), "UploadedFile is a file", "Save it to a storage and pass the storage name"),
    (io.BytesIO(), "BytesIO is a file", "Save it to a storage and pass the storage name"),
    (_QuerySet(), "QuerySet is a queryset", 'list(queryset.values_list("pk", flat=True))'),
    (_LazyObject(), "LazyObject is a lazy object", "as request.user.pk"),
    (_Promise(), "Promise is a lazy string", "Pass str(value)"),
    (_Colour.RED, "Colour is an enum member", "Pass value.value"),
    (_Size.SMALL, "Size is an enum member", "Pass value.value"),
    (_Status.DONE, "Status is an enum member", "Pass value.value"),
    ((n for n in "ab"), "generator is a generator or iterator", "Pass list(value)"),
    (map(str, []), "map is a generator or iterator", "Pass list(value)"),
    ({1, 2}, "set is a set, which JSON lacks", "Pass sorted(value) or list(value)"),
    (frozenset(), "frozenset is a set, which JSON lacks", "Pass sorted(value) or list(value)"),
    (range(3), "range is a view of other data", "Pass list(value)"),
    ({}.keys(), "dict_keys is a view of other data", "Pass list(value)"),
    (refusal, "function is a function", "Pass data and let the task import it"),
    (lambda: None, "function is a function", "Pass data and let the task import it"),
    (len, "is a function", "Pass data and let the task import it"),
    (functools.partial(len, ""), "partial is a function", "Pass data and let the task import it"),
    ([].append, "is a function", "Pass data and let the task import it"),
    (_Order, "type is a class", "Pass data and let the task import it"),
    (_Order(), "Order is a dataclass instance", "Pass dataclasses.asdict(value)"),
    (_Schema(), "Schema is a pydantic model", 'Pass value.model_dump(mode="json")'),
    (_Array(), "Array is an array", "Pass value.tolist()"),
    (_Point(1, 2), "Point is a namedtuple, which would come back as a list", "Pass value._asdict()"),
    (pathlib.Path("a"), "is a path", "Pass str(value)"),
    (OrderedDict(a=1), "collections.OrderedDict is a subclass of dict, which would be lost", "Pass dict(value)"),
    (_Mapped(), "Mapped is a subclass of dict", "Pass dict(value)"),
    (type("Text", (str,), {})(), "Text is a subclass of str", "Pass str(value)"),
    (type("Number", (float,), {})(), "Number is a subclass of float", "Pass float(value)"),
    (_Stamp(2026, 1, 1), "Stamp is a subclass of datetime", "Pass a plain datetime made of it"),
    (object(), "object is not among the types that can be", "Pass None, bool, int, float, str, list, dict, datetime"),
    (bytearray(), "bytearray is not among the types that can be", "UUID or bytes"),
    (1j, "complex is not among the types that can be", "Decimal"),
    (math.nan, "JSON has no nan", "Pass None instead, or str(value)"),
    (-math.inf, "JSON has no -inf", "Pass None instead, or str(value)"),
    (decimal.Decimal("NaN"), "a Decimal that is NaN is no number", "Pass None instead, or str(value)"),
    (decimal.Decimal("sNaN"), "a Decimal that is sNaN is no number", "Pass None instead, or str(value)"),
    (decimal.Decimal("-Infinity"), "a Decimal that is -Infinity is no number", "Pass None instead, or str(value)"),
    ("ab\0c", "the text has a NUL character at index 2", 'value.replace("\\0", "")'),
    ("aü\ud800", "the text has a lone surrogate at index 2", 'errors="replace"'),
    ({1: 2}, "a dict has a key that is 1, of type int, and JSON has only str keys", "Use str(key)"),
    ({None: 2}, "a dict has a key that is of type NoneType", "Use str(key)"),
    ({True: 2}, "a dict has a key that is True, of type bool", "Use str(key)"),
    ({(1, 2): 2}, "a dict has a key that is of type tuple", "a list of [key, value] pairs"),
    ({_Status.DONE: 2}, "Status, and JSON has only str keys", "key.value of an enum"),
    ({"a\0": 2}, 'the key "a\\u0000" has a NUL character at index 1', "Remove it"),
    ({"\udfff": 2}, 'the key "\\udfff" has a lone surrogate at index 0', "Decode it again"),
]


@pytest.mark.parametrize(("value", "rule", "step"), REFUSED, ids=[rule for _, rule, _ in REFUSED])
def test_what_would_not_come_back_is_refused(value, rule, step):
    """The message names task, argument, value, rule and next step, and the value itself is never evaluated."""
    for message in (refusal(value), refusal([{"rows": value}])):
        assert message.startswith(f"{TASK}: argument ")
        assert ": cannot be stored: " in message
        assert rule in message
        assert step in message
        assert message.endswith(".")
        assert message.isprintable()
    with pytest.raises(EncodingError) as caught:
        encode_result(value, task=TASK)
    assert rule in str(caught.value)


def test_a_coroutine_is_refused():
    """An awaitable that somebody forgot to await is refused with that advice."""
    awaitable = _coroutine()
    try:
        assert "coroutine is an awaitable. Await it first" in refusal(awaitable)
    finally:
        awaitable.close()


def test_djangos_own_objects_are_recognised():
    """Django's own classes have the shapes that the codec looks for (no settings needed: only types are asked)."""
    pytest.importorskip("django", reason="the codec knows Django's objects by their shape; this shows that it does")
    from django.core.files.uploadedfile import SimpleUploadedFile
    from django.db.models import IntegerChoices, QuerySet, TextChoices
    from django.db.models.fields.files import FieldFile
    from django.http import HttpRequest, QueryDict
    from django.utils.functional import SimpleLazyObject
    from django.utils.safestring import mark_safe
    from django.utils.translation import gettext_lazy

    text, number = TextChoices("Text", "A"), IntegerChoices("Number", "B")
    assert alike(decode_result(encode_result(mark_safe("<b>"), task=TASK)), "<b>")
    assert "is a request" in refusal(HttpRequest.__new__(HttpRequest))
    assert "is a queryset" in refusal(QuerySet.__new__(QuerySet))
    assert "is a file" in refusal(FieldFile.__new__(FieldFile))
    assert "is a file" in refusal(SimpleUploadedFile("a.txt", b""))
    assert "is a lazy object" in refusal(SimpleLazyObject(lambda: pytest.fail("evaluated")))
    assert "is a lazy string" in refusal(gettext_lazy("word"))
    assert "is an enum member" in refusal(text.A)
    assert "is an enum member" in refusal(number.B)
    assert "Pass dict(value)" in refusal(QueryDict.__new__(QueryDict))


@pytest.mark.parametrize(
    ("args", "kwargs", "names", "where"),
    [
        ([{1}], {}, ["user"], "argument 'user' (position 0): cannot"),
        ([0, {"rows": [1, {2}]}], {}, ["user", "data"], 'argument data["rows"][1] (position 1): cannot'),
        ([0, {1}], {}, ["user"], "argument args[1]: cannot"),
        ([{"a": {1}}], {}, [], 'argument args[0]["a"]: cannot'),
        ([], {"data": {1}}, [], "argument 'data': cannot"),
        ([], {"data": {"rows": [1, 2, 3, {4}]}}, ["user"], 'argument data["rows"][3]: cannot'),
        ([], {"data": {"$date": {1}}}, [], 'argument data["$date"]: cannot'),
        ([], {"data": {'a"\n\x1b': {1}}}, [], 'argument data["a\\"\\n\\u001b"]: cannot'),
        ([], {"data": {"x" * 300: {1}}}, [], 'argument data["' + "x" * 40 + '…"]: cannot'),
        ([], {"a\nb": {1}}, [], "argument 'a\\nb': cannot"),
        ([], {"a\0": 1}, [], 'arguments: cannot be stored: the key "a\\u0000" has'),
        ([], {3: 1}, [], "arguments: cannot be stored: a dict has a key that is 3"),
    ],
)
def test_the_place_is_named_in_the_callers_terms(args, kwargs, names, where):
    """The message leads to the argument by its name, and within it as one would write it in Python, on one line."""
    with pytest.raises(EncodingError) as caught:
        encode_arguments(args, kwargs, task=TASK, names=names)
    assert str(caught.value).startswith(f"{TASK}: {where}")
    assert str(caught.value).isprintable()


def test_results_and_other_values_are_named():
    """Outside of arguments the value is called what the caller of the codec calls it."""
    with pytest.raises(EncodingError, match=r'^t: result\["a"\]\[0\]: cannot be stored'):
        encode_result({"a": [{1}]}, task="t")
    with pytest.raises(EncodingError, match=r"^t: metadata: cannot be stored"):
        encode_value({1}, task="t", what="metadata", limit=100)
    with pytest.raises(DecodingError, match="The stored metadata cannot be read"):
        decode_value("[", what="metadata")
    assert decode_value(encode_value([b"1"], task="t", what="metadata", limit=100), what="metadata") == [b"1"]


def test_the_errors_are_ours_and_value_errors():
    """Both errors can be caught as the package's, and as ValueError, without a chain of inner exceptions."""
    for error, function, bad in (
        (EncodingError, encode_arguments, ([{1}], {})),
        (DecodingError, decode_result, ("{",)),
    ):
        assert issubclass(error, MeanwhileError)
        assert issubclass(error, ValueError)
        with pytest.raises(error) as caught:
            function(*bad, **({"task": TASK} if error is EncodingError else {}))
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None or caught.value.__suppress_context__


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [list, dict])
def test_depth_has_one_limit_for_writing_and_reading(box):
    """MAX_DEPTH containers may lie inside one another, for each argument and each result; one more is refused."""
    fits, over = nested(MAX_DEPTH, box), nested(MAX_DEPTH + 1, box)
    assert decode_result(encode_result(fits, task=TASK)) == fits
    assert decode_arguments(encode_arguments([fits], {"a": fits}, task=TASK)) == ([fits], {"a": fits})
    assert f"more than {MAX_DEPTH} lists and dicts inside one another" in refusal(over)
    with pytest.raises(EncodingError, match="flatten it"):
        encode_result(over, task=TASK)
    with pytest.raises(DecodingError, match=f"more than {MAX_DEPTH} lists"):
        decode_result(json.dumps(over))
    with pytest.raises(DecodingError, match=f"more than {MAX_DEPTH} lists"):
        decode_arguments(json.dumps({"args": [over], "kwargs": {}}))


def test_tags_and_escapes_cost_no_depth():
    """A tag or an escape in the text takes nothing from the depth that the caller has."""
    value = {"$date": dt.date(2026, 1, 1)}
    for _ in range(MAX_DEPTH - 1):
        value = {"$date": value}
    assert decode_result(encode_result(value, task=TASK)) == value


def test_a_circle_is_refused():
    """A list or dict that contains itself is refused at once, in a short message that says so."""
    ring = {"name": "ring"}
    ring["self"] = [ring, ring]
    message = refusal(ring)
    assert message.startswith(f'{TASK}: argument data["self"][0]["self"][0]["self"][0]…[')
    assert "Break the circle" in message
    assert len(message) < 300


def test_shared_references_do_not_explode():
    """A hundred bytes of YAML aliases that stand for 2 to the 40 values are refused, quickly."""
    bomb = []
    for _ in range(40):
        bomb = [bomb, bomb]
    begin = clock.process_time()
    assert "it is too large: more values than bytes, the limit is 262,144 bytes" in refusal(bomb)
    assert clock.process_time() - begin < 10  # it would take weeks


@pytest.mark.parametrize("letter", ["a", "ü", "€", "\N{GRINNING FACE}", "\n", '"'])
def test_limits_count_bytes_of_utf_8(letter):
    """A result of exactly the limit is stored, one byte more is not, whatever the letters take."""
    width = len(json.dumps(letter, ensure_ascii=False).encode()) - 2
    count, rest = divmod(MAX_RESULT_BYTES - 2, width)
    fits = letter * count + "x" * rest
    text = encode_result(fits, task=TASK)
    assert len(text.encode()) == MAX_RESULT_BYTES
    assert decode_result(text) == fits
    with pytest.raises(
        EncodingError, match=r"result: cannot .*1,048,577 bytes, the limit is 1,048,576 bytes"
    ) as caught:
        encode_result(fits + "x", task=TASK)
    assert "Keep large data in a model or a file" in str(caught.value)


def test_too_large_arguments_name_the_largest():
    """The message has both sizes, the limit, and the argument that takes most of it."""
    with pytest.raises(EncodingError) as caught:
        encode_arguments([1, "a" * 10], {"data": b"x" * MAX_ARGUMENTS_BYTES}, task=TASK)
    message = str(caught.value)
    assert message.startswith(f"{TASK}: argument 'data': cannot be stored: it is too large: ")
    assert "349,541 of 349,585 bytes of arguments, the limit is 262,144 bytes as JSON" in message
    assert "pass its key or its name" in message
    with pytest.raises(EncodingError, match=r"argument 'body' \(position 1\): cannot"):
        encode_arguments([1, "a" * MAX_ARGUMENTS_BYTES], {"data": 1}, task=TASK, names=["user", "body"])


# --- hostile rows ---------------------------------------------------------------------------------------------------

MALFORMED = [
    ("[", "Expecting value"),
    ("{", "Expecting property name"),
    ("[1] x", "Extra data"),
    ("\ufeff1", "Expecting value"),
    ('"\n"', "control character"),
    ("NaN", "NaN"),
    ("[-Infinity]", "-Infinity"),
    ("[1e999]", '"1e999" is no finite number'),
    ("9" * 5000, "4300"),
    ('{"a":1,"a":2}', 'a key twice, among "a"'),
    ('[{"b":{"$date":1,"$date":2}}]', 'a key twice, among "$date"'),
    ('{"$date":"2026-01-01","$date":"2026-01-01"}', "a key twice"),
    ('"a\\u0000"', "escaped NUL or surrogate"),
    ('{"a\\u0000":1}', "escaped NUL or surrogate"),
    ('"\\\\\\ud800"', "escaped NUL or surrogate"),
    ('{"$set":[1]}', 'unknown tag "$set", known are $datetime'),
    ('{"$":1}', 'unknown tag "$"'),
    ('{"$\\u001b[31m":1}', 'unknown tag "$\\u001b[31m"'),
    ('{"$date":20260101}', "tag $date with int in it"),
    ('{"$date":null}', "tag $date with NoneType in it"),
    ('{"$date":{"$date":"2026-01-01"}}', "tag $date with date in it"),
    ('{"$date":"20260101"}', 'tag $date with "20260101" in it'),
    ('{"$date":"2026-02-30"}', "tag $date"),
    ('{"$datetime":"2026-01-01"}', "tag $datetime"),
    ('{"$datetime":"2026-01-01T00:00:00Z"}', "tag $datetime"),
    ('{"$datetime":"2026-01-01T00:00:00[Europe/Berlin]"}', "tag $datetime"),
    ('{"$datetime":"2026-01-01T00:00:00[fold=0]"}', "tag $datetime"),
    ('{"$datetime":"2026-01-01T00:00:00[fold=1][fold=1]"}', "tag $datetime"),
    ('{"$datetime":""}', 'tag $datetime with ""'),
    ('{"$time":"24:00:00"}', "tag $time"),
    ('{"$time":"T01:00:00"}', "tag $time"),
    ('{"$timedelta":"P1DT0.0S"}', "tag $timedelta"),
    ('{"$timedelta":"P0DT86400.000000S"}', "tag $timedelta"),
    ('{"$timedelta":"P9999999999DT0.000000S"}', "tag $timedelta"),
    ('{"$timedelta":"1 day"}', "tag $timedelta"),
    ('{"$decimal":"NaN"}', "tag $decimal"),
    ('{"$decimal":"Infinity"}', "tag $decimal"),
    ('{"$decimal":"1_0"}', "tag $decimal"),
    ('{"$decimal":"1e5"}', "tag $decimal"),
    ('{"$decimal":"x"}', "tag $decimal"),
    ('{"$decimal":1.5}', "tag $decimal with float"),
    ('{"$uuid":"{00000000-0000-0000-0000-000000000001}"}', "tag $uuid"),
    ('{"$uuid":"1"}', "tag $uuid"),
    ('{"$bytes":"AAEC!"}', "tag $bytes"),
    ('{"$bytes":"AAE"}', "tag $bytes"),
    ('{"$bytes":"AB=="}', "tag $bytes"),
    ('{"$bytes":"\u00fc"}', "tag $bytes"),
    ('{"$int":"0x1f"}', "tag $int"),
    ('{"$int":"-0x' + "F" * 600 + '"}', "tag $int"),
    ('{"$int":"zz"}', "tag $int"),
]


@pytest.mark.parametrize(("text", "reason"), MALFORMED, ids=[text[:40] for text, _ in MALFORMED])
def test_what_the_codec_does_not_write_it_does_not_read(text, reason):
    """Reading is strict: the message names the tag or the place, on one line, and quotes little."""
    for read, hostile in ((decode_result, text), (decode_arguments, f'{{"args":[{text}],"kwargs":{{}}}}')):
        with pytest.raises(DecodingError) as caught:
            read(hostile)
        assert len(str(caught.value)) < 400
        if read is decode_result:
            assert reason in str(caught.value)
            assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "1",
        "{}",
        '{"$date":"2026-01-01"}',
        '{"args":[]}',
        '{"args":{},"kwargs":{}}',
        '{"args":[],"kwargs":[]}',
        '{"args":[],"kwargs":{"$date":"2026-01-01"}}',
        '{"args":[],"kwargs":{},"more":1}',
    ],
)
def test_stored_arguments_have_one_shape(text):
    """Anything but a list of args and a dict of kwargs is an error before a task is called with it."""
    with pytest.raises(DecodingError, match="The stored arguments are not"):
        decode_arguments(text)


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"$date":', '[{"a":'])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 500, 5_000, 200_000])
def test_hostile_depth_is_an_error_not_a_crash(opening, depth):
    """However deep the text is, reading it ends in DecodingError: no RecursionError, no dead interpreter."""
    closing = {"[": "]", "{": "}"}
    ends = "".join(closing[mark] for mark in reversed(opening) if mark in closing)
    with pytest.raises(DecodingError, match=r"more than 64 lists and dicts|tag \$date"):
        decode_result(opening * depth + "1" + ends * depth)


@pytest.mark.parametrize("text", [None, b"1", 1, ["a"]])
def test_only_text_is_read(text):
    """A column of another type than text (bytes, parsed JSON) is an error of the same kind."""
    with pytest.raises(DecodingError):
        decode_result(text)


@pytest.mark.parametrize("text", ["\\u0000", "\\ud800", "a\\\\u0000", '\\"u0000', "\N{GRINNING FACE}\x7f\x1b"])
def test_text_that_looks_like_an_escape_is_text(text):
    """A backslash and what follows it in a caller's text is no escape, and comes back."""
    assert decode_result(encode_result({text: [text]}, task=TASK)) == {text: [text]}


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.from_regex(r"[-+P0-9T:.DSZ\[\]]{0,30}"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)


@proven
@given(json_like.map(json.dumps) | st.text())
def test_whatever_is_read_can_be_written_again(text):
    """For any text: either DecodingError, or a value that the codec writes and reads back as the same."""
    try:
        value = decode_result(text)
    except DecodingError:
        return
    assert alike(decode_result(encode_result(value, task=TASK)), value)


def test_base64_is_the_plain_one():
    """Bytes are in the standard alphabet with padding, as any other program would read them."""
    data = bytes(range(256))
    assert json.loads(encode_result(data, task=TASK)) == {"$bytes": base64.b64encode(data).decode()}
