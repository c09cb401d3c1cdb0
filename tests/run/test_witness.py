"""A witness of a call sees the exceptions of failed attempts, and changes nothing."""

from dataclasses import replace

import pytest

from django_meanwhile.core.outcome import End
from django_meanwhile.run.pipeline import Call, call, prepare
from tests.run import sample
from tests.run.jobs import ManualClock, claimed


def witnessed(body, bodies):
    bodies["x"] = body
    bound = prepare(claimed(sample.do, "x"), ManualClock())
    assert isinstance(bound, Call)
    seen = []
    return call(replace(bound, witness=seen.append)), seen, call(bound)


def _raises():
    raise ValueError("no luck")


@pytest.mark.parametrize(
    ("body", "fails"), [(_raises, True), (object, True), (lambda: 5, False)], ids=["raises", "odd value", "fine"]
)
def test_a_witness_is_shown_what_failed(bodies, body, fails):
    """It gets the exception of the body, or of its return value; the outcome is the same without a witness."""
    outcome, seen, unwitnessed = witnessed(body, bodies)
    assert (outcome.end, outcome.exception) == (unwitnessed.end, unwitnessed.exception)
    assert len(seen) == (outcome.end is End.FAILED) == fails
    assert all(f"{type(error).__module__}.{type(error).__qualname__}" == outcome.exception for error in seen)
