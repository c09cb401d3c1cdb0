"""The value behind the decorator: names, defaults, changed copies, pickles."""

import copy
import datetime as dt
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from django_meanwhile.compat import BaseTask, InvalidTask
from django_meanwhile.core.errors import InvalidOption
from django_meanwhile.core.states import Executor
from django_meanwhile.tasks.task import ROW_OPTIONS, Task

from .sample import tasks
from .sample.tasks import Holder, add, fetch, report, shown


def function():
    """Something to make a task of."""


async def coroutine_function():
    """The same, async."""


def generator():
    """Not something to make a task of."""
    yield 1


async def async_generator():
    """Neither."""
    yield 1


def test_names():
    """``name`` is Django's unless one was given; ``registered_name`` is what a row stores."""
    assert add.name == "add"
    assert add.registered_name == add.module_path == "tests.tasks.sample.tasks.add"
    assert report.name == report.registered_name == "sample.report"
    assert report.module_path == "tests.tasks.sample.tasks.report"
    assert Holder.inner.registered_name == "tests.tasks.sample.tasks.Holder.inner"
    assert shown.name == "_hidden"


def test_a_name_equal_to_the_functions_is_a_given_name():
    """A given name stays a given name through copies, even where it equals the function's."""
    task = Task(func=function, name="function")
    assert task.registered_name == "function"
    assert replace(task, priority=3).registered_name == "function"
    assert task.using(priority=3).registered_name == "function"


def test_a_default_name_stays_a_default_through_copies():
    """A copy of a task without a name has none either."""
    assert add.using(priority=3).registered_name == add.registered_name
    assert replace(add, priority=3).registered_name == add.registered_name
    assert replace(add, func=function).name == "function"
    assert replace(add, func=coroutine_function, executor=None).executor is Executor.ASYNCIO


def test_executors_follow_the_function():
    """A def runs in a thread, an async def on the event loop, unless told otherwise; always an ``Executor``."""
    assert Task(func=function).executor is Executor.THREAD
    assert Task(func=coroutine_function).executor is Executor.ASYNCIO
    assert Task(func=function, executor="process").executor is Executor.PROCESS
    assert report.executor is Executor.PROCESS


def test_defaults_are_djangos():
    """A task that is given nothing has Django's defaults, and asks for no retry."""
    task = Task(func=function)
    assert (task.priority, task.queue_name, task.backend, task.run_after) == (0, "default", "default", None)
    assert (task.takes_context, task.timeout, task.max_attempts, task.on_crash) == (False, None, 1, "retry")
    assert dict(task.metadata) == {}
    assert isinstance(task, BaseTask)


def test_it_is_frozen_hashable_and_equal():
    """Tasks are values, as Django's are."""
    assert add == replace(add)
    assert add != add.using(priority=1)
    assert add.using(priority=1) == add.using(priority=1)
    assert len({add, replace(add), add.using(priority=1), report}) == 3
    with pytest.raises(FrozenInstanceError):
        add.priority = 3
    with pytest.raises(FrozenInstanceError):
        add.name = "other"


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize("func", [generator, async_generator])
def test_generators_are_refused(func):
    """Calling a generator function runs nothing, so it is no task."""
    with pytest.raises(InvalidTask, match=rf"{func.__name__} is a generator: calling it runs nothing"):
        Task(func=func)


@pytest.mark.parametrize("func", [lambda: 1, dict, copy.copy.__call__, "add", None])
def test_what_is_no_function_of_a_module_is_refused(func):
    """A lambda, a class or anything else without a name that leads to it is no task."""
    with pytest.raises(InvalidTask, match="cannot be found again by a name"):
        Task(func=func)


def test_nested_functions_are_refused():
    """A function inside a function is refused in Django's own words."""

    def nested():
        pass

    with pytest.raises(InvalidTask, match="must be defined at a module level"):
        Task(func=nested)


def test_a_task_of_a_task_is_refused():
    """Two decorators on one function are refused."""
    with pytest.raises(InvalidTask, match="is a task already: delete one of its decorators"):
        Task(func=add)


def test_options_are_checked():
    """A task with a wrong, or an impossible option cannot be made, by whichever way."""
    with pytest.raises(InvalidOption, match=r"test_task\.function: timeout=-1: must be a positive number"):
        Task(func=function, timeout=-1)
    with pytest.raises(InvalidOption, match="cannot run a plain def"):
        Task(func=function, executor="asyncio")
    with pytest.raises(InvalidOption, match="max_attempts is 1"):
        Task(func=function, retry_on=OSError)
    with pytest.raises(InvalidOption, match="priority='1': must be a whole number"):
        Task(func=function, priority="1")


def test_djangos_rules_apply():
    """Priority range, queue and context are refused by Django's backend base class, in its words."""
    with pytest.raises(InvalidTask, match="priority must be a whole number between -100 and 100"):
        Task(func=function, priority=101)
    with pytest.raises(InvalidTask, match="does not have a first argument of 'context'"):
        Task(func=function, takes_context=True)
    with pytest.raises(ImproperlyConfigured, match="nowhere"):
        Task(func=function, backend="nowhere")


def test_a_name_that_does_not_fit_a_row_is_refused():
    """A path longer than the column is refused at import, with the way out."""
    long = replace_name(function, "f" * 250)
    with pytest.raises(InvalidOption, match=r"must have at most 255 characters. Give it a short one: @task\(name="):
        Task(func=long)


def replace_name(func, name):
    """Return a copy of a function under another name."""
    other = type(func)(func.__code__, func.__globals__, name)
    other.__qualname__ = name
    return other


# --- using() --------------------------------------------------------------------------------


def test_using_changes_a_copy():
    """``using()`` leaves the task alone, and notes for the row exactly what was changed."""
    changed = report.using(
        priority=-5,
        queue_name="slow",
        executor="thread",
        timeout=5,
        max_attempts=1,
        metadata={"a": 1},
        outside_transaction=True,
    )
    assert (report.priority, report.queue_name, report.timeout) == (7, "reports", 120)
    assert (changed.priority, changed.queue_name, changed.executor) == (-5, "slow", Executor.THREAD)
    assert (changed.timeout, changed.max_attempts, changed.metadata) == (5, 1, {"a": 1})
    assert changed.outside_transaction
    assert set(changed.overrides) == set(ROW_OPTIONS)
    assert not report.overrides


def test_using_adds_up():
    """A copy of a copy keeps what the first one changed."""
    changed = add.using(priority=3).using(timeout=4).using(priority=5)
    assert dict(changed.overrides) == {"priority": 5, "timeout": 4}
    assert (changed.priority, changed.timeout) == (5, 4)


def test_using_nothing_changes_nothing():
    """None leaves a value as it is, as in Django."""
    assert report.using() == report
    assert report.using(timeout=None, priority=None) == report


def test_using_refuses():
    """``using()`` refuses as the decorator does."""
    with pytest.raises(InvalidOption, match=r"add: using\(\) has no option prioritty. Did you mean priority\?"):
        add.using(prioritty=1)
    with pytest.raises(InvalidOption, match=r"Did you mean run_after\?"):
        add.using(countdown=10)
    with pytest.raises(InvalidOption, match="timeout=0"):
        add.using(timeout=0)
    with pytest.raises(InvalidOption, match="cannot run an async def"):
        fetch.using(executor="process")
    with pytest.raises(InvalidTask, match="between -100 and 100"):
        add.using(priority=1000)


def test_retries_of_one_job_can_be_switched_off():
    """``using(max_attempts=1)`` is no contradiction to the task's retry options."""
    assert report.using(max_attempts=1).max_attempts == 1


def test_run_after_takes_a_datetime():
    """A datetime is kept as in Django."""
    moment = timezone.now() + dt.timedelta(hours=1)
    later = add.using(run_after=moment)
    assert (later.run_after, later.due_in) == (moment, None)
    assert "run_after" not in later.overrides


def test_run_after_takes_a_timedelta():
    """A timedelta counts from the enqueue; Django's backends see a datetime."""
    later = add.using(run_after=dt.timedelta(hours=1))
    assert later.due_in == 3600.0
    assert abs(later.run_after - timezone.now() - dt.timedelta(hours=1)) < dt.timedelta(minutes=1)
    assert add.using(run_after=dt.timedelta(hours=-1)).due_in == 0.0
    assert later.using(run_after=timezone.now()).due_in is None


@pytest.mark.parametrize("wrong", [5, "soon", dt.timedelta.max, dt.date(2030, 1, 1)])
def test_run_after_takes_nothing_else(wrong):
    """Numbers, texts, dates and times beyond the calendar are refused."""
    with pytest.raises(InvalidOption, match=r"run_after=.*must be a datetime, or a timedelta from now"):
        add.using(run_after=wrong)


def test_run_after_must_be_aware(settings):
    """With USE_TZ a naive datetime is refused in Django's words."""
    with pytest.raises(InvalidTask, match="run_after must be an aware datetime"):
        add.using(run_after=dt.datetime(2030, 1, 1))
    settings.USE_TZ = False
    assert add.using(run_after=dt.datetime(2030, 1, 1)).run_after == dt.datetime(2030, 1, 1)


# --- what a row asks for --------------------------------------------------------------------


def test_with_overrides():
    """A row's overrides are laid over today's code; what nobody overrode follows the code."""
    task = report.with_overrides({"priority": 1, "executor": "thread", "from_the_future": 3})
    assert (task.priority, task.executor, task.timeout) == (1, Executor.THREAD, 120)
    assert dict(task.overrides) == {"priority": 1, "executor": "thread"}
    assert report.with_overrides({}) is report
    assert report.with_overrides({}, backend="other").backend == "other"
    assert report.with_overrides({"timeout": 3}) == report.using(timeout=3)


def test_with_overrides_heeds_no_settings(settings):
    """A row of yesterday is not refused because a queue has left the settings since."""
    settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["mail"]}}
    assert report.with_overrides({"queue_name": "gone"}, backend="gone").queue_name == "gone"
    with pytest.raises(InvalidTask, match="gone"):
        report.with_overrides({"queue_name": "gone"}).using(priority=1)


def test_with_overrides_that_the_code_cannot_honour():
    """An override that today's code makes impossible is an error, not a run on the wrong executor."""
    with pytest.raises(InvalidOption, match="cannot run an async def"):
        fetch.with_overrides({"executor": "thread"})


# --- copies and pickles ---------------------------------------------------------------------


@pytest.mark.parametrize("task", [add, report, shown, Holder.inner, tasks.with_context], ids=lambda t: t.name)
def test_pickle(task):
    """A task survives pickling on every Django, with what ``using()`` changed."""
    assert pickle.loads(pickle.dumps(task)) == task
    changed = task.using(priority=3, run_after=dt.timedelta(minutes=1), backend="other", outside_transaction=True)
    again = pickle.loads(pickle.dumps(changed))
    assert again == changed
    assert {f.name: getattr(again, f.name) for f in fields(Task)} == {
        f.name: getattr(changed, f.name) for f in fields(Task)
    }


def test_pickle_of_a_task_that_is_gone():
    """Unpickling a function that is no task any more is an error that names it."""
    gone = Task(func=function)
    with pytest.raises(InvalidOption, match=r"tests.tasks.test_task.function was pickled as a task .*none here"):
        pickle.loads(pickle.dumps(gone))


def test_copies():
    """A task is frozen, so a copy of it is itself."""
    assert copy.copy(report) is report
    assert copy.deepcopy(report) is report


def test_the_body_can_be_called():
    """``func`` and ``call`` are Django's."""
    assert add.call(1, y=2) == add.func(1, y=2) == 3
    assert fetch.call("u", depth=1) == "u?1"


def test_tasks_can_be_declared_before_the_apps_are_ready():
    """Decorators run at import, before Django is set up: that neither fails nor imports a model."""
    code = (
        "from django.conf import settings;"
        "settings.configure(TASKS={'default': {'BACKEND': 'django_meanwhile.backends.DatabaseBackend'}});"
        "import sys, django_meanwhile as m;"
        "exec(compile('def f(): pass', 'x', 'exec'));"
        "t = m.task(name='f')(f);"
        "assert t.name == 'f';"
        "assert 'django_meanwhile.models' not in sys.modules, 'models'"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env={"PYTHONPATH": "src"})
