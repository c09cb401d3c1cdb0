"""A small project on SQLite. The database lies where `run.py` says, or beside this file."""

import os
from pathlib import Path

SECRET_KEY = "only-for-the-demo"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "reports.views"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django_meanwhile", "reports"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(os.environ.get("DEMO_DIRECTORY", Path(__file__).parent)) / "demo.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }
}
TASKS = {"default": {"BACKEND": "django_meanwhile.backends.DatabaseBackend"}}
# Short times, so that the demo need not wait; the defaults are 30, 10 and 5 seconds.
MEANWHILE = {"LEASE": 3, "SWEEP": 0.5, "GRACE": 5, "WORKER": {"threads": 4, "coroutines": 20, "processes": 2}}
LOGGING = {"version": 1, "disable_existing_loggers": False, "loggers": {"django.server": {"level": "WARNING"}}}
