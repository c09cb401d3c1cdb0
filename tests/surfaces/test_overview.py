"""``manage.py meanwhile`` alone says how the project stands, whatever state its database is in, and ends well."""

from __future__ import annotations

import socket

import pytest

from .newcomer import Newcomer

ENQUEUE = "import django; django.setup(); from reports.tasks import generate; generate.enqueue(1)"


@pytest.fixture
def newcomer(tmp_path):
    """A project without a database yet."""
    return Newcomer(tmp_path)


def _now(ran):
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.partition("This project, now")[2]


def test_from_the_first_minute_to_the_first_job(newcomer):
    """No file, no tables, no jobs, a job that nobody works: each is said, and the look creates no file."""
    file = newcomer.path / "db.sqlite3"
    assert "is not there yet. Run: manage.py migrate\n" in _now(newcomer.manage("meanwhile"))
    assert not file.exists()
    file.touch()
    assert "lacks the tables of django_meanwhile. Run: manage.py migrate" in _now(newcomer.manage("meanwhile"))
    newcomer.manage("migrate", "--verbosity", "0")
    quiet = "0 jobs ready, 0 scheduled, 0 running; no worker lives; nothing is wrong."
    assert quiet in _now(newcomer.manage("meanwhile"))
    newcomer.run("-c", ENQUEUE)
    said = _now(newcomer.manage("meanwhile"))
    assert "1 job ready, 0 scheduled, 0 running; no worker lives; something is wrong" in said
    assert "The web server brings a worker along." in said


def test_wrong_settings_are_not_its_end(newcomer):
    """It says where to look, for the settings and for TASKS, and that an embedded worker is off."""
    newcomer.settings('MEANWHILE = {"LAESE": 3}')
    assert "manage.py meanwhile check" in _now(newcomer.manage("meanwhile"))
    newcomer.settings("del TASKS")
    assert 'TASKS = {"default": {"BACKEND"' in _now(newcomer.manage("meanwhile"))
    newcomer.settings("DEBUG = False")
    assert 'it would with MEANWHILE = {"EMBEDDED": True}' in _now(newcomer.manage("meanwhile"))


def test_a_server_that_is_silent_is_not_waited_for(newcomer):
    """One that refuses is quoted; one that takes the connection and never answers is said to be silent."""
    line = 'DATABASES["default"] = {{"ENGINE": "django.db.backends.postgresql", "NAME": "x", "HOST": "{}", "PORT": {}}}'
    with socket.create_server(("127.0.0.1", 0)) as silent:
        newcomer.settings(line.format(*silent.getsockname()))
        assert "Database 'default' has not answered within 1 s." in _now(newcomer.manage("meanwhile"))
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))  # and never listens; nobody else can listen there meanwhile
        newcomer.settings(line.format(*refusing.getsockname()))
        assert "Database 'default' did not answer: " in _now(newcomer.manage("meanwhile"))
