"""The setting ``TASKS`` as a whole: is there a backend of ours, and can it be made. Called by ``checks``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.utils.module_loading import import_string

from ..management.backends import BACKEND_PATH, TASKS_LINE, our_backends

_WITHOUT_OURS = {
    "ImmediateBackend": "enqueue() runs each task at once, in the process that calls it, a request for instance",
    "DummyBackend": "enqueue() throws each job away",
}
"""Django's own backends, by their class: what happens where none is ours."""


def check() -> Iterator[CheckMessage]:
    """Yield E004, W001."""
    raw = getattr(settings, "TASKS", None)
    broken = list(_broken(raw))
    yield from broken
    if not broken and not our_backends():
        path = _path_of_default(raw)
        name = path.rpartition(".")[2]
        what = _WITHOUT_OURS.get(name, f"{path} has the jobs" if path else _WITHOUT_OURS["ImmediateBackend"])
        yield checks.Warning(
            f'"django_meanwhile" is in INSTALLED_APPS, but no backend in TASKS uses it: {what}.',
            hint=f"Write: {TASKS_LINE}",
            id="meanwhile.W001",
        )


def _broken(raw: Any) -> Iterator[CheckMessage]:
    """Django itself ends with a traceback for these, wherever a backend is asked for."""
    if raw is None:
        return
    if not isinstance(raw, Mapping):
        yield _unusable(f"TASKS is {raw!r}: it must be a dictionary of backends by their names.", TASKS_LINE)
        return
    for alias, entry in raw.items():
        where = f'TASKS["{alias}"]'
        if not isinstance(entry, Mapping) or not isinstance(entry.get("BACKEND"), str):
            what = f"is {entry!r}" if not isinstance(entry, Mapping) else f"has BACKEND {entry.get('BACKEND')!r}"
            yield _unusable(
                f'{where} {what}: each name in TASKS has a dictionary with a dotted path as "BACKEND".', TASKS_LINE
            )
        elif (error := _import_error(entry["BACKEND"])) is not None:
            yield _unusable(
                f'{where}["BACKEND"] is {entry["BACKEND"]!r}, which cannot be imported: {error}.',
                f'{where}["BACKEND"] = "{BACKEND_PATH}"',
            )


def _unusable(message: str, line: str) -> CheckMessage:
    return Error(message, hint=f"Write: {line}", id="meanwhile.E004")


def _import_error(path: str) -> ImportError | None:
    """Return why a path that is meant to be ours cannot be imported; those of others are left to Django."""
    ours = "meanwhile" in path or difflib.SequenceMatcher(None, path, BACKEND_PATH).ratio() > 0.8  # noqa: PLR2004
    if ours:
        try:
            import_string(path)
        except ImportError as error:
            return error
    return None


def _path_of_default(raw: Any) -> str:
    entry = raw.get("default") if isinstance(raw, Mapping) else None
    return str(entry["BACKEND"]) if isinstance(entry, Mapping) else ""
