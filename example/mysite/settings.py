"""The settings of the example site: SQLite, one backend, and nothing else to run.

Its database and its files lie in `var/` beside this directory, or where EXAMPLE_DIRECTORY says.
"""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
DIRECTORY = Path(os.environ.get("EXAMPLE_DIRECTORY", BASE_DIR / "var"))
DIRECTORY.mkdir(parents=True, exist_ok=True)

DEBUG = True
SECRET_KEY = "an example, and no secret"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
ROOT_URLCONF = "mysite.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_meanwhile",
    "reports",
    "naive",
    "inside",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "reports.pages.navigation",
            ]
        },
    }
]
STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# A visitor is known by a signed cookie: no row, no login.
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DIRECTORY / "example.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }
}
# Reports are served by a view that knows whose they are, so there is no MEDIA_URL.
MEDIA_ROOT = DIRECTORY / "files"

TASKS = {"default": {"BACKEND": "django_meanwhile.backends.DatabaseBackend"}}
MEANWHILE = {"WORKER": {"threads": 4, "coroutines": 100, "processes": 2}}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"short": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "short"}},
    "loggers": {
        "django.server": {"handlers": ["console"], "level": "WARNING", "propagate": False},
        "django_meanwhile": {"handlers": ["console"], "level": "INFO", "propagate": False},
    },
}
