"""What the tests of commands, checks and admin share: one backend on the database under test, rows in any state,
commands.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from django.core.management import CommandError, call_command

from django_meanwhile.tasks.registry import may_import, registry

from .rows import Rows

BACKEND = "django_meanwhile.backends.DatabaseBackend"


@dataclass(frozen=True)
class Ran:
    """What a command did: its exit status and what it printed."""

    status: int
    out: str
    err: str


def manage(*args: str) -> Ran:
    """Run ``manage.py meanwhile ARGS`` in this process."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    try:
        call_command("meanwhile", *args, stdout=out, stderr=err, no_color=True)
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    except CommandError as error:
        status = error.returncode
        err.write(str(error))
    return Ran(status, out.getvalue(), err.getvalue())


@pytest.fixture
def meanwhile():
    """Return the function that runs the command."""
    return manage


@pytest.fixture(autouse=True)
def _passwords_are_cheap(settings):
    """Log in without the seconds that a real hash takes."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _tasks_of_tests_are_not_the_projects(monkeypatch):
    """Hide what other tests have registered in this process and no installed app has."""
    every = registry.tasks
    monkeypatch.setattr(registry, "tasks", lambda: [task for task in every() if may_import(task.func.__module__)])


@pytest.fixture
def backend(database, settings):
    """Leave one backend, called default, on the database under test; return that database's alias."""
    settings.TASKS = {"default": {"BACKEND": BACKEND, "QUEUES": [], "OPTIONS": {"DATABASE": database}}}
    return database


@pytest.fixture
def rows(backend):
    """Return what puts rows in any state into the database under test."""
    return Rows(backend)
