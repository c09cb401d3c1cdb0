"""The tasks of the suites, made by the dialect's own decorator. Never part of a project's work."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

from .dialect import task


@task()
def noop(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""


@task
def bare(*args: Any, **kwargs: Any) -> None:
    """Do nothing, decorated without parentheses."""


data = "no task"
"""As long a name as ``noop``: a pickled task that leads to it must be refused."""


@task()
def answer() -> int:
    """Return a value."""
    return 42


@task()
def echo(*args: Any, **kwargs: Any) -> Any:
    """Return what came in."""
    return [list(args), kwargs]


@task()
def raise_value_error() -> None:
    """Fail."""
    raise ValueError("this task fails")


@task()
def raise_nested() -> None:
    """Fail with an exception that holds an exception."""
    raise ValueError(ValueError("this task fails"))


@task()
def exit_process() -> None:
    """Try to end the process."""
    raise SystemExit("this task exits")


@task()
def interrupt_process() -> None:
    """Do what Ctrl-C does."""
    raise KeyboardInterrupt("this task interrupts")


@task()
def return_a_function() -> Any:
    """Return what neither JSON nor pickle can carry."""
    return lambda: True


@task(takes_context=True)
def return_id(context: Any) -> Any:
    """Return the id of its own result."""
    return context.task_result.id


@task(takes_context=True)
def return_attempt(context: Any, add: int = 0) -> Any:
    """Return the number of the attempt, and the class of the context."""
    return [context.attempt + add, [cls.__name__ for cls in type(context).__mro__]]
