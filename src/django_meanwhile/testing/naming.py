"""The names that a test gives a task by: the task itself, its name, or the path of its function.

Called by the assertions, by failure injection and by ``run_jobs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..compat import BaseTask
from ..core.errors import UnknownTask
from ..tasks.registry import resolve
from ..tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterable

    AnyTask = BaseTask[..., Any] | str


def names_of(task: AnyTask) -> frozenset[str]:
    """Return every name that a row of this task may have.

    Raises ``UnknownTask`` for a name that no installed app registers, ``TypeError`` for a function.
    """
    if isinstance(task, Task):
        return frozenset({task.registered_name, *task.aliases})
    if isinstance(task, BaseTask):
        return frozenset({task.module_path})
    if isinstance(task, str):
        try:
            return names_of(resolve(task))
        except UnknownTask as error:
            raise UnknownTask(f"{error} A test may also give the task itself, instead of its name.") from None
    raise TypeError(f"{task!r} is a {type(task).__name__}: give a task, or the name of one.")


def backend_of(task: AnyTask) -> str | None:
    """Return the alias of the backend that a task is enqueued to; None leaves it to the caller."""
    return (resolve(task) if isinstance(task, str) else task).backend


def names_of_all(tasks: Iterable[AnyTask] | AnyTask) -> frozenset[str]:
    """Return the names of several tasks; one may stand without a list around it."""
    several = [tasks] if isinstance(tasks, BaseTask | str) else tasks
    return frozenset(name for task in several for name in names_of(task))
