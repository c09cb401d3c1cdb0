"""Settings as a project has them: the databases named here are not the tests'. A worker that used them would fail."""

from tests.project.settings import *  # noqa: F403

INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django_meanwhile", "tests.project"]
MEANWHILE = {"TASK_MODULES": ["tests.testing.sample"]}
SECRET_KEY = "tests"

_SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": "/nowhere/production.sqlite3",
    "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 5},
}
DATABASES = {
    "default": {**_SQLITE, "TEST": {"NAME": "test.sqlite3"}},
    "other": _SQLITE,
    "postgresql": {"ENGINE": "django.db.backends.postgresql", "NAME": "production", "HOST": "nowhere.invalid"},
}
