"""``@task``: forms, refusals, and that it registers."""

import pytest

from django_meanwhile import task
from django_meanwhile.compat import InvalidTask
from django_meanwhile.core.errors import InvalidOption
from django_meanwhile.tasks.decorator import KNOWN, Options
from django_meanwhile.tasks.registry import registry
from django_meanwhile.tasks.task import Task

from .sample.tasks import add, report


def function():
    """Something to decorate."""


def test_forms():
    """With and without parentheses it makes our task, whatever the backend's class."""
    assert type(add) is Task
    assert type(task()(function)) is Task
    assert task(timeout=3)(function).timeout == 3


def test_it_registers():
    """A decorated function is known by its name and its aliases."""
    assert registry.resolve("tests.tasks.sample.tasks.add") is add
    assert registry.resolve("sample.report") is report
    assert registry.resolve("sample.old_report") is report


def test_every_option_is_a_field():
    """What the decorator accepts is what a task holds, and what type checkers are told."""
    task(function, **{option: getattr(report, option) for option in KNOWN if option not in {"name", "aliases"}})
    assert set(Options.__annotations__) | {"takes_context"} == KNOWN


def test_none_counts_as_left_out():
    """An option that is None is not given: settings may be passed through."""
    made = task(timeout=None, executor=None, metadata=None, queue_name=None)(function)
    assert (made.timeout, made.executor, made.metadata, made.queue_name) == (None, "thread", {}, "default")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"timout": 3}, r"test_decorator.function: @task has no option timout. Did you mean timeout\?"),
        ({"max_retries": 3}, r"Did you mean max_attempts\?"),
        ({"delay": 3}, r"@task has no option delay. Write function.using\(run_after=...\) where you enqueue"),
        ({"overrides": {}}, "@task has no option overrides"),
        ({"stored": True}, "@task has no option stored"),
        ({"outside_transaction": True}, "@task has no option outside_transaction"),
        ({"xyz": 1}, "Known options: aliases, backend, backoff"),
        ({"timeout": "3"}, "test_decorator.function: timeout='3': must be a positive number of seconds"),
        ({"executor": "asyncio"}, "cannot run a plain def"),
        ({"backoff": print}, "max_attempts is 1"),
    ],
)
def test_refusals(options, text):
    """A wrong option is an error at import that names the task and the next step."""
    with pytest.raises(InvalidOption, match=text):
        task(**options)(function)


def test_run_after_is_refused_as_in_django():
    """``run_after`` in the decorator is Django's TypeError, in its words."""
    with pytest.raises(TypeError, match="run_after cannot be defined statically with the @task decorator"):
        task(run_after=None)(function)


def test_options_by_position_are_refused():
    """``@task("mail")`` is answered with the named form."""
    with pytest.raises(InvalidOption, match=r"@task\('mail'\): options are named"):
        task("mail")


def test_a_class_is_refused():
    """A class is no task, and says so as Django would."""
    with pytest.raises(InvalidTask):
        task(int)


def test_a_name_is_given_once():
    """Two functions cannot have one name, nor one the other's alias."""
    with pytest.raises(InvalidOption, match=r"name='sample.report': tests.tasks.sample.tasks.report has that name"):
        task(name="sample.report")(function)
    with pytest.raises(InvalidOption, match=r"aliases='sample.report'"):
        task(aliases=("sample.report",))(function)
    with pytest.raises(InvalidOption, match=r"name='sample.old_report'"):
        task(name="sample.old_report")(function)
