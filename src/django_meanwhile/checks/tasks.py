"""The project's tasks: can they be imported, would a worker find them, and would it run them. Called by ``checks``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import django
from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage, Error

from ..compat import DIALECT
from ..conf import Settings, read_settings
from ..core.states import Executor
from ..management.backends import Served, our_backends
from ..management.wording import did_you_mean
from ..tasks.registry import TASKS_MODULE, is_of_another_queue, may_import, mentions_us, registry, task_modules
from ..tasks.task import Task

_SLOTS = {Executor.THREAD: "threads", Executor.ASYNCIO: "coroutines", Executor.PROCESS: "processes"}
_USUAL = {Executor.THREAD: 8, Executor.ASYNCIO: 100, Executor.PROCESS: 2}


def check() -> Iterator[CheckMessage]:
    """Yield E005, E007, W007, W008."""
    settings, problems = read_settings()
    if problems:  # E001 tells; which modules are listed is not known
        return
    ours = our_backends()
    broken = list(_broken_modules(settings))
    yield from broken
    if not broken:
        registry.autodiscover()
    yield from _homeless()
    unknown = list(_unknown_queues(settings, ours))
    yield from unknown
    if settings.embedded and not unknown:
        yield from _unserved(settings, ours)


# --- E005: modules that cannot be imported ----------------------------------------------------


def _broken_modules(settings: Settings) -> Iterator[CheckMessage]:
    for module in task_modules():
        try:
            import_module(module)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the project's modules raise
            if isinstance(error, Exception) and is_of_another_queue(module, error):
                continue
            yield Error(
                f"{module} cannot be imported{_line(error, module)}, and no worker starts without it: "
                f"{type(error).__name__}: {error}",
                hint=_mend(error, module, settings),
                id="meanwhile.E005",
            )


def _line(error: BaseException, module: str) -> str:
    """Say which line of the module it was."""
    found, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") == module:
            found = f" (line {trace.tb_lineno})"
        trace = trace.tb_next
    return found


def _mend(error: BaseException, module: str, settings: Settings) -> str:
    missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    if missing in {"django.tasks", "django_tasks"}:
        return (
            f"Write: from django_meanwhile import task. (On Django {django.get_version()} the dialect is the module "
            f"{DIALECT}.)"
        )
    if module in settings.task_modules and missing and f"{module}.".startswith(f"{missing}."):
        return f'Correct {module!r} in MEANWHILE["TASK_MODULES"], or delete it there.'
    return f'Mend it; for the whole traceback run: manage.py shell -c "import {module}"'


# --- W007: tasks that no worker would find ------------------------------------------------------


def _homeless() -> Iterator[CheckMessage]:
    known = {task.func.__module__ for task in registry.tasks() if not may_import(task.func.__module__)}
    for module in sorted(known | set(_modules_beside())):
        package = module.partition(".")[0]
        listed = f'MEANWHILE = {{"TASK_MODULES": ["{module}"]}}'
        is_app = module == f"{package}.{TASKS_MODULE}" and package not in _packages_of_settings()
        yield checks.Warning(
            f"{module} has tasks and belongs to no installed app: no worker would find them, and enqueue() refuses.",
            hint=f'Write: INSTALLED_APPS += ["{package}"]' if is_app else f"Write: {listed}",
            id="meanwhile.W007",
        )


def _packages_of_settings() -> set[str]:
    paths = (getattr(django_settings, name, None) for name in ("SETTINGS_MODULE", "ROOT_URLCONF", "WSGI_APPLICATION"))
    return {path.partition(".")[0] for path in paths if isinstance(path, str) and "." in path}


def _modules_beside() -> Iterator[str]:
    """Find ``tasks.py`` of the settings' package and of those beside it. Reads them, imports none."""
    for package in _packages_of_settings():
        spec = find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            root = Path(place).parent
            if root.name in {"site-packages", "dist-packages"}:
                continue
            for path in root.glob(f"*/{TASKS_MODULE}.py"):
                module = f"{path.parent.name}.{TASKS_MODULE}"
                if path.parent.name.isidentifier() and not may_import(module) and mentions_us(path):
                    yield module


# --- E007, W008: tasks that no worker of these settings would run ---------------------------------


def _unknown_queues(settings: Settings, ours: Iterable[Served]) -> Iterator[CheckMessage]:
    known: set[str] = set()
    for served in ours:
        if not served.queues:
            return
        known.update(served.queues)
    for queue in settings.worker.queues:
        if known and queue not in known:
            yield Error(
                f'MEANWHILE["WORKER"]["queues"] has {queue!r}, which stands in no QUEUES of TASKS: no worker starts.',
                hint=f'{did_you_mean(queue, known)} To have it: "QUEUES": {_listed(*sorted(known), queue)} in TASKS.',
                id="meanwhile.E007",
            )


def _unserved(settings: Settings, ours: Iterable[Served]) -> Iterator[CheckMessage]:
    """The worker that the web server brings along is of these settings, and the only one that is sure to be there."""
    aliases = {served.backend for served in ours}
    tasks = [task for task in registry.tasks() if task.backend in aliases]
    worker = settings.worker
    for executor, key in _SLOTS.items():
        idle = [task for task in tasks if task.executor == executor]
        if idle and not getattr(worker, key):
            yield _never_run(
                f'{_some(idle)} has executor="{executor}", and MEANWHILE["WORKER"]["{key}"] is 0',
                f'MEANWHILE = {{"WORKER": {{"{key}": {_USUAL[executor]}}}}}',
            )
    outside = [task for task in tasks if worker.queues and task.queue_name not in worker.queues]
    for queue in sorted({task.queue_name for task in outside}):
        idle = [task for task in outside if task.queue_name == queue]
        yield _never_run(
            f'{_some(idle)} is in queue "{queue}", which is not in MEANWHILE["WORKER"]["queues"]',
            f'MEANWHILE = {{"WORKER": {{"queues": {_listed(*worker.queues, queue)}}}}}, or leave "queues" out for all',
        )


def _never_run(what: str, line: str) -> CheckMessage:
    return checks.Warning(
        f"{what}: the worker that the web server brings along would not run it.",
        hint=f"Write: {line}. Where another worker runs it, silence this check.",
        id="meanwhile.W008",
    )


def _some(tasks: list[Task[Any, Any]]) -> str:
    first = min(task.registered_name for task in tasks)
    return first if len(tasks) == 1 else f"{first}, one of {len(tasks)} tasks"


def _listed(*names: str) -> str:
    return json.dumps(names)
