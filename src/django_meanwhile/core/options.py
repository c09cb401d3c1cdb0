"""The options of a task: which there are, what each accepts, and which exclude each other.

Called when a task is made, at import, and when ``using()`` changes one. Every
refusal is an :class:`~.errors.InvalidOption` that names task, option, value, rule
and the next step. Nothing is converted in here: what a rule accepts is used as it
was given, except that ``exception_classes`` reads both forms of ``retry_on``.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from .errors import Cancelled, Interrupted, InvalidOption, LeaseLost
from .states import Executor

ExceptionClasses: TypeAlias = "type[BaseException] | tuple[type[BaseException], ...] | list[type[BaseException]]"
Backoff: TypeAlias = "Callable[[BaseException, Any], float | None]"

MAX_NAME = 255
MAX_ALIAS = 64
"""Characters of a task's name, and of the name of a queue or backend: what a row holds."""

MAX_ATTEMPTS = 1_000_000

MAX_METADATA = 16 * 1024
"""Characters of ``metadata`` as JSON: it is written with every job that overrides it."""

FOREIGN_NAMES = {
    "acks_late": "on_crash",
    "autoretry_for": "retry_on",
    "bind": "takes_context",
    "countdown": "run_after",
    "delay": "run_after",
    "eta": "run_after",
    "max_retries": "max_attempts",
    "queue": "queue_name",
    "retries": "max_attempts",
    "retry_backoff": "backoff",
    "soft_time_limit": "timeout",
    "time_limit": "timeout",
}
"""What other queues call these options."""

_NAME = re.compile(r"[\w.:/-]+")
_QUEUE = re.compile(r"\w[\w.:/@-]*")  # no comma: rows list queues; no "*": wake-ups have a meaning for it
_NOT_FAILURES = (Cancelled, Interrupted, LeaseLost)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionRule:
    """What one option accepts: ``accepts`` decides, ``rule`` and ``mend`` say it."""

    accepts: Callable[[Any], bool]
    rule: str
    mend: str


def check_options(task: str, given: Mapping[str, Any]) -> None:
    """Refuse the first option of ``given`` whose value is not what its rule accepts."""
    for option, value in given.items():
        rule = RULES[option]
        if not rule.accepts(value):
            raise refusal(task, option, value, f"must be {rule.rule}", rule.mend)


def check_combination(
    task: str,
    *,
    is_async: bool,
    executor: str,
    max_attempts: int,
    retry_options: Mapping[str, Any],
    max_attempts_overridden: bool = False,
) -> None:
    """Refuse options that are right alone and impossible together.

    ``retry_options`` holds ``backoff``, ``retry_on`` and ``dont_retry`` as given.
    ``using(max_attempts=1)`` may switch the retries of one job off.
    """
    if is_async and executor != Executor.ASYNCIO:
        raise refusal(
            task,
            "executor",
            str(executor),
            "cannot run an async def, which needs an event loop",
            'Write executor="asyncio" or leave it out, or make the function a plain def.',
        )
    if not is_async and executor == Executor.ASYNCIO:
        raise refusal(
            task,
            "executor",
            str(executor),
            "cannot run a plain def, which would block the event loop for every other task",
            'Make the function an async def, or write executor="thread" or "process".',
        )
    for option, value in retry_options.items():
        if _is_given(value) and max_attempts == 1 and not max_attempts_overridden:
            raise refusal(
                task,
                option,
                value,
                "would never be asked: max_attempts is 1, and a retry is asked for, never assumed",
                f"Add max_attempts=5, or delete {option}.",
            )
    _check_overlap(task, retry_options.get("retry_on", ()), retry_options.get("dont_retry", ()))


def _check_overlap(task: str, retry_on: ExceptionClasses, dont_retry: ExceptionClasses) -> None:
    for wanted in exception_classes(retry_on):
        for unwanted in exception_classes(dont_retry):
            if issubclass(wanted, unwanted):
                same = "also there" if wanted is unwanted else f"a kind of {unwanted.__name__}, which is there"
                raise refusal(
                    task,
                    "retry_on",
                    wanted.__name__,
                    f"contradicts dont_retry, which wins: {wanted.__name__} is {same}",
                    "Name each exception in one of the two; dont_retry may name the narrower one.",
                )


def refusal(task: str, option: str, value: object, rule: str, mend: str) -> InvalidOption:
    """Make the error that names task, option, value, rule and next step."""
    return InvalidOption(f"{task}: {option}={shown(value)}: {rule}. {mend}")


def unknown_option(task: str, option: str, known: Iterable[str], where: str) -> InvalidOption:
    """Make the error for an option that ``where`` ("@task", "using()") does not know."""
    names = sorted(known)
    foreign = FOREIGN_NAMES.get(option)
    near = [foreign] if foreign in names else difflib.get_close_matches(option, names, n=1)
    if near:
        mend = f"Did you mean {near[0]}?"
    elif foreign == "run_after":
        mend = f"Write {task.rpartition('.')[2]}.using(run_after=...) where you enqueue."
    else:
        mend = f"Known options: {', '.join(names)}."
    return InvalidOption(f"{task}: {where} has no option {option}. {mend}")


def exception_classes(value: ExceptionClasses) -> tuple[type[BaseException], ...]:
    """Read ``retry_on`` or ``dont_retry``: one class, or several in a tuple or list."""
    return (value,) if isinstance(value, type) else tuple(value)


def shown(value: object) -> str:
    """Return a short ``repr``, also of values whose own one fails."""
    return value.__name__ if isinstance(value, type) else _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


# --- what each option accepts ---------------------------------------------------------------


def _is_given(value: Any) -> bool:
    return value is not None and not (isinstance(value, tuple | list) and not value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_timeout(value: Any) -> bool:
    return value is None or (_is_number(value) and 0 < value < math.inf)


def _is_backoff(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, type) or not callable(value) or inspect.iscoroutinefunction(value):
        return False
    try:
        inspect.signature(value).bind(None, None)
    except TypeError:
        return False
    except ValueError:
        pass  # written in C, it does not tell
    return True


def _are_exceptions(value: Any) -> bool:
    classes = (value,) if isinstance(value, type) else value
    return isinstance(classes, tuple | list) and all(
        isinstance(cls, type) and issubclass(cls, BaseException) and not issubclass(cls, _NOT_FAILURES)
        for cls in classes
    )


def _is_metadata(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    try:
        text = json.dumps(value, allow_nan=False)
        return len(text) <= MAX_METADATA and json.loads(text) == value
    except (TypeError, ValueError, RecursionError):
        return False


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_NAME and bool(_NAME.fullmatch(value))


def _are_names(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(map(_is_name, value))


def _is_queue(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_ALIAS and bool(_QUEUE.fullmatch(value))


def _is_alias(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_ALIAS


_EXCEPTIONS = "an exception class, or a tuple of them, of exceptions that mean a failure"
_EXCEPTIONS_MEND = "Import the class and name it, as in {}=(OSError, TimeoutError)."
_NAMES = f"1 to {MAX_NAME} letters, digits or any of _ . : / -"

RULES: dict[str, OptionRule] = {
    "executor": OptionRule(
        accepts=lambda value: isinstance(value, str) and value in set(Executor),
        rule='"thread", "process" or, for an async def, "asyncio"',
        mend="Leave it out for a pooled thread (def) or the event loop (async def).",
    ),
    "timeout": OptionRule(
        accepts=_is_timeout,
        rule="a positive number of seconds",
        mend="Write timeout=120 for two minutes, or leave it out for no limit.",
    ),
    "max_attempts": OptionRule(
        accepts=lambda value: _is_whole(value) and 1 <= value <= MAX_ATTEMPTS,
        rule=f"a whole number from 1 to {MAX_ATTEMPTS}",
        mend="It counts the first run too: max_attempts=3 is one run and two retries.",
    ),
    "backoff": OptionRule(
        accepts=_is_backoff,
        rule="a plain function of (exception, result) that returns seconds, or None for no retry",
        mend="Write backoff=ExponentialBackoff() or backoff=lambda exception, result: 60.",
    ),
    "retry_on": OptionRule(accepts=_are_exceptions, rule=_EXCEPTIONS, mend=_EXCEPTIONS_MEND.format("retry_on")),
    "dont_retry": OptionRule(accepts=_are_exceptions, rule=_EXCEPTIONS, mend=_EXCEPTIONS_MEND.format("dont_retry")),
    "on_crash": OptionRule(
        accepts=lambda value: isinstance(value, str) and value in {"retry", "fail"},
        rule='"retry" or "fail"',
        mend='Write on_crash="fail" only where a begun run must not be repeated.',
    ),
    "metadata": OptionRule(
        accepts=_is_metadata,
        rule=f"a dictionary of JSON values, of at most {MAX_METADATA} characters",
        mend="Use str keys, and lists for tuples; keep large data in a model or a file.",
    ),
    "name": OptionRule(
        accepts=_is_name,
        rule=_NAMES,
        mend='Write name="reports.generate", or leave it out for the path of the function.',
    ),
    "aliases": OptionRule(
        accepts=_are_names,
        rule=f"a tuple of former names, each {_NAMES}",
        mend='Write aliases=("reports.tasks.old_name",), with the comma.',
    ),
    "priority": OptionRule(
        accepts=_is_whole,
        rule="a whole number from -100 to 100",
        mend="Higher runs first; 0 is the default.",
    ),
    "queue_name": OptionRule(
        accepts=_is_queue,
        rule=f"1 to {MAX_ALIAS} letters, digits or any of _ . : / @ -, and begin with a letter, a digit or _",
        mend='Write queue_name="mail", or leave it out for "default".',
    ),
    "backend": OptionRule(
        accepts=_is_alias,
        rule=f"the name of a backend in TASKS, of 1 to {MAX_ALIAS} characters",
        mend='Leave it out for "default".',
    ),
    "takes_context": OptionRule(
        accepts=lambda value: isinstance(value, bool),
        rule="True or False",
        mend="With True, the function's first parameter is called context.",
    ),
    "outside_transaction": OptionRule(
        accepts=lambda value: isinstance(value, bool),
        rule="True or False",
        mend="Write using(outside_transaction=True) to enqueue apart from an open transaction.",
    ),
}
