"""Our tasks on Django's immediate and dummy backends: test settings never break."""

import datetime as dt
from types import SimpleNamespace
from uuid import UUID

import django
import pytest
from asgiref.sync import async_to_sync

from django_meanwhile import TaskContext
from django_meanwhile.compat import InvalidTask, TaskResultStatus, task_backends
from django_meanwhile.tasks.inert import InertContext, inert_for

from .sample.tasks import add, asks_again, fails, fetch, report, with_context

PACKAGE = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"


@pytest.fixture
def immediate(settings):
    """Settings of a project that runs its tasks at once in tests."""
    settings.TASKS = {"default": {"BACKEND": f"{PACKAGE}.backends.immediate.ImmediateBackend", "QUEUES": []}}


@pytest.fixture
def dummy(settings):
    """Settings of a project that only collects its tasks in tests."""
    settings.TASKS = {"default": {"BACKEND": f"{PACKAGE}.backends.dummy.DummyBackend", "QUEUES": []}}
    return task_backends["default"]


@pytest.mark.usefixtures("immediate")
def test_immediate():
    """Functions and coroutines run at once; options of ours are ignored."""
    assert add.enqueue(1, y=2).return_value == 3
    assert fetch.enqueue("u", depth=1).return_value == "u?1"
    assert report.using(timeout=3, metadata={"a": 1}).enqueue({}).return_value == "{} None"
    result = fails.enqueue()
    assert result.status == TaskResultStatus.FAILED
    assert result.errors[0].exception_class is ValueError
    assert asks_again.enqueue().status == TaskResultStatus.FAILED


@pytest.mark.usefixtures("immediate")
def test_immediate_with_a_context():
    """A body finds the methods of our context, which do nothing there."""
    result = with_context.using(metadata={"a": 1}).enqueue(5)
    assert result.return_value == [1, result.id, {"a": 1}]


def test_the_inert_context_has_every_method():
    """What a body may call on the context of a worker, it may call where no worker runs."""

    def public(cls):
        names = {*dir(cls), *cls.__dataclass_fields__} - {"handle"}  # which leads to the worker
        return {name for name in names if not name.startswith("_")}

    assert public(TaskContext) == public(InertContext)


@pytest.mark.usefixtures("immediate")
def test_immediate_refuses_what_it_refuses_of_djangos_tasks():
    """Deferring is not for the immediate backend, in Django's words."""
    with pytest.raises(InvalidTask, match="Backend does not support run_after"):
        add.using(run_after=dt.timedelta(minutes=1))


@pytest.mark.usefixtures("immediate")
def test_immediate_many():
    """``enqueue_many`` runs the calls one by one."""
    assert [r.return_value for r in add.enqueue_many([(1,), {"x": 2, "y": 3}])] == [2, 5]


def test_dummy(dummy):
    """Calls are collected, with the task as it was enqueued."""
    task = report.using(run_after=dt.timedelta(minutes=1), timeout=3)
    result = task.enqueue({"a": 1})
    [collected] = dummy.results
    assert collected.id == result.id
    assert collected.task == result.task == task
    assert isinstance(collected.task.run_after, dt.datetime)
    assert result.args == [{"a": 1}]
    assert report.get_result(result.id).id == result.id
    dummy.clear()


def test_dummy_async(dummy):
    """``aenqueue`` and ``aenqueue_many`` are Django's there."""
    from asgiref.sync import async_to_sync

    async_to_sync(add.aenqueue)(1)
    async_to_sync(add.aenqueue_many)([(2,), (3,)])
    assert [r.args[0] for r in dummy.results] == [1, 2, 3]


def test_a_call_by_hand_needs_no_context():
    """``call()`` and ``acall()`` take the arguments of ``enqueue()``: the context that the body gets does nothing."""
    task = with_context.using(metadata={"a": 1})
    for attempt, job_id, metadata in (task.call(5), task.call(n=5)):
        assert (attempt, metadata) == (1, {"a": 1})
        assert UUID(job_id)
    assert async_to_sync(with_context.acall)(5)[0] == 1


def test_a_call_by_hand_may_bring_a_context():
    """One of Django's is used as it is, a stand-in as well; a wrong call is the function's own error."""
    context = inert_for(with_context.using(metadata={"mine": 1}), (5,), {})
    assert with_context.call(context, 5) == [1, context.job_id, {"mine": 1}]
    stand_in = SimpleNamespace(
        progress=lambda *_: None, raise_if_stopped=lambda: None, attempt=7, job_id="x", metadata={}
    )
    assert with_context.call(stand_in, 5) == [7, "x", {}]
    with pytest.raises(TypeError, match="with_context"):
        with_context.call()
