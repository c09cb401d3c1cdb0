"""``meanwhile check``: the plan, the settings in force, the connections, the problems."""

import json

import pytest
from django.db import connections

from django_meanwhile import conf
from django_meanwhile.management.subcommands import check

from .conftest import BACKEND


def test_it_shows_the_plan_and_every_setting(meanwhile, backend, settings):
    """Each field of the settings stands in the table, said to be set or the default."""
    settings.MEANWHILE = {"SWEEP": 2, "WORKER": {"threads": 3}}
    ran = meanwhile("check")
    assert ran.status == 0
    assert 'Backend "default": a worker would be' in ran.out
    assert "3 in threads" in ran.out
    lines = {line.split("  ")[1]: line.split() for line in ran.out.splitlines() if line.startswith("  ")}
    for name, value, is_set in check.in_force(conf.get_settings()):
        assert name in lines, ran.out
        assert lines[name][-1] == ("set" if is_set else "default")
        assert repr(value).split()[0].strip("'(") in " ".join(lines[name])
    assert lines["SWEEP"][-1] == lines["WORKER: threads"][-1] == "set"
    assert "No problems." in ran.out


def test_it_compares_the_connections_with_what_the_server_allows(meanwhile, backend):
    """One worker's connections, the server's limit, what it keeps and has given out; SQLite has no limit."""
    ran = meanwhile("check")
    assert "at most for one worker" in ran.out
    if connections[backend].vendor == "sqlite":
        assert "does not limit" in ran.out
        return
    capacity = check.capacity_of(backend)
    with connections[backend].cursor() as cursor:
        cursor.execute("SHOW max_connections")
        assert capacity.allowed == int(cursor.fetchone()[0])
    assert capacity.reserved >= 3
    assert capacity.free == capacity.allowed - capacity.reserved - capacity.in_use
    assert f"the server allows {capacity.allowed}" in ran.out


def test_a_server_that_is_too_small_is_a_warning_with_a_way_out(meanwhile, backend, monkeypatch):
    """More connections than are free: a warning that names both numbers and the line to write; the status stays 0."""
    monkeypatch.setattr(check, "capacity_of", lambda _alias: check.Capacity(allowed=10, reserved=3, in_use=2))
    ran = meanwhile("check")
    assert ran.status == 0
    assert "meanwhile.W030" in ran.out
    assert "the server has 5 left" in ran.out.replace("\n", " ")
    assert 'MEANWHILE["WORKER"] = {"threads": 4}' in ran.out


def test_the_room_that_a_worker_needs_for_a_while_counts(meanwhile, backend, settings, monkeypatch):
    """Suspects alone and children beside their successors: a server with room for the rest alone is too small."""
    settings.MEANWHILE = {"WORKER": {"threads": 1, "coroutines": 0, "processes": 1, "max_tasks": 10}}
    rest, shared, process, solo = 4, 3, 3, 3
    peak = rest + 2 * shared + 2 * process + 2 * solo
    for free, warned in ((peak, False), (peak - 1, True)):
        monkeypatch.setattr(check, "capacity_of", lambda _alias, free=free: check.Capacity(allowed=free))
        assert ("meanwhile.W030" in meanwhile("check").out) == warned


def test_programs_get_the_same_as_json(meanwhile, backend, settings):
    """--json: each plan, what the server allows, every setting, every problem; the status is the same."""
    said = json.loads(meanwhile("check", "--json").out)
    (only,) = said["backends"]
    assert (only["backend"], only["database"], only["vendor"]) == ("default", backend, connections[backend].vendor)
    assert only["worker"]["threads"] == 8
    assert only["worker"]["connections"] < only["worker"]["peak_connections"]
    limits = {"role_limit", "database_limit"}
    assert set(only["server_connections"]) == {"allowed", "reserved", "in_use"} | limits
    assert {"name": "POLL", "value": 1.0, "set": False} in said["settings"]
    assert (said["errors"], said["problems"]) == (0, [])
    settings.MEANWHILE = {"LAESE": 3}
    ran = meanwhile("check", "--json")
    (problem,) = json.loads(ran.out)["problems"]
    assert (ran.status, problem["id"], problem["serious"]) == (1, "meanwhile.E001", True)
    assert problem["hint"] == 'Did you mean "LEASE"?'


def test_errors_are_shown_with_their_mend_and_make_the_status_1(meanwhile, backend, settings):
    """Every problem of our system checks stands in the list; the rest is shown all the same."""
    settings.MEANWHILE = {"LAESE": 3}
    ran = meanwhile("check")
    assert ran.status == 1
    assert "meanwhile.E001" in ran.out
    assert 'Did you mean "LEASE"?' in ran.out
    assert "Settings in force" in ran.out


def test_problems_of_a_backend_are_shown_too(meanwhile, backend, settings):
    """What DatabaseBackend.check() finds is in the list, once."""
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"DATABASE": backend, "COLOUR": "red"}}}
    ran = meanwhile("check")
    assert ran.status == 1
    assert ran.out.count("'COLOUR'") == 1


def test_a_backend_whose_database_does_not_exist_is_an_error_not_a_crash(meanwhile, backend, settings):
    """The plan of the others is shown; the alias and the known ones are named."""
    settings.TASKS = {
        "default": settings.TASKS["default"],
        "bad": {"BACKEND": BACKEND, "QUEUES": ["x"], "OPTIONS": {"DATABASE": "defualt"}},
    }
    ran = meanwhile("check")
    assert ran.status == 1
    assert 'Backend "default": a worker would be' in ran.out
    assert "'defualt'" in ran.out


def test_missing_migrations_are_an_error(bare_project):
    """An empty database: status 1, and the command to run."""
    ran = bare_project.manage("meanwhile", "check", check=False)
    assert ran.returncode == 1
    assert "meanwhile.E032" in ran.stdout
    assert "Run: manage.py migrate meanwhile" in ran.stdout


def test_deploy_asks_whether_anybody_works(meanwhile, backend):
    """With --deploy the missing worker is a warning, without it nothing is said."""
    assert "W004" not in meanwhile("check").out
    assert "meanwhile.W004" in meanwhile("check", "--deploy").out


def test_an_unknown_backend_is_refused(meanwhile, backend):
    """As everywhere, with a suggestion."""
    ran = meanwhile("check", "--backend", "defautl")
    assert ran.status == 1
    assert 'Did you mean "default"?' in ran.err


@pytest.mark.django_db
def test_without_a_backend_of_ours_the_settings_are_shown_and_the_warning(meanwhile, settings):
    """An unfinished installation is told the line to write."""
    settings.TASKS = {}
    ran = meanwhile("check")
    assert "meanwhile.W001" in ran.out
    assert BACKEND in ran.out
