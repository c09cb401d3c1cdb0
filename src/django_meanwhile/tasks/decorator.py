"""``@task``: makes a :class:`~.task.Task` of a function, and registers it.

It makes ours whatever backend ``TASKS`` names, so that code runs unchanged on Django's
immediate and dummy backends in test settings.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypedDict, TypeVar, overload

from ..core.errors import InvalidOption
from ..core.options import Backoff, ExceptionClasses, unknown_option
from .registry import register
from .task import Task

if TYPE_CHECKING:
    from typing import Unpack

    from ..run.context import TaskContext

P = ParamSpec("P")
T = TypeVar("T")


class Options(TypedDict, total=False):
    """The options of ``@task``, apart from ``takes_context``."""

    priority: int
    queue_name: str
    backend: str
    executor: Literal["thread", "process", "asyncio"]
    timeout: float | None
    max_attempts: int
    backoff: Backoff | None
    retry_on: ExceptionClasses
    dont_retry: ExceptionClasses
    on_crash: Literal["retry", "fail"]
    metadata: Mapping[str, Any]
    name: str
    aliases: tuple[str, ...] | list[str]


class Decorator(Protocol):
    """Makes a task of a function; an ``async def`` gives what it returns when awaited."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> Task[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, T], /) -> Task[P, T]: ...


class ContextDecorator(Protocol):
    """The same for functions whose first parameter is the context."""

    @overload
    def __call__(self, function: Callable[Concatenate[TaskContext, P], Coroutine[Any, Any, T]], /) -> Task[P, T]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[TaskContext, P], T], /) -> Task[P, T]: ...


@overload
def task(function: Callable[P, Coroutine[Any, Any, T]], /) -> Task[P, T]: ...
@overload
def task(function: Callable[P, T], /) -> Task[P, T]: ...
@overload
def task(*, takes_context: Literal[True], **options: Unpack[Options]) -> ContextDecorator: ...
@overload
def task(*, takes_context: Literal[False] = False, **options: Unpack[Options]) -> Decorator: ...


def task(function: Any = None, /, **options: Any) -> Any:
    """Make a task of a function that stands in a module: ``@task`` or ``@task(timeout=120)``.

    Raises ``InvalidOption`` at import for an option that is unknown, of a wrong
    type, or impossible together with another, and Django's ``InvalidTask`` for a
    function that no worker could find. An option that is None counts as left out.
    """
    if function is not None and not callable(function):
        msg = f"@task({function!r}): options are named, as in @task(queue_name={function!r})."
        raise InvalidOption(msg)

    def decorate(function: Callable[..., Any]) -> Task[..., Any]:
        _refuse_unknown(function, options)
        given = {option: value for option, value in options.items() if value is not None}
        made: Task[..., Any] = Task(func=function, **given)
        register(made)
        return made

    return decorate if function is None else decorate(function)


KNOWN = frozenset(Options.__annotations__) | {"takes_context"}


def _refuse_unknown(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    if "run_after" in options:
        # Django's own words and class: the dialect's users may catch it.
        raise TypeError(
            "run_after cannot be defined statically with the @task decorator. "
            "Use .using(run_after=...) to set it dynamically."
        )
    for option in options:
        if option not in KNOWN:
            path = f"{function.__module__}.{getattr(function, '__qualname__', function)}"
            raise unknown_option(path, option, KNOWN, "@task")
