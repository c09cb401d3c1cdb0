"""The value behind ``@task``: a function and its options.

Made by the decorator (ours, or Django's on our backend) at import; ``using()``
makes changed copies. It also works on Django's immediate and dummy backends, which
ignore our options. It never touches the database: ``enqueue()`` is its backend's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Never, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.utils import timezone

from ..compat import (
    DEFAULT_TASK_BACKEND_ALIAS,
    DEFAULT_TASK_PRIORITY,
    DEFAULT_TASK_QUEUE_NAME,
    BaseTask,
    InvalidTask,
    TaskResultMismatch,
)
from ..compat import TaskContext as DjangoTaskContext
from ..core.errors import InvalidOption
from ..core.options import (
    MAX_NAME,
    RULES,
    Backoff,
    ExceptionClasses,
    check_combination,
    check_options,
    refusal,
    unknown_option,
)
from ..core.states import Executor
from .inert import InertContext, inert_for
from .refusals import mismatched, refuse_attribute, refuse_call, refuse_unknown_backend, refused_calls
from .signature import takes

if TYPE_CHECKING:
    from typing import Literal, Self

    from .result import TaskResult

P = ParamSpec("P")
T = TypeVar("T")

ROW_OPTIONS = ("priority", "queue_name", "executor", "timeout", "max_attempts", "metadata")
"""What ``using()`` can change and a row can carry to the worker."""

Call = tuple[Any, ...] | Mapping[str, Any]
"""One call for ``enqueue_many``: a tuple of positional, or a dictionary of keyword arguments."""

if TYPE_CHECKING:

    class _Base(BaseTask[P, T], Generic[P, T]):
        pass

else:
    # Django's own class is not generic; the backport's is, over variables of its own.
    class _Base(BaseTask, Generic[P, T]):
        pass


class _FunctionName(str):
    """The name of a task that was given none. Its type tells a copy that it is only a default."""

    __slots__ = ()


class _FromFunction:
    """A field whose default depends on the task's function. ``None`` means: not given.

    A dataclass sets and reads its fields through this (a descriptor as default), so
    that the task can stay frozen.
    """

    def __init__(self, default: Callable[[Callable[..., Any]], Any], read: Callable[[Any], Any]) -> None:
        self._default = default
        self._read = read

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, task: Any, owner: type) -> Any:
        if task is None:
            return None  # the default that the dataclass sees
        given = task.__dict__[self._name]
        return self._default(task.func) if given is None else given

    def __set__(self, task: Any, value: Any) -> None:
        task.__dict__[self._name] = self._read(value)


def _usual_executor(function: Callable[..., Any]) -> Executor:
    return Executor.ASYNCIO if inspect.iscoroutinefunction(function) else Executor.THREAD


def _read_executor(value: Any) -> Any:
    return Executor(value) if isinstance(value, str) and value in set(Executor) else value


def _usual_name(function: Callable[..., Any]) -> _FunctionName:
    return _FunctionName(function.__name__)


def _read_name(value: Any) -> Any:
    return None if isinstance(value, _FunctionName) else value


@dataclass(frozen=True, kw_only=True)
class Task(_Base[P, T]):
    """A function that can be enqueued, and how it is to be run.

    The fields are the options of ``@task``; those below ``aliases`` are not for the
    decorator. Without ``slots``: zero-argument
    ``super()`` needs that on Python 3.12.
    """

    priority: int = DEFAULT_TASK_PRIORITY
    backend: str = DEFAULT_TASK_BACKEND_ALIAS
    queue_name: str = DEFAULT_TASK_QUEUE_NAME
    run_after: datetime | None = None

    #: Where the body runs: a thread for a ``def``, the event loop for an ``async def``.
    executor: Executor = _FromFunction(_usual_executor, _read_executor)  # type: ignore[assignment]
    timeout: float | None = None
    max_attempts: int = 1
    backoff: Backoff | None = field(default=None, hash=False)
    retry_on: ExceptionClasses = field(default=(), hash=False)
    dont_retry: ExceptionClasses = field(default=(), hash=False)
    on_crash: Literal["retry", "fail"] = "retry"
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    #: The name that was given, else the function's, as in Django. See ``registered_name``.
    name: str = _FromFunction(_usual_name, _read_name)  # type: ignore[assignment]
    aliases: tuple[str, ...] | list[str] = field(default=(), hash=False)

    #: Seconds from the enqueue, by the database's clock, in place of ``run_after``.
    due_in: float | None = None
    #: Commit apart from a transaction that is open on another database.
    outside_transaction: bool = False
    #: What ``using()`` changed and the row carries.
    overrides: Mapping[str, Any] = field(default_factory=dict, hash=False)
    #: A task as a row asks for it: no longer checked against the settings.
    stored: bool = field(default=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be: ``InvalidOption``, or Django's ``InvalidTask``."""
        self._check_function()
        name = self.registered_name
        check_options(name, {option: getattr(self, option) for option in RULES})
        check_combination(
            name,
            is_async=inspect.iscoroutinefunction(self.func),
            executor=self.executor,
            max_attempts=self.max_attempts,
            retry_options={
                "backoff": self.backoff,
                "retry_on": self.retry_on,
                "dont_retry": self.dont_retry,
            },
            max_attempts_overridden="max_attempts" in self.overrides,
        )
        if len(name) > MAX_NAME:
            mend = f'Give it a short one: @task(name="{self.name[:40]}").'
            raise refusal(name, "name", name, f"must have at most {MAX_NAME} characters", mend)
        if not self.stored:
            refuse_unknown_backend(name, self.backend)
            super().__post_init__()

    def _check_function(self) -> None:
        function = self.func
        if isinstance(function, BaseTask):
            raise InvalidTask(f"{function.module_path} is a task already: delete one of its decorators.")
        if not inspect.isfunction(function) or function.__name__ == "<lambda>":
            raise InvalidTask(
                f"{function!r} cannot be found again by a name. Decorate a def or an async def that "
                "stands in a module; not a class, a lambda or a partial."
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InvalidTask(
                f"{self.module_path} is a generator: calling it runs nothing. "
                "Return a list instead of yielding, or enqueue one job for each item."
            )

    # --- names --------------------------------------------------------------------------

    @property
    def registered_name(self) -> str:
        """What a row stores: the ``name`` that was given, else the path of the function."""
        name = self.name
        return self.module_path if isinstance(name, _FunctionName) else name

    @property
    def module_path(self) -> str:
        """The dotted path of the function."""
        return f"{self.func.__module__}.{self.func.__qualname__}"

    # --- changed copies -----------------------------------------------------------------

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | timedelta | None = None,
        backend: str | None = None,
        executor: Literal["thread", "process", "asyncio"] | None = None,
        timeout: float | None = None,
        max_attempts: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        outside_transaction: bool | None = None,
        **unknown: Never,
    ) -> Self:
        """Return a copy that enqueues with these values; None leaves a value as it is.

        A ``timedelta`` for ``run_after`` counts from each enqueue. ``metadata``
        replaces, it does not merge.
        """
        given: dict[str, Any] = {
            "priority": priority,
            "queue_name": queue_name,
            "run_after": run_after,
            "backend": backend,
            "executor": executor,
            "timeout": timeout,
            "max_attempts": max_attempts,
            "metadata": metadata,
            "outside_transaction": outside_transaction,
        }
        for option in unknown:
            raise unknown_option(self.registered_name, option, given, "using()")
        changes = {option: value for option, value in given.items() if value is not None}
        row = {option: changes[option] for option in ROW_OPTIONS if option in changes}
        if "run_after" in changes:
            changes |= self._due(changes["run_after"])
        if row:
            changes["overrides"] = {**self.overrides, **row}
        return replace(self, **changes, stored=False)

    def _due(self, run_after: datetime | timedelta) -> dict[str, Any]:
        """Return the fields for a due time; Django's backends know a datetime only."""
        if isinstance(run_after, datetime):
            return {"run_after": run_after, "due_in": None}
        try:
            return {
                "run_after": timezone.now() + run_after,
                "due_in": max(run_after.total_seconds(), 0.0),
            }
        except (TypeError, AttributeError, OverflowError) as error:
            raise refusal(
                self.registered_name,
                "run_after",
                run_after,
                "must be a datetime, or a timedelta from now, before the year 9999",
                "Write using(run_after=timedelta(minutes=5)).",
            ) from error

    def with_overrides(self, overrides: Mapping[str, Any], *, backend: str | None = None) -> Self:
        """Return this task as a row asks for it: today's code, the caller's overrides.

        Overrides that this version does not know are left out. Raises
        ``InvalidOption`` if today's code cannot honour one.
        """
        known = {option: overrides[option] for option in ROW_OPTIONS if option in overrides}
        backend = backend or self.backend
        if not known and backend == self.backend:
            return self
        return replace(self, **known, overrides=known, backend=backend, stored=True)

    # --- doing --------------------------------------------------------------------------

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskResult[T]:  # type: ignore[override]
        """Queue one call; with our backend in the caller's transaction.

        Raises ``TypeError`` for arguments that the function would not take,
        ``EncodingError`` for what a row cannot carry, ``TransactionMismatch``.
        """
        return self.get_backend().enqueue(self, args, kwargs)  # type: ignore[arg-type,return-value]

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskResult[T]:  # type: ignore[override]
        """See ``enqueue``."""
        return await self.get_backend().aenqueue(self, args, kwargs)  # type: ignore[arg-type,return-value]

    def enqueue_many(self, calls: Iterable[Call]) -> list[TaskResult[T]]:
        """Queue many calls, all or none, in one statement per batch.

        Each call is a tuple of positional or a dictionary of keyword arguments::

            send_mail.enqueue_many([(1,), (2,), {"user_id": 3}])
        """
        if isinstance(calls, str | bytes | Mapping) or not isinstance(calls, Iterable):
            raise refused_calls(self, calls)
        pairs = [self._read_call(number, call) for number, call in enumerate(calls)]
        backend: Any = self.get_backend()
        if hasattr(backend, "enqueue_many"):
            results: list[TaskResult[T]] = backend.enqueue_many(self, pairs)
            return results
        return [backend.enqueue(self, args, kwargs) for args, kwargs in pairs]

    async def aenqueue_many(self, calls: Iterable[Call]) -> list[TaskResult[T]]:
        """See ``enqueue_many``."""
        return await sync_to_async(self.enqueue_many, thread_sensitive=True)(calls)

    def _read_call(self, number: int, call: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if isinstance(call, tuple):
            return call, {}
        if isinstance(call, Mapping):
            return (), dict(call)
        msg = (
            f"{self.registered_name}: call {number} of enqueue_many() is of type {type(call).__name__}: each "
            "must be a tuple of positional arguments, as in (7,), or a dictionary of keyword arguments."
        )
        raise TypeError(msg)

    def get_result(self, result_id: str) -> TaskResult[T]:  # type: ignore[override]
        """Return the result with that id; Django's errors if there is none, or not of this task."""
        try:
            return super().get_result(result_id)  # type: ignore[return-value]
        except TaskResultMismatch as error:
            raise mismatched(self, result_id, error) from None

    async def aget_result(self, result_id: str) -> TaskResult[T]:  # type: ignore[override]
        """See ``get_result``."""
        try:
            return await super().aget_result(result_id)  # type: ignore[return-value]
        except TaskResultMismatch as error:
            raise mismatched(self, result_id, error) from None

    def call(self, *args: Any, **kwargs: Any) -> T:
        """Run the function here and now, with the arguments of ``enqueue``. Called by Django's immediate backend.

        A task with ``takes_context`` gets a context that does nothing, unless one is passed before the arguments.
        """
        return super().call(*self._with_context(args, kwargs), **kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> T:
        """See ``call``."""
        return await super().acall(*self._with_context(args, kwargs), **kwargs)

    def _with_context(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Put a context before the arguments; give Django's bare one the methods that bodies of ours may call."""
        if not self.takes_context:
            return args
        if args and isinstance(args[0], DjangoTaskContext):
            bare = type(args[0]) is DjangoTaskContext
            return (InertContext(task_result=args[0].task_result, metadata=self.metadata), *args[1:]) if bare else args
        return (inert_for(self, args, kwargs), *args) if takes(self, args, kwargs) else args

    if not TYPE_CHECKING:  # type checkers refuse both by themselves
        do_not_call_in_templates = True
        __call__ = refuse_call
        __getattr__ = refuse_attribute

    # --- copying ------------------------------------------------------------------------

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """It is frozen. (The dummy backend copies every result, and its task with it.)"""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name of the function and what ``using()`` changed, on every Django."""
        changes = {
            **self.overrides,
            "overrides": dict(self.overrides),
            "run_after": self.run_after,
            "due_in": self.due_in,
            "backend": self.backend,
            "outside_transaction": self.outside_transaction,
            "stored": self.stored,
        }
        return _unpickle, (self.func.__module__, self.func.__qualname__, changes)


def _unpickle(module: str, qualname: str, changes: dict[str, Any]) -> Task[..., Any]:
    """Find the task of a function again; the name it is bound to may be another one."""
    namespace = import_module(module)
    found: Any = namespace
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Task):
        tasks = (value for value in vars(namespace).values() if issubclass(type(value), Task))
        found = next((value for value in tasks if value.func is found), None)
    if found is None:
        raise InvalidOption(
            f"{module}.{qualname} was pickled as a task of django_meanwhile, and is none here: has it been renamed, or "
            "lost its @task? A process of the same code can read it."
        )
    return replace(found, **changes)
