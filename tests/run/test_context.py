"""What a body with ``takes_context=True`` is given."""

import json
from dataclasses import FrozenInstanceError

import pytest

from django_meanwhile import TaskContext
from django_meanwhile.compat import TaskContext as DjangoTaskContext
from django_meanwhile.core.errors import Cancelled, EncodingError, Interrupted, LeaseLost, TaskTimeout
from django_meanwhile.run.pipeline import prepare
from tests.run import sample
from tests.run.jobs import ManualClock, claimed


@pytest.fixture
def context():
    """The context of a run that has just begun, on its second attempt."""
    job = claimed(sample.do_with_context, "x", attempts=2, overrides={"timeout": 5})
    return prepare(job, ManualClock()).arguments[0]


def test_it_is_djangos_context_and_more(context):
    """Code written for Django's tasks finds ``task_result`` and ``attempt`` where it expects them."""
    assert isinstance(context, TaskContext)
    assert isinstance(context, DjangoTaskContext)
    assert context.attempt == 2
    assert context.task_result.task.func is sample.do_with_context.func
    assert context.job_id == context.task_result.id == str(context.handle.job.id)


def test_it_is_passed_first_and_only_where_it_is_taken():
    """The stored arguments follow the context; a body that takes none gets its arguments alone."""
    with_context = prepare(claimed(sample.do_with_context, "x", 1), ManualClock())
    assert [type(with_context.arguments[0]), *with_context.arguments[1:]] == [TaskContext, "x", 1]
    assert prepare(claimed(sample.do, "x", 1), ManualClock()).arguments == ["x", 1]


@pytest.mark.parametrize(("overrides", "colour"), [({}, "green"), ({"metadata": {"colour": "red"}}, "red")])
def test_metadata_is_the_tasks_unless_the_caller_gave_some(overrides, colour):
    """``using(metadata=…)`` replaces what the decorator said, for this job."""
    job = claimed(sample.do_with_context, "x", overrides=overrides)
    assert prepare(job, ManualClock()).arguments[0].metadata == {"colour": colour}


def test_nobody_changes_a_context(context):
    """It is frozen: a body shares it with whatever it calls."""
    with pytest.raises(FrozenInstanceError):
        context.handle = None


@pytest.mark.parametrize("reason", [Cancelled, Interrupted, LeaseLost, TaskTimeout])
def test_a_body_that_asks_is_told_to_stop(context, reason):
    """``raise_if_stopped`` and ``progress`` raise the reason, and nothing as long as there is none."""
    context.raise_if_stopped()
    context.progress(1, 2)
    context.handle.stop(reason)
    with pytest.raises(reason):
        context.raise_if_stopped()
    with pytest.raises(reason):
        context.progress(2, 2)
    assert json.loads(context.handle.progress)["n"] == 2, "what was reported is kept all the same"


@pytest.mark.parametrize(
    ("arguments", "stored"),
    [
        ((3,), {"n": 3, "total": None, "message": ""}),
        ((0.5, 1, "half"), {"n": 0.5, "total": 1, "message": "half"}),
        ((-1, 0), {"n": -1, "total": 0, "message": ""}),
    ],
)
def test_progress_is_kept_as_it_was_reported(context, arguments, stored):
    """A count, a fraction, with or without a total and words."""
    context.progress(*arguments)
    assert json.loads(context.handle.progress) == stored


def test_progress_that_is_no_number_fails_the_body_clearly(context):
    """The message names the argument and says what to pass."""
    with pytest.raises(EncodingError, match=r"progress\(n='three'\): must be a finite number; pass a count"):
        context.progress("three")
