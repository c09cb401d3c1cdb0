"""Settings of the projects that tests run as processes of their own; ``playground`` fills the environment.

``MEANWHILE_TEST_DB``        JSON of ``DATABASES["default"]``
``MEANWHILE_TEST_SETTINGS``  JSON of ``MEANWHILE`` (default: empty)
``MEANWHILE_TEST_EXTRA``     JSON of any further settings
``MEANWHILE_TEST_IMPORT``    a module to import, for tests of the autoreloader that change it
"""

import json
import os
from importlib import import_module
from typing import Any

SECRET_KEY = "tests"
USE_TZ = True
ROOT_URLCONF = "tests.project.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django_meanwhile",
    "tests.project",
]

_NO_DATABASE = (
    '{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}'  # for the type checker, which only imports
)
DATABASES: dict[str, dict[str, Any]] = {"default": json.loads(os.environ.get("MEANWHILE_TEST_DB", _NO_DATABASE))}
TASKS = {"default": {"BACKEND": "django_meanwhile.backends.DatabaseBackend", "QUEUES": []}}
MEANWHILE: dict[str, Any] = json.loads(os.environ.get("MEANWHILE_TEST_SETTINGS", "{}"))

globals().update(json.loads(os.environ.get("MEANWHILE_TEST_EXTRA", "{}")))

if _WATCHED := os.environ.get("MEANWHILE_TEST_IMPORT"):
    import_module(_WATCHED)
