"""System checks of one backend's entry in ``TASKS``: ``meanwhile.E020`` to ``E025``, ``W020``.

Called by ``DatabaseBackend.check``, which Django calls with its own checks.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.db import connections

from ..compat import task_backends
from ..conf import KEYS, WORKER_KEYS
from ..core.options import RULES

if TYPE_CHECKING:
    from .backend import DatabaseBackend

KNOWN_KEYS = ("BACKEND", "QUEUES", "OPTIONS")
KNOWN_OPTIONS = ("DATABASE",)


def check_backend(backend: DatabaseBackend) -> Iterator[CheckMessage]:
    """Yield every problem, with the line to write."""
    entry = f'TASKS["{backend.alias}"]'
    raw = getattr(settings, "TASKS", {}).get(backend.alias, {})
    yield from _check_queues(entry, raw)
    yield from _check_keys(entry, raw)
    if not apps.is_installed("django_meanwhile"):
        yield Error(
            f"{entry} is a backend of django_meanwhile, which is not installed: its tables are missing.",
            hint='Add "django_meanwhile" to INSTALLED_APPS and run: manage.py migrate',
            id="meanwhile.E020",
        )
    options: Any = backend.options
    if not isinstance(options, Mapping):
        yield Error(
            f'{entry}["OPTIONS"] is {options!r}: it must be a dictionary.',
            hint='Write "OPTIONS": {"DATABASE": "default"}, or delete the line.',
            id="meanwhile.E021",
        )
        return
    for option in options:
        if option not in KNOWN_OPTIONS:
            yield Error(
                f'{entry}["OPTIONS"] has an unknown key {option!r}.',
                hint=_option_mend(option, options[option]),
                id="meanwhile.E021",
            )
    yield from _check_database(entry, backend)


def _check_keys(entry: str, raw: Mapping[str, Any]) -> Iterator[CheckMessage]:
    """Django reads three keys, and says nothing about others."""
    for key, value in raw.items():
        if key in KNOWN_KEYS:
            continue
        inner = str(key).upper()
        yield checks.Warning(
            f"{entry} has a key {key!r}, which nobody reads.",
            hint=(
                f'Write: {entry}["OPTIONS"] = {{"{inner}": {_written(value)}}}'
                if inner in KNOWN_OPTIONS
                else _mend_of(key, value) or _did_you_mean(key, KNOWN_KEYS)
            ),
            id="meanwhile.W020",
        )


def _option_mend(option: object, value: object) -> str:
    return _mend_of(option, value) or _did_you_mean(option, KNOWN_OPTIONS)


def _mend_of(key: object, value: object) -> str:
    """Return the line for a key of ``MEANWHILE`` that was written into ``TASKS``; empty for others."""
    name = str(key)
    if name.lower() in WORKER_KEYS:
        return f'Write: MEANWHILE = {{"WORKER": {{"{name.lower()}": {_written(value)}}}}}'
    if name.upper() in KEYS:
        return f'Write: MEANWHILE = {{"{name.upper()}": {_written(value)}}}'
    return ""


def _written(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _check_database(entry: str, backend: DatabaseBackend) -> Iterator[CheckMessage]:
    alias = backend.database
    if alias not in set(connections):
        yield Error(
            f'{entry}["OPTIONS"]["DATABASE"] is {alias!r}: DATABASES has no such alias.',
            hint=_did_you_mean(alias, list(connections)),
            id="meanwhile.E022",
        )
        return
    for other, queue in _sharers(backend, alias):
        yield Error(
            f'{entry} and TASKS["{other}"] share database {alias!r} and {queue}: a worker of the one '
            "would run the jobs of the other.",
            hint="Give them different QUEUES, or different databases in OPTIONS.",
            id="meanwhile.E023",
        )


def _sharers(backend: DatabaseBackend, database: str) -> Iterator[tuple[str, str]]:
    """Yield backends named *earlier* in ``TASKS`` with a queue in common: each pair is told once."""
    for alias in task_backends:
        if alias == backend.alias:
            return
        other: Any = task_backends[alias]
        if getattr(other, "database", None) != database:
            continue  # not ours, or elsewhere
        if backend.queues and other.queues:
            common = sorted(backend.queues & other.queues)
            if common:
                yield alias, f"queue {common[0]!r}"
        else:
            yield alias, "queues (an empty QUEUES means every queue)"


def _check_queues(entry: str, raw: Mapping[str, Any]) -> Iterator[CheckMessage]:
    queues = raw.get("QUEUES", [])
    if isinstance(queues, str) or not isinstance(queues, Collection):
        yield Error(
            f'{entry}["QUEUES"] is {queues!r}: it must be a list of names.',
            hint=f'Write "QUEUES": ["{queues}"], or [] for every name.',
            id="meanwhile.E024",
        )
        return
    for queue in queues:
        rule = RULES["queue_name"]
        if not rule.accepts(queue):
            yield Error(
                f'{entry}["QUEUES"] has {queue!r}: a name must be {rule.rule}.',
                hint="Change the name here and where tasks use it.",
                id="meanwhile.E025",
            )


def _did_you_mean(given: object, known: Collection[str]) -> str:
    near = difflib.get_close_matches(str(given), known, n=1) or difflib.get_close_matches(
        str(given).upper(), known, n=1
    )
    return f'Did you mean "{near[0]}"?' if near else f"Known: {', '.join(sorted(known))}."
