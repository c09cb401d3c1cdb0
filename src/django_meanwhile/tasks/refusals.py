"""Django's own refusals of a task, with the task's name before and the line to write behind.

Called by ``Task`` and ``DatabaseBackend``, at import and at the enqueue. Django's sentences and classes stay as they
are: the dialect's users may know them.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NoReturn

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, OperationalError, ProgrammingError, connections

from ..compat import (
    TASK_MAX_PRIORITY,
    TASK_MIN_PRIORITY,
    InvalidTask,
    InvalidTaskBackend,
    TaskResultMismatch,
    task_backends,
)

if TYPE_CHECKING:
    from ..compat import BaseTask
    from .backend import DatabaseBackend

FOREIGN_VERBS = {
    "apply_async": "using(run_after=..., queue_name=...).enqueue(...)",
    "async_task": "enqueue(...)",
    "delay": "enqueue(...)",
    "delay_on_commit": "enqueue(...), which is a part of the caller's transaction",
    "enqueue_at": "using(run_after=...).enqueue(...)",
    "enqueue_in": "using(run_after=timedelta(...)).enqueue(...)",
    "schedule": "using(run_after=...).enqueue(...)",
    "send": "enqueue(...)",
    "send_with_options": "using(...).enqueue(...)",
}
"""What other queues call it, and how it is written here."""

FOREIGN_WORDS = {
    "date_done": "finished_at",
    "exception": "errors[-1].exception_class",
    "failed": "state is JobState.FAILED, after result.refresh()",
    "get": "wait(timeout=...).return_value",
    "ready": "is_finished, after result.refresh()",
    "result": "return_value, after result.wait(timeout=...)",
    "revoke": "cancel()",
    "successful": "state is JobState.SUCCESSFUL, after result.refresh()",
    "task_id": "id",
    "traceback": "errors[-1].traceback",
}
"""What other queues' results call it, and how it is written here."""

_NO_TABLE = ("no such table", "no such column", "does not exist", "has no column")
_LOCKED = "database is locked"


def name_of(task: BaseTask[..., Any]) -> str:
    """Return the name of any task, Django's own included, for messages."""
    return str(getattr(task, "registered_name", task.module_path))


def refuse_call(task: Any, *_args: Any, **_kwargs: Any) -> NoReturn:
    """Refuse ``task(...)``: whether it is to be queued or run here is for the caller to say."""
    function = task.func.__name__
    here = f"await {function}.acall(...)" if inspect.iscoroutinefunction(task.func) else f"{function}.call(...)"
    raise TypeError(
        f"{task.registered_name} is a task, not a function: {function}.enqueue(...) queues a call of it, "
        f"{here} runs it here and now."
    )


def refused_calls(task: Any, calls: object) -> TypeError:
    """Return the refusal of what is no list of calls."""
    return TypeError(
        f"{task.registered_name}: enqueue_many() takes a list of calls, each a tuple or a dictionary, and was "
        f"given one value of type {type(calls).__name__}. Write {task.func.__name__}.enqueue_many([(1,), (2,)])."
    )


def refuse_attribute(task: Any, name: str) -> NoReturn:
    """Refuse ``task.name``, the verbs of other queues with ours."""
    try:
        function = object.__getattribute__(task, "func")
    except AttributeError:  # while the task is being made
        function = None
    ours = FOREIGN_VERBS.get(name)
    label = f"{function.__module__}.{function.__qualname__}" if function else "a task"
    mend = f" Write {function.__name__}.{ours}." if function and ours else ""
    raise AttributeError(f"{label} is a task, which has no {name!r}.{mend}", name=name, obj=task)


def refuse_result_attribute(result: Any, name: str) -> NoReturn:
    """Refuse ``result.name``, the words of other queues with ours."""
    ours = FOREIGN_WORDS.get(name)
    mend = f" Write result.{ours}." if ours else ""
    try:
        label = f"job {object.__getattribute__(result, 'id')}"
    except AttributeError:  # while it is being made, or copied
        label = "a job"
    raise AttributeError(f"the result of {label} has no {name!r}.{mend}", name=name, obj=result)


def explained(task: BaseTask[..., Any], backend: DatabaseBackend, error: Exception) -> InvalidTask:
    """Return Django's refusal of ``task`` with the task's name and the next step."""
    return InvalidTask(f"{name_of(task)}: {error} {_mend(task, backend)}".rstrip())


def _mend(task: BaseTask[..., Any], backend: DatabaseBackend) -> str:
    if "<locals>" in task.func.__qualname__:
        return "Move it out of the function that it stands in, so that a worker can import it."
    if task.takes_context and task.func.__code__.co_varnames[:1] != ("context",):
        return f"Write def {task.func.__name__}(context, ...), or leave takes_context out."
    if backend.queues and task.queue_name not in backend.queues:
        return _queues_mend(task.queue_name, backend)
    if not TASK_MIN_PRIORITY <= task.priority <= TASK_MAX_PRIORITY:
        return f"It is {task.priority}. Higher runs first; 0 is the default."
    if task.run_after is not None:
        return "Write using(run_after=timedelta(hours=1)), or a time that comes from timezone.now()."
    return ""


def _queues_mend(queue: str, backend: DatabaseBackend) -> str:
    entry = f'TASKS["{backend.alias}"]'
    written = task_backends.settings[backend.alias].get("QUEUES")
    if isinstance(written, str):  # a set of its letters, for Django
        listed = json.dumps(sorted({written, queue}))
        return f'{entry}["QUEUES"] is the text {written!r}, and must be a list. Write "QUEUES": {listed} there.'
    listed = json.dumps(sorted(backend.queues))
    wider = json.dumps([*sorted(backend.queues), queue])
    return f'{entry} has the queues {listed}. Write "QUEUES": {wider} there, or "QUEUES": [] for every name.'


def mismatched(task: BaseTask[..., Any], result_id: str, error: Exception) -> TaskResultMismatch:
    """Return Django's refusal of a result that is of another task, with both named."""
    return TaskResultMismatch(
        f"job {result_id} is not of {name_of(task)}: {error}. Read it through its own task, or through "
        f'task_backends["{task.backend}"].get_result(...), which reads those of every task.'
    )


def refuse_unknown_backend(task: str, alias: str) -> None:
    """Raise ``InvalidTaskBackend`` for an alias that ``TASKS`` does not have."""
    known = list(task_backends)
    if alias in known:
        return
    near = get_close_matches(alias, known, n=1, cutoff=0.5)
    mend = f'Did you mean "{near[0]}"?' if near else f"There is: {_listed(known)}."
    raise InvalidTaskBackend(f'{task}: backend="{alias}": TASKS has no backend of that name. {mend}')


def refuse_uninstalled(alias: str) -> None:
    """Raise ``ImproperlyConfigured`` where the app, and so its tables, are missing."""
    if not apps.is_installed("django_meanwhile"):
        raise ImproperlyConfigured(
            f'TASKS["{alias}"] is a backend of django_meanwhile, which is not among the installed apps. '
            'Add "django_meanwhile" to INSTALLED_APPS and run: manage.py migrate.'
        )


def annotate(error: DatabaseError, alias: str) -> None:
    """Add to an error of the database what a user of ours can do about it; its class and its text stay."""
    text = str(error)
    if isinstance(error, OperationalError | ProgrammingError) and "meanwhile_" in text and _names(text, _NO_TABLE):
        where = "" if alias == "default" else f" --database {alias}"
        error.add_note(
            f"The tables of django_meanwhile in database {alias!r} are missing or old. "
            f"Run: manage.py migrate meanwhile{where}"
        )
    elif _LOCKED in text and connections[alias].settings_dict["OPTIONS"].get("transaction_mode") is None:
        error.add_note(
            f"The transaction had begun deferred and another process wrote meanwhile: waiting cannot help. "
            f'Write: DATABASES["{alias}"]["OPTIONS"] = {{"transaction_mode": "IMMEDIATE"}}'
        )


def _names(text: str, words: Iterable[str]) -> bool:
    return any(word in text for word in words)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names) or "none"
