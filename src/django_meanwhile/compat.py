"""One name for the tasks dialect: ``django.tasks``, or its backport on Django 5.2.

The only module that knows which of the two is in force. ``django_tasks`` is a
separate set of classes, not a shim, so nothing may import it on Django 6.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import django
from django.core.signals import setting_changed

DIALECT = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
"""The module that is in force."""

if TYPE_CHECKING or django.VERSION >= (6, 0):
    from django.tasks import DEFAULT_TASK_BACKEND_ALIAS, DEFAULT_TASK_QUEUE_NAME, task_backends
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import (
        DEFAULT_TASK_PRIORITY,
        TASK_MAX_PRIORITY,
        TASK_MIN_PRIORITY,
        TASK_REFRESH_ATTRS,
        TaskContext,
        TaskError,
        TaskResult,
        TaskResultStatus,
    )
    from django.tasks.base import Task as BaseTask
    from django.tasks.exceptions import (
        InvalidTask,
        InvalidTaskBackend,
        TaskResultDoesNotExist,
        TaskResultMismatch,
    )
    from django.tasks.signals import task_enqueued, task_finished, task_started
else:
    # Its checks and log receivers, as its own app would connect them. At import, as Django 6 does it, so that a project
    # that lacks our app is told so.
    import django_tasks.checks  # noqa: F401
    from django_tasks import (
        DEFAULT_TASK_BACKEND_ALIAS,
        DEFAULT_TASK_QUEUE_NAME,
        task_backends,
    )
    from django_tasks.backends.base import BaseTaskBackend
    from django_tasks.base import (
        DEFAULT_TASK_PRIORITY,
        TASK_MAX_PRIORITY,
        TASK_MIN_PRIORITY,
        TASK_REFRESH_ATTRS,
        TaskContext,
        TaskError,
        TaskResult,
        TaskResultStatus,
    )
    from django_tasks.base import Task as BaseTask
    from django_tasks.exceptions import InvalidTaskBackendError as InvalidTaskBackend
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
    from django_tasks.exceptions import TaskResultDoesNotExist, TaskResultMismatch
    from django_tasks.signals import task_enqueued, task_finished, task_started

__all__ = [
    "DEFAULT_TASK_BACKEND_ALIAS",
    "DEFAULT_TASK_PRIORITY",
    "DEFAULT_TASK_QUEUE_NAME",
    "DIALECT",
    "TASK_MAX_PRIORITY",
    "TASK_MIN_PRIORITY",
    "TASK_REFRESH_ATTRS",
    "BaseTask",
    "BaseTaskBackend",
    "InvalidTask",
    "InvalidTaskBackend",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskResultDoesNotExist",
    "TaskResultMismatch",
    "TaskResultStatus",
    "backend_class",
    "task_backends",
    "task_enqueued",
    "task_finished",
    "task_started",
]


@cache
def backend_class(alias: str) -> type[BaseTaskBackend]:
    """Return the class of a backend: the sender of its signals.

    ``task_backends`` keeps one backend for each context; a body runs in a fresh one,
    where asking for it makes another.
    """
    return type(task_backends[alias])


def _forget(*, setting: str, **_: object) -> None:
    if setting == "TASKS":
        backend_class.cache_clear()


setting_changed.connect(_forget)
