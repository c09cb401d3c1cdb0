"""Whether and when a failed attempt is followed by another."""

import math
from datetime import timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_meanwhile.core.errors import (
    Cancelled,
    Interrupted,
    InvalidOption,
    JobStopped,
    LeaseLost,
    Retry,
    TaskTimeout,
)
from django_meanwhile.core.retry import MAX_DELAY, ExponentialBackoff, RetryVerdict, retry_delay


def ask(exception, **changes):
    """Ask about attempt 1 of 3."""
    options = {
        "attempts": 1,
        "max_attempts": 3,
        "backoff": lambda exception, result: 7,
        "retry_on": (),
        "dont_retry": (),
        "result": SimpleNamespace(attempts=1),
    } | changes
    return retry_delay(exception=exception, **options)


def test_by_default_every_failure_is_retried():
    """Without lists each failure is retried while attempts are left, after the backoff's delay."""
    for failure in (ValueError(), SystemExit(), MemoryError(), KeyboardInterrupt(), TaskTimeout()):
        assert ask(failure) == RetryVerdict(delay=7.0)


def test_attempts_run_out():
    """The last attempt is not followed by another."""
    assert ask(ValueError(), attempts=2).delay == 7.0
    assert ask(ValueError(), attempts=3) == RetryVerdict(delay=None)
    assert ask(ValueError(), max_attempts=1) == RetryVerdict(delay=None)


@pytest.mark.parametrize("stop", [Cancelled, Interrupted, LeaseLost, JobStopped])
def test_stops_are_not_failures(stop):
    """What was stopped for another reason than its timeout is never retried by the policy."""
    assert ask(stop(), retry_on=(Exception,)) == RetryVerdict(delay=None)


def test_lists():
    """Only what retry_on names is retried, and nothing that dont_retry names."""
    assert ask(FileNotFoundError(), retry_on=OSError).delay == 7.0
    assert ask(KeyError(), retry_on=OSError).delay is None
    assert ask(KeyError(), retry_on=[OSError, KeyError]).delay == 7.0
    assert ask(FileNotFoundError(), retry_on=OSError, dont_retry=FileNotFoundError).delay is None
    assert ask(KeyError(), dont_retry=(OSError,)).delay == 7.0
    assert ask(TaskTimeout(), retry_on=TimeoutError).delay == 7.0
    assert ask(TaskTimeout(), dont_retry=TaskTimeout).delay is None


def test_retry_is_always_retryable():
    """A body's own Retry outranks the lists; its delay outranks the backoff."""
    assert ask(Retry(after=3), retry_on=OSError).delay == 3.0
    assert ask(Retry(after=3), dont_retry=Exception).delay == 3.0
    assert ask(Retry(after=timedelta(minutes=1))).delay == 60.0
    assert ask(Retry(after=0)).delay == 0.0
    assert ask(Retry()).delay == 7.0
    assert ask(Retry(), backoff=lambda exception, result: None).delay is None


def test_retry_within_max_attempts():
    """A Retry that may not be granted fails the job, and the note says why and what to write."""
    verdict = ask(Retry(after=3), max_attempts=1)
    assert verdict.delay is None
    assert "max_attempts is 1" in verdict.note
    assert "@task(max_attempts=...)" in verdict.note
    assert "attempt 3 of max_attempts=3 was the last" in ask(Retry(), attempts=3).note


def test_the_policy_is_asked_with_exception_and_result():
    """The backoff receives the exception and the result, and None from it means: no retry."""
    error, result, seen = ValueError("x"), SimpleNamespace(attempts=2), []

    def backoff(exception, result):
        seen.append((exception, result))

    assert ask(error, backoff=backoff, result=result) == RetryVerdict(delay=None)
    assert seen == [(error, result)]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (-1, "returned -1"),
        (math.nan, "returned nan"),
        ("5", "returned '5', a str"),
        (True, "returned True, a bool"),
        (timedelta(seconds=-1), "returned"),
        ([], "returned [], a list"),
        (1j, "a complex"),
    ],
)
def test_a_policy_that_answers_nonsense(answer, text):
    """Nonsense from a backoff ends the job with a note; it never raises."""
    verdict = ask(ValueError(), backoff=lambda exception, result: answer)
    assert verdict.delay is None
    assert text in verdict.note
    assert "zero or more seconds, or None" in verdict.note


@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit(3), KeyboardInterrupt(), RecursionError()])
def test_a_policy_that_raises(error):
    """An exception in a backoff ends the job with a note; it never comes out."""

    def backoff(exception, result):
        raise error

    verdict = ask(ValueError(), backoff=backoff)
    assert verdict.delay is None
    assert f"raised {type(error).__name__}: {error}" in verdict.note


def test_a_policy_whose_exception_has_no_text():
    """Even an exception that cannot be printed is noted."""

    class Silent(Exception):
        def __str__(self):
            raise RuntimeError

    def backoff(exception, result):
        raise Silent

    assert "raised Silent: (no text)" in ask(ValueError(), backoff=backoff).note


def test_policies_may_return_timedeltas():
    """A timedelta is read as seconds."""
    assert ask(ValueError(), backoff=lambda exception, result: timedelta(minutes=2)).delay == 120.0


def test_delays_stay_within_a_databases_dates():
    """However long a delay is asked for, the due time can be stored."""
    assert ask(ValueError(), backoff=lambda exception, result: 10**300).delay == MAX_DELAY
    assert ask(ValueError(), backoff=lambda exception, result: math.inf).delay == MAX_DELAY
    assert ask(Retry(after=1e300)).delay == MAX_DELAY


def test_without_a_policy_the_delay_doubles():
    """The default is two seconds, then four, less up to a quarter."""
    assert 1.5 <= ask(ValueError(), backoff=None).delay <= 2.0
    assert 3.0 <= ask(ValueError(), backoff=None, result=SimpleNamespace(attempts=2)).delay <= 4.0


def test_exponential_backoff():
    """The delay is first · factor^(n-1), at most maximum, less a random share of up to jitter."""
    exact = ExponentialBackoff(first=1, factor=3, maximum=20, jitter=0)
    assert [exact.delay(n) for n in (1, 2, 3, 4, 5000)] == [1, 3, 9, 20, 20]
    assert exact(ValueError(), SimpleNamespace(attempts=2)) == 3
    assert ExponentialBackoff(first=100, jitter=0.25, random=lambda: 1.0).delay(1) == 75.0
    assert ExponentialBackoff(first=100, jitter=0.25, random=lambda: 0.0).delay(1) == 100.0


@given(
    first=st.floats(0, 1000),
    factor=st.floats(1, 1000),
    maximum=st.floats(1000, MAX_DELAY),
    jitter=st.floats(0, 1),
    attempts=st.integers(0, 1_000_000),
    chance=st.floats(0, 1),
)
def test_exponential_backoff_is_always_a_delay(**drawn):
    """For every valid policy and every attempt, the delay is from zero to maximum."""
    attempts, chance = drawn.pop("attempts"), drawn.pop("chance")
    policy = ExponentialBackoff(**drawn, random=lambda: chance)
    assert 0 <= policy.delay(attempts) <= policy.maximum


@pytest.mark.parametrize(
    "wrong",
    [
        {"first": -1},
        {"first": "2"},
        {"first": True},
        {"factor": 0.5},
        {"factor": math.nan},
        {"maximum": 1},
        {"maximum": math.inf},
        {"jitter": 1.1},
        {"jitter": None},
    ],
)
def test_exponential_backoff_refuses(wrong):
    """A policy that could return nonsense cannot be made."""
    [name] = wrong
    with pytest.raises(InvalidOption, match=rf"ExponentialBackoff\({name}=.*must be a number from"):
        ExponentialBackoff(**wrong)
