"""The rules of the options, and what a refusal says."""

import functools
import math

import pytest

from django_meanwhile.core.errors import Cancelled, Interrupted, InvalidOption, LeaseLost, TaskTimeout
from django_meanwhile.core.options import (
    MAX_METADATA,
    MAX_NAME,
    RULES,
    check_combination,
    check_options,
    unknown_option,
)
from django_meanwhile.core.retry import ExponentialBackoff


def policy(exception, result):
    """A backoff as a plain function."""
    return 1.0


class Policy:
    """A backoff as an object."""

    def __call__(self, exception, result):
        """Return the delay."""
        return 1.0


async def async_policy(exception, result):
    """No backoff: nobody awaits it."""


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("executor", "thread"),
        ("executor", "process"),
        ("executor", "asyncio"),
        ("timeout", None),
        ("timeout", 1),
        ("timeout", 0.001),
        ("max_attempts", 1),
        ("max_attempts", 1_000_000),
        ("backoff", None),
        ("backoff", policy),
        ("backoff", Policy()),
        ("backoff", ExponentialBackoff()),
        ("backoff", lambda exception, result: None),
        ("backoff", functools.partial(policy)),
        ("retry_on", OSError),
        ("retry_on", (OSError, KeyError)),
        ("retry_on", [OSError]),
        ("retry_on", ()),
        ("retry_on", TaskTimeout),
        ("retry_on", SystemExit),
        ("dont_retry", (ValueError,)),
        ("on_crash", "retry"),
        ("on_crash", "fail"),
        ("metadata", {}),
        ("metadata", {"team": "mail", "tags": ["a", 1, None, True, 1.5]}),
        ("name", "reports.generate"),
        ("name", "x" * MAX_NAME),
        ("name", "berichte.erzeugen-ü:2/3"),
        ("aliases", ()),
        ("aliases", ("old.name", "older")),
        ("aliases", ["old.name"]),
        ("queue_name", "mail"),
        ("queue_name", "mail-2.high:eu/west@x"),
        ("queue_name", "_"),
        ("priority", -100),
        ("takes_context", True),
        ("outside_transaction", False),
    ],
)
def test_what_is_accepted(option, value):
    """Every documented form of every option passes."""
    check_options("app.tasks.f", {option: value})


REFUSED = [
    ("executor", "threads"),
    ("executor", 3),
    ("executor", None),
    ("timeout", 0),
    ("timeout", -1),
    ("timeout", "5"),
    ("timeout", True),
    ("timeout", math.nan),
    ("timeout", math.inf),
    ("max_attempts", 0),
    ("max_attempts", 1.5),
    ("max_attempts", True),
    ("max_attempts", None),
    ("max_attempts", 10**9),
    ("backoff", 60),
    ("backoff", ExponentialBackoff),
    ("backoff", lambda attempt: 1),
    ("backoff", async_policy),
    ("retry_on", "OSError"),
    ("retry_on", ("OSError",)),
    ("retry_on", int),
    ("retry_on", OSError()),
    ("retry_on", {OSError}),
    ("retry_on", Cancelled),
    ("retry_on", (OSError, LeaseLost)),
    ("dont_retry", Interrupted),
    ("dont_retry", None),
    ("on_crash", "ignore"),
    ("on_crash", True),
    ("metadata", None),
    ("metadata", []),
    ("metadata", {1: 2}),
    ("metadata", {"a": (1, 2)}),
    ("metadata", {"a": math.nan}),
    ("metadata", {"a": object()}),
    ("metadata", {"a": "x" * MAX_METADATA}),
    ("name", ""),
    ("name", "a b"),
    ("name", "a\n"),
    ("name", "x" * (MAX_NAME + 1)),
    ("name", 3),
    ("aliases", "old"),
    ("aliases", ("",)),
    ("aliases", None),
    ("queue_name", ""),
    ("queue_name", "a,b"),
    ("queue_name", "*"),
    ("queue_name", "*cancel"),
    ("queue_name", "x" * 65),
    ("queue_name", 5),
    ("priority", "high"),
    ("priority", 1.0),
    ("priority", True),
    ("backend", ""),
    ("takes_context", 1),
    ("outside_transaction", "yes"),
]


@pytest.mark.parametrize(("option", "value"), REFUSED)
def test_what_is_refused(option, value):
    """A refusal names task, option, value, rule and next step."""
    with pytest.raises(InvalidOption) as caught:
        check_options("app.tasks.f", {option: value})
    text = str(caught.value)
    assert text.startswith(f"app.tasks.f: {option}=")
    assert RULES[option].rule in text
    assert text.endswith(RULES[option].mend)
    assert len(text) < 500


def test_a_deep_metadata_is_refused():
    """Metadata too deep for JSON is refused, not a RecursionError."""
    deep = {}
    for _ in range(200_000):
        deep = {"a": deep}
    with pytest.raises(InvalidOption, match="metadata="):
        check_options("app.tasks.f", {"metadata": deep})


def test_a_value_whose_repr_fails_is_refused_all_the_same():
    """The refusal of a value does not depend on its repr."""

    class Nasty:
        def __repr__(self):
            raise RuntimeError

    with pytest.raises(InvalidOption, match="timeout=<Nasty instance"):
        check_options("app.tasks.f", {"timeout": Nasty()})


def combination(**changes):
    """Check a combination that is fine but for ``changes``."""
    options = {"is_async": False, "executor": "thread", "max_attempts": 3, "retry_options": {}} | changes
    check_combination("app.tasks.f", **options)


@pytest.mark.parametrize(("is_async", "executor"), [(False, "thread"), (False, "process"), (True, "asyncio")])
def test_possible_executors(is_async, executor):
    """A def runs in threads and processes, an async def on the loop."""
    combination(is_async=is_async, executor=executor)


@pytest.mark.parametrize(("is_async", "executor"), [(True, "thread"), (True, "process"), (False, "asyncio")])
def test_impossible_executors(is_async, executor):
    """An executor that cannot run the function is refused with both ways out."""
    with pytest.raises(InvalidOption, match=f"app.tasks.f: executor='{executor}': cannot run .*(async def|plain def)"):
        combination(is_async=is_async, executor=executor)


@pytest.mark.parametrize(
    "given", [{"backoff": policy}, {"retry_on": OSError}, {"dont_retry": (OSError,)}, {"retry_on": [KeyError]}]
)
def test_retry_options_without_retries(given):
    """With max_attempts=1 nothing is ever retried, so options about retries contradict it."""
    with pytest.raises(InvalidOption, match=r"would never be asked: max_attempts is 1.*Add max_attempts=5"):
        combination(max_attempts=1, retry_options=given)
    combination(max_attempts=1, retry_options=given, max_attempts_overridden=True)
    combination(max_attempts=2, retry_options=given)


def test_retry_options_left_empty():
    """Empty retry options ask for nothing, so they contradict nothing."""
    combination(max_attempts=1, retry_options={"backoff": None, "retry_on": (), "dont_retry": []})


@pytest.mark.parametrize(
    ("retry_on", "dont_retry", "text"),
    [
        (OSError, OSError, "OSError is also there"),
        ((KeyError, FileNotFoundError), OSError, "FileNotFoundError is a kind of OSError, which is there"),
        ([ValueError], [KeyError, Exception], "ValueError is a kind of Exception"),
    ],
)
def test_overlap(retry_on, dont_retry, text):
    """What dont_retry would always win over cannot be in retry_on; a narrower dont_retry can."""
    with pytest.raises(InvalidOption, match=text):
        combination(retry_options={"retry_on": retry_on, "dont_retry": dont_retry})
    combination(retry_options={"retry_on": OSError, "dont_retry": FileNotFoundError})


@pytest.mark.parametrize(
    ("option", "known", "text"),
    [
        ("timout", {"timeout", "priority"}, "Did you mean timeout?"),
        ("max_retries", {"max_attempts"}, "Did you mean max_attempts?"),
        ("queue", {"queue_name"}, "Did you mean queue_name?"),
        ("eta", {"timeout"}, "Write f.using(run_after=...) where you enqueue."),
        ("zzz", {"b", "a"}, "Known options: a, b."),
    ],
)
def test_unknown_options(option, known, text):
    """An unknown option is answered with the one that was meant, also for words of other queues."""
    assert str(unknown_option("app.f", option, known, "@task")) == f"app.f: @task has no option {option}. {text}"
