"""Django's settings of the tests that run inside pytest's own process.

Databases: ``default`` and ``other`` are SQLite files, ``postgresql`` is there if a server can be had (``servers`` says
which, ``conftest`` starts it when a selected test wants it). Each has a backend of the same name in ``TASKS``.

``MEANWHILE_TEST_DATABASE=sqlite`` or ``=postgresql`` restricts the tests that run once for each vendor to that one.
"""

import os
from typing import Any

from tests import servers, watchdog

VENDORS = ("sqlite", "postgresql")
if restriction := os.environ.get("MEANWHILE_TEST_DATABASE"):
    if restriction not in VENDORS:
        message = f"MEANWHILE_TEST_DATABASE={restriction!r} is none of: {', '.join(VENDORS)}"
        raise ValueError(message)
    VENDORS = (restriction,)

SECRET_KEY = "tests"
USE_TZ = True
ROOT_URLCONF = "tests.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django_meanwhile",
    "tests.project",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


def _sqlite(name: str) -> dict[str, Any]:
    # A file, not ":memory:": threads and processes must be able to meet in it.
    directory = watchdog.run_directory()
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(directory / f"{name}.sqlite3"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 5},
        "TEST": {"NAME": str(directory / f"test-{name}.sqlite3"), "DEPENDENCIES": []},
    }


DATABASES: dict[str, dict[str, Any]] = {"default": _sqlite("default"), "other": _sqlite("other")}

POSTGRESQL: servers.Server | None = None
POSTGRESQL_MISSING = ""
try:
    POSTGRESQL = servers.choose()
except servers.ServerUnavailableError as error:
    POSTGRESQL_MISSING = str(error)
else:
    DATABASES["postgresql"] = {
        **POSTGRESQL.settings_dict("postgres"),
        "TEST": {"NAME": f"test_meanwhile_{os.getpid()}", "DEPENDENCIES": []},
    }

_BACKEND = "django_meanwhile.backends.DatabaseBackend"
TASKS: dict[str, dict[str, Any]] = {"default": {"BACKEND": _BACKEND, "QUEUES": []}}
TASKS |= {
    alias: {"BACKEND": _BACKEND, "QUEUES": [], "OPTIONS": {"DATABASE": alias}}
    for alias in DATABASES
    if alias != "default"
}
