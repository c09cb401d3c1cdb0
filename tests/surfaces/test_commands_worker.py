"""``meanwhile worker``: what it refuses, what it prints, and what it hands to the supervisor."""

import logging

import pytest
from django.db import connections

import django_meanwhile.worker.supervisor
from django_meanwhile import conf
from django_meanwhile.management.subcommands import worker as command

from .conftest import BACKEND

DUMMY = "django.tasks.backends.dummy.DummyBackend"


@pytest.fixture
def dummy():
    """Return the path of a backend of Django's that is not ours."""
    import django

    return DUMMY if django.VERSION >= (6, 0) else "django_tasks.backends.dummy.DummyBackend"


@pytest.fixture
def plans(monkeypatch):
    """Replace the supervisor by one that notes its plan and ends with status 3."""
    noted = []

    def run(plan, *, log_level):
        assert log_level in {logging.WARNING, logging.INFO, logging.DEBUG}
        noted.append(plan)
        return 3

    monkeypatch.setattr(django_meanwhile.worker.supervisor, "run", run)
    monkeypatch.setattr(command.connections, "close_all", lambda: None)  # the tests' transaction is on one
    return noted


def test_flags_become_the_plan_and_the_status_is_the_supervisors(meanwhile, backend, plans):
    """Every flag arrives in the plan; what the supervisor returns is the exit status."""
    flags = "--threads 3 --coroutines 0 --processes 1 --queues mail,default --max-tasks 7 --drain --lease 2m --grace 5"
    assert meanwhile("worker", *flags.split()).status == 3
    (plan,) = plans
    assert (plan.backend, plan.database) == ("default", backend)
    assert (plan.threads, plan.coroutines, plan.processes) == (3, 0, 1)
    assert (plan.queues, plan.max_tasks, plan.drain) == (("mail", "default"), 7, True)
    assert (plan.lease, plan.grace) == (120, 5)


def test_without_flags_the_settings_hold(meanwhile, backend, plans, settings):
    """What no flag says comes from MEANWHILE."""
    settings.MEANWHILE = {
        "LEASE": 60,
        "GRACE": 3,
        "WORKER": {"threads": 2, "coroutines": 4, "processes": 0, "queues": ["mail"]},
    }
    meanwhile("worker")
    (plan,) = plans
    assert (plan.threads, plan.coroutines, plan.processes, plan.queues) == (2, 4, 0, ("mail",))
    assert (plan.lease, plan.beat, plan.grace, plan.drain) == (60, 20, 3, False)


def test_the_plan_is_printed_in_one_block_unless_quiet(meanwhile, backend, plans):
    """A person sees what will run, on which database; -v 0 says nothing."""
    out = meanwhile("worker", "--threads", "2", "--processes", "3", "--queues", "mail").out
    assert 'Worker for backend "default"' in out
    assert "2 in threads, 100 coroutines, 3 in processes of their own" in out
    assert "5: a supervisor, 1 for threads and coroutines, 3 of one slot" in out
    assert f"{backend} (" in out
    assert "connections" in out
    assert "mail" in out
    assert meanwhile("worker", "-v", "0").out == ""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--threads", "-1"], ["--threads -1", "whole number from 0 to 1000"]),
        (["--threads", "1001"], ["--threads 1001", "whole number from 0 to 1000"]),
        (["--coroutines", "10001"], ["--coroutines 10001", "0 to 10000"]),
        (["--processes", "1001"], ["--processes 1001", "0 to 1000"]),
        (["--threads", "many"], ["--threads", "many"]),
        (["--max-tasks", "0"], ["--max-tasks 0", "from 1"]),
        (["--lease", "0.5"], ["--lease 0.5", "from 1 to 3600"]),
        (["--lease", "2h"], ["--lease 7200", "from 1 to 3600"]),
        (["--lease", "soon"], ["--lease", "soon", "90s"]),
        (["--grace", "2d"], ["--grace 172800", "from 0 to 86400"]),
        (["--queues", "mail,,x"], ["--queues", "empty name", "--queues default,mail"]),
        (["--queues", ""], ["--queues", "empty name"]),
        (["--threads", "0", "--coroutines", "0", "--processes", "0"], ["all 0", "--threads 8"]),
        (["--backend", "defualt"], ["--backend defualt", "no backend of that name", 'Did you mean "default"?']),
        (["--thread-count", "3"], ["--thread-count"]),
    ],
)
def test_a_wrong_flag_is_named_with_its_value_and_its_rule(meanwhile, backend, plans, flags, said):
    """Nothing starts; the error names the flag, the value, the rule, and what to write instead."""
    ran = meanwhile("worker", *flags)
    assert ran.status == 1
    for text in said:
        assert text in ran.err
    assert not plans


def test_the_ranges_are_those_of_the_settings():
    """A flag takes what the setting of the same name takes."""
    for name, parse in command.RANGES.items():
        schema = conf._WORKER if name in conf._WORKER else conf._SCHEMA
        setting = schema[name if name in schema else name.upper()]
        for value in (-1, 0, 0.5, 1, 999, 1000, 1001, 3600, 3601, 10_001, 86_400, 86_401, 10**9, 10**9 + 1, True, "8"):
            assert _refused(parse, value) == _refused(setting, value), (name, value)


def _refused(parse, value):
    try:
        parse(value)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.django_db
def test_a_backend_that_is_not_ours_is_refused_with_those_that_are(meanwhile, settings, plans, dummy):
    """The error names the class, the backends of ours, and the line that would make it one."""
    settings.TASKS = {"default": {"BACKEND": dummy}, "reports": {"BACKEND": BACKEND}}
    ran = meanwhile("worker", "--backend", "default")
    assert ran.status == 1
    assert "DummyBackend" in ran.err
    assert '"reports"' in ran.err
    assert BACKEND in ran.err


@pytest.mark.django_db
def test_the_only_backend_of_ours_needs_no_name(meanwhile, settings, plans, dummy):
    """With one backend of ours beside others, it is the one."""
    settings.TASKS = {"default": {"BACKEND": dummy}, "reports": {"BACKEND": BACKEND}}
    assert meanwhile("worker").status == 3
    assert plans[0].backend == "reports"


@pytest.mark.django_db
def test_without_a_backend_of_ours_the_settings_line_is_shown(meanwhile, settings, plans, dummy):
    """An installation that was not finished is told how to finish it."""
    settings.TASKS = {"default": {"BACKEND": dummy}}
    ran = meanwhile("worker")
    assert ran.status == 1
    assert 'TASKS = {"default": {"BACKEND": "django_meanwhile.backends.DatabaseBackend"}}' in ran.err


@pytest.mark.django_db
def test_several_backends_and_no_default_ask_for_a_name(meanwhile, settings, plans):
    """Two backends of ours, none called default: the error lists them."""
    settings.TASKS = {"a": {"BACKEND": BACKEND, "QUEUES": ["x"]}, "b": {"BACKEND": BACKEND, "QUEUES": ["y"]}}
    ran = meanwhile("worker")
    assert ran.status == 1
    assert '"a", "b"' in ran.err
    assert "--backend" in ran.err


@pytest.mark.parametrize("source", ["flag", "setting"])
def test_a_queue_that_the_backend_does_not_have_is_refused(meanwhile, backend, settings, plans, source):
    """A slip of the pen in a queue's name would be a worker that never gets a job."""
    settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["default", "mail"]}}
    if source == "setting":
        settings.MEANWHILE = {"WORKER": {"queues": ["mial"]}}
    ran = meanwhile("worker", *(["--queues", "mial"] if source == "flag" else []))
    assert ran.status == 1
    assert "'mial'" in ran.err
    assert 'Did you mean "mail"?' in ran.err
    assert ("--queues" if source == "flag" else 'MEANWHILE["WORKER"]["queues"]') in ran.err
    assert not plans


def test_wrong_settings_are_all_listed(meanwhile, backend, settings, plans):
    """A worker does not start on settings that are wrong; each problem comes with its mend."""
    settings.MEANWHILE = {"LAESE": 3, "SWEEP": "often"}
    ran = meanwhile("worker")
    assert ran.status == 1
    assert 'Did you mean "LEASE"?' in ran.err
    assert "'often'" in ran.err
    assert not plans


def test_errors_of_the_backend_keep_the_worker_from_starting(meanwhile, backend, settings, plans):
    """What check calls an error is one for the worker too; a warning is printed, and it starts."""
    settings.TASKS = {
        "default": settings.TASKS["default"],
        "twin": {"BACKEND": BACKEND, "QUEUES": ["x"], "OPTIONS": {"DATABASE": backend}},
    }
    ran = meanwhile("worker", "--backend", "twin")
    assert ran.status == 1
    assert "share database" in ran.err
    assert not plans


def test_warnings_are_printed_and_the_worker_starts(meanwhile, settings, plans, transactional_db):
    """On stderr, with their hint."""
    settings.TASKS = {"default": {"BACKEND": BACKEND}}
    database = connections["default"].settings_dict
    before = database["OPTIONS"]
    database["OPTIONS"] = {}
    try:
        ran = meanwhile("worker")
    finally:
        database["OPTIONS"] = before
    assert ran.status == 3
    assert "meanwhile.W002" in ran.err


def test_a_database_without_tables_names_the_command(bare_project):
    """A real worker on an empty database ends at once with status 2 and says what to run."""
    ran = bare_project.manage("meanwhile", "worker", check=False)
    assert ran.returncode == 2
    assert (
        "lacks migrations of django_meanwhile: 0001_initial, 0002_lock. Run: manage.py migrate meanwhile" in ran.stderr
    )
    assert "Traceback" not in ran.stderr


def test_a_database_that_does_not_answer_is_said_in_one_message(bare_project):
    """A real worker without a server, or without the directory of its SQLite file, ends with status 2, without a
    traceback.
    """
    if bare_project.vendor == "sqlite":
        bare_project.database["NAME"] = "/nonexistent/db.sqlite3"
    else:
        bare_project.database |= {"HOST": "127.0.0.1", "PORT": 9}
    ran = bare_project.manage("meanwhile", "worker", check=False)
    assert ran.returncode == 2
    assert "did not answer" in ran.stderr
    assert "DATABASES['default']" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_worker_that_drains_an_empty_queue_ends_with_status_0(project):
    """The real command, the real supervisor: its plan on stdout, one line for each event on stderr, status 0."""
    ran = project.manage(
        "meanwhile", "worker", "--drain", "--threads", "1", "--coroutines", "0", "--processes", "0", "--grace", "1"
    )
    assert "ends          as soon as nothing is due" in ran.stdout
    assert " INFO django_meanwhile.worker " in ran.stderr
