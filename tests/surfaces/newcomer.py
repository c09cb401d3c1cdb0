"""A project as ``startproject`` makes it, with the README's lines in it, and then one mistake of a newcomer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import django_meanwhile

SETTINGS = """
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "tests"
DEBUG = True
ALLOWED_HOSTS = []
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django_meanwhile",
    "reports",
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
ROOT_URLCONF = "mysite.urls"
WSGI_APPLICATION = "mysite.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "db.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    }
}
TASKS = {"default": {"BACKEND": "django_meanwhile.backends.DatabaseBackend"}}
"""

FILES = {
    "mysite/__init__.py": "",
    "mysite/urls.py": "from django.urls import path\nfrom reports import views\nurlpatterns = [path('', views.go)]\n",
    "reports/__init__.py": "",
    "reports/tasks.py": "from django_meanwhile import task\n\n\n@task\ndef generate(n):\n    return n\n",
    "reports/views.py": (
        "from django.http import HttpResponse\n\n\ndef go(request):\n"
        "    from .tasks import generate\n\n    generate.enqueue(1)\n    return HttpResponse(status=202)\n"
    ),
}


class Newcomer:
    """Writes the project, and runs ``manage.py`` in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name, text in {"mysite/settings.py": SETTINGS, **FILES}.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        """Make a file of the project."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def settings(self, lines: str) -> None:
        """Add lines at the end of the settings: the mistake."""
        self.write("mysite/settings.py", f"{SETTINGS}\n{lines}\n")

    def manage(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, with pipes for its streams."""
        return self.run("-m", "django", *args, **env)

    def run(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the project."""
        return subprocess.run(
            [sys.executable, *args],
            cwd=self.path,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def env(self) -> dict[str, str]:
        """The environment of its processes."""
        source = Path(django_meanwhile.__path__[0]).parent
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "PYTHONPATH": os.pathsep.join([str(self.path), str(source)]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
