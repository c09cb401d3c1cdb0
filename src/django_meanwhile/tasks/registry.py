"""Which code a stored name means: the only way from a row to a function.

Filled by the decorator at import; asked by workers and by results. Data never names
code: a module is imported because a row says so only if it belongs to an installed
app or is listed in ``MEANWHILE["TASK_MODULES"]``, and what it then yields must be a
task. It never keeps its lock while it imports.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from .. import conf, logs
from ..compat import BaseTask
from ..core.errors import InvalidOption, UnknownTask
from .task import Task

logger = logs.get_logger("jobs")

_IMPORTS_US = re.compile(r"^\s*(?:from|import)\s+(?:django_meanwhile|django\.tasks|django_tasks)\b", re.MULTILINE)

TASKS_MODULE = "tasks"
"""The module of an app that is imported without being asked for."""


class Registry:
    """Names and tasks. ``_lock`` guards every change; a single look-up in ``_tasks`` needs none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[str, Task[..., Any]] = {}
        self._names: dict[str, tuple[str, ...]] = {}  # path of a function: its names
        self._discovered = False

    # --- filling ------------------------------------------------------------------------

    def register(self, task: Task[..., Any]) -> None:
        """Remember a task under its name and its aliases.

        The same function again (a reload) replaces; another function under a
        name that is taken is an ``InvalidOption``.
        """
        names = (task.registered_name, *task.aliases)
        path = task.module_path
        with self._lock:
            for name in names:
                holder = self._tasks.get(name)
                if holder is not None and holder.module_path != path:
                    raise _taken(name, task, holder)
            self._tasks.update(dict.fromkeys(names, task))
            for name in set(self._names.get(path, ())) - set(names):
                del self._tasks[name]
            self._names[path] = names

    def adopt(self, task: BaseTask[..., Any]) -> Task[..., Any]:
        """Return our form of any task; one that was made by Django's decorator gets default options."""
        if isinstance(task, Task):
            return task
        return Task(
            func=task.func,
            priority=task.priority,
            queue_name=task.queue_name,
            backend=task.backend,
            takes_context=task.takes_context,
            run_after=task.run_after,
        )

    def knows(self, task: Task[..., Any]) -> bool:
        """Whether the task's name means its function, or an older version of it (a reload)."""
        holder = self._tasks.get(task.registered_name)
        return holder is not None and holder.module_path == task.module_path

    def learn(self, task: Task[..., Any]) -> bool:
        """Look for the task where a worker will: in its module. Return whether it is known then.

        What is registered is the module's own, not a copy that ``using()`` made.
        """
        if not self.knows(task):
            module = sys.modules.get(task.func.__module__)
            if module is not None:
                self._register_module(module)
                self._register_attribute(module, task.func.__qualname__.split("."))
        return self.knows(task)

    def _register_module(self, module: Any) -> None:
        """Register the tasks of an imported module that Django's decorator made."""
        for value in list(vars(module).values()):
            if _is_task(value) and value.func.__module__ == module.__name__:
                task = self.adopt(value)
                if not self.knows(task):
                    self.register(task)

    def renew_lock(self) -> None:
        """Forget a lock that another thread held while this process was forked."""
        self._lock = threading.Lock()

    # --- asking -------------------------------------------------------------------------

    def known_names(self) -> frozenset[str]:
        """Return the names of all tasks of ``tasks`` modules, and others met so far; with aliases.

        A module that does not import is logged and left out.
        """
        try:
            if not self._discovered:
                self.autodiscover()
        except Exception as error:  # noqa: BLE001 - whatever the project's modules raise
            logger.warning("a module of tasks cannot be imported: %s: %s", type(error).__name__, error)
        with self._lock:
            return frozenset(self._tasks)

    def tasks(self) -> list[Task[..., Any]]:
        """Return the tasks met so far."""
        with self._lock:
            return list({id(task): task for task in self._tasks.values()}.values())

    def resolve(self, name: str) -> Task[..., Any]:
        """Return the task of that name, importing its module if that is allowed.

        Raises ``UnknownTask``; its cause is the import's error, if there was one.
        """
        task = self._tasks.get(name)
        if task is not None:
            return task
        try:
            self._import_for(name)
            if name not in self._tasks and not self._discovered:
                self.autodiscover()
        except Exception as error:
            raise UnknownTask(
                f"task {name!r} is unknown, and importing its module failed: {type(error).__name__}: {error}. "
                "Its jobs wait until the module can be imported."
            ) from error
        task = self._tasks.get(name)
        if task is None:
            raise UnknownTask(_unknown(name))
        return task

    def autodiscover(self) -> None:
        """Import ``tasks`` of every installed app, and ``MEANWHILE["TASK_MODULES"]``.

        A module that exists and does not import raises, as it would at start-up; but for
        one of another queue whose library is not installed (``is_of_another_queue``).
        """
        for module in task_modules():
            try:
                imported = import_module(module)
            except ModuleNotFoundError as error:
                if not is_of_another_queue(module, error):
                    raise
                logger.debug("%s is left out: %s", module, error)
                continue
            self._register_module(imported)
        with self._lock:
            self._discovered = True

    def _import_for(self, name: str) -> None:
        """Import the longest part of a dotted name that is a module we may import."""
        parts = name.split(".")
        if not all(part.isidentifier() for part in parts):
            return
        for length in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:length])
            if not may_import(module):
                return
            if _exists(module):
                imported = import_module(module)
                self._register_module(imported)
                self._register_attribute(imported, parts[length:])
                return

    def _register_attribute(self, found: Any, path: list[str]) -> None:
        """Register a task that stands in a class, or under a name of another module's function."""
        for part in path:
            found = getattr(found, part, None)
        if _is_task(found):
            task = self.adopt(found)
            if not self.knows(task):
                self.register(task)


def task_modules() -> list[str]:
    """Return the modules that every worker imports: ``tasks`` of installed apps, and those of ``TASK_MODULES``."""
    modules = [
        f"{config.name}.{TASKS_MODULE}"
        for config in apps.get_app_configs()
        if config.module is not None and module_has_submodule(config.module, TASKS_MODULE)
    ]
    return [*modules, *conf.read_settings()[0].task_modules]


def is_of_another_queue(module: str, error: Exception) -> bool:
    """Whether a ``tasks`` module fails for a library that is missing, and holds nothing of ours.

    Apps of others bring tasks for Celery, which a project may well do without.
    """
    if not isinstance(error, ModuleNotFoundError) or module in conf.read_settings()[0].task_modules:
        return False
    spec = find_spec(module)
    return spec is not None and spec.origin is not None and not mentions_us(Path(spec.origin))


def mentions_us(path: Path) -> bool:
    """Whether a file imports us or the dialect, by its text."""
    try:
        return bool(_IMPORTS_US.search(path.read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return False


def _is_task(value: Any) -> bool:
    # isinstance() would ask a lazy object of the module for its class, and so evaluate it.
    return issubclass(type(value), BaseTask)


def may_import(module: str) -> bool:
    """Whether a stored name may lead to this module."""
    return apps.get_containing_app_config(module) is not None or _is_listed(module)


def is_discovered(module: str) -> bool:
    """Whether every worker imports this module by itself, so that a name of its own is known."""
    config = apps.get_containing_app_config(module)
    if config is not None and (
        module == f"{config.name}.{TASKS_MODULE}" or module.startswith(f"{config.name}.{TASKS_MODULE}.")
    ):
        return True
    return _is_listed(module)


def _is_listed(module: str) -> bool:
    return any(module == listed or module.startswith(f"{listed}.") for listed in conf.get_settings().task_modules)


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):  # its parent is no package, or has no spec
        return False


def _taken(name: str, task: Task[..., Any], holder: Task[..., Any]) -> InvalidOption:
    option = "aliases" if name in task.aliases else "name"
    return InvalidOption(
        f"{task.module_path}: {option}={name!r}: {holder.module_path} has that name already, and a row "
        "names one function. Give one of them another name, or delete the one that is no longer used."
    )


def _unknown(name: str) -> str:
    return (
        f"task {name!r} is unknown: no installed app registers it. If it was renamed, keep its old name: "
        f"@task(aliases=({name!r},)). If its module is not called {TASKS_MODULE}.py, list the module in "
        'MEANWHILE["TASK_MODULES"].'
    )


registry = Registry()
"""The one of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=registry.renew_lock)

register = registry.register
resolve = registry.resolve
autodiscover = registry.autodiscover
known_names = registry.known_names
