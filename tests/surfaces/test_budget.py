"""The connection budget: the sum over server, threads and workers, and what a database allows."""

from __future__ import annotations

import json

import pytest
from django.core import checks as django_checks
from django.core.management import call_command
from django.db import connections

from django_meanwhile import conf
from django_meanwhile.checks import connections as connection_checks
from django_meanwhile.management import budget as budgets
from django_meanwhile.management.backends import our_backends
from django_meanwhile.management.budget import Budget, Row, make_budget, verdict, web_server
from django_meanwhile.management.capacity import Capacity, capacity_of
from django_meanwhile.worker.plan import make_plan

from .conftest import BACKEND

SMALL = {"threads": 1, "coroutines": 0, "processes": 0}


@pytest.fixture(autouse=True)
def _no_server_in_the_environment(monkeypatch):
    for name in ("WEB_CONCURRENCY", "GUNICORN_CMD_ARGS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def on_postgresql(settings, monkeypatch):
    """A database that is said to be on PostgreSQL and is never asked; its OPTIONS."""
    settings.TASKS = {"default": {"BACKEND": BACKEND, "QUEUES": []}}
    wrapper = connections["default"]
    monkeypatch.setattr(wrapper, "vendor", "postgresql")
    monkeypatch.setitem(wrapper.settings_dict, "OPTIONS", {})
    return wrapper.settings_dict["OPTIONS"]


def _rows(database="default"):
    budget = make_budget(database, conf.get_settings(), our_backends())
    return {row.what: row for row in budget.rows}, budget


# --- the sum ------------------------------------------------------------------------------------


def test_it_adds_up_server_threads_and_workers(on_postgresql, settings):
    """Processes x threads, processes x connections of concurrent, and the worker with what it opens for a while."""
    settings.MEANWHILE = {"SERVER": {"workers": 3, "threads": 5}, "CONCURRENT": {"connections": 7}, "WORKER": SMALL}
    rows, budget = _rows()
    plan = make_plan(conf.get_settings())
    assert rows["web server"].connections == 15
    assert rows["concurrent"].connections == 21
    assert rows['worker "default"'].connections == plan.connections == 4 + 3
    assert rows[""].connections == plan.peak_connections - plan.connections == 3 + 2 * 3
    assert budget.total == 15 + 21 + plan.peak_connections
    assert not budget.at_least


def test_a_pool_is_all_that_a_server_process_has(on_postgresql, settings):
    """With Django's pool no threads count: the pool does. Locks and a worker are outside of it."""
    on_postgresql["pool"] = {"max_size": 6}
    settings.MEANWHILE = {"SERVER": {"workers": 3, "threads": 50}, "WORKER": SMALL}
    rows, budget = _rows()
    assert rows["web server"].connections == 18
    assert "concurrent" not in rows
    assert rows["locks"].connections == 3 * 8
    assert budget.total == 18 + 24 + make_plan(conf.get_settings()).peak_connections


@pytest.mark.parametrize(
    ("pool", "size"),
    [(True, 4), ({}, None), ({"min_size": 2}, 2), ({"min_size": 2, "max_size": 9}, 9), ({"max_size": None}, 4)],
)
def test_the_size_of_a_pool_is_psycopgs(on_postgresql, pool, size):
    """What it is without max_size is what psycopg makes of it."""
    on_postgresql["pool"] = pool
    assert budgets.pool_of("default") == size
    if size and pool:
        from psycopg_pool import ConnectionPool

        real = ConnectionPool(open=False, **(pool if isinstance(pool, dict) else {}))
        assert real.max_size == size


def test_a_database_without_jobs_has_their_bodies(on_postgresql, settings):
    """A worker's service connections are to its own database; bodies may ask any."""
    settings.TASKS = {"default": {"BACKEND": BACKEND, "QUEUES": [], "OPTIONS": {"DATABASE": "other"}}}
    settings.MEANWHILE = {"WORKER": {"threads": 3, "coroutines": 9, "processes": 2}}
    rows, _ = _rows()
    assert rows['worker "default"'].connections == 3 + 1 + 2
    assert "" not in rows


def test_under_asgi_the_sum_is_a_lower_bound(on_postgresql, settings):
    """Each request in progress may have a connection: one for each process, and a plus."""
    settings.MEANWHILE = {"SERVER": {"workers": 2, "interface": "asgi"}, "WORKER": SMALL}
    rows, budget = _rows()
    assert rows["web server"].connections == 2
    assert rows["web server"].at_least
    assert budget.at_least
    assert "no limit of their own" in verdict(budget, Capacity(allowed=1000))
    on_postgresql["pool"] = True
    assert not _rows()[1].at_least


# --- who serves ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "processes", "threads", "is_known", "source"),
    [
        ({}, 1, 8, False, "assumed"),
        ({"WEB_CONCURRENCY": "5"}, 5, 8, False, "WEB_CONCURRENCY"),
        ({"GUNICORN_CMD_ARGS": "--workers=3 --threads 2 --bind :80"}, 3, 2, True, "GUNICORN_CMD_ARGS"),
        ({"GUNICORN_CMD_ARGS": "-w 3", "WEB_CONCURRENCY": "5"}, 3, 8, False, "GUNICORN_CMD_ARGS"),
        ({"GUNICORN_CMD_ARGS": "--threads 2", "WEB_CONCURRENCY": "5"}, 5, 2, True, "GUNICORN_CMD_ARGS"),
        ({"GUNICORN_CMD_ARGS": "--workers many"}, 1, 8, False, "assumed"),
        ({"GUNICORN_CMD_ARGS": "--workers '"}, 1, 8, False, "assumed"),
        ({"WEB_CONCURRENCY": "auto"}, 1, 8, False, "assumed"),
    ],
)
def test_a_server_that_is_not_ours_is_read_from_the_environment(environ, processes, threads, is_known, source):
    """WEB_CONCURRENCY and GUNICORN_CMD_ARGS; what nobody says is assumed, and called so."""
    server = web_server(conf.get_settings(), environ)
    assert (server.processes, server.threads, server.is_known) == (processes, threads, is_known)
    assert server.source.startswith(source)


@pytest.mark.parametrize("debug", [False, True])
def test_our_own_server_is_read_from_the_settings(settings, debug):
    """MEANWHILE["SERVER"] counts before the environment. A developer sees production's sum: DEBUG changes nothing but
    the last column, which says that fewer run here.
    """
    settings.DEBUG = debug
    settings.MEANWHILE = {"SERVER": {"workers": 3}}
    server = web_server(conf.get_settings(), {"WEB_CONCURRENCY": "5"})
    assert (server.processes, server.is_known) == (3, True)
    assert server.source == 'MEANWHILE["SERVER"]' + "; one process while files are watched" * debug
    settings.MEANWHILE = {"SERVER": {"workers": 1}}
    assert web_server(conf.get_settings(), {}).source == 'MEANWHILE["SERVER"]'


@pytest.mark.parametrize(
    ("interface", "application", "asgi"),
    [("auto", None, False), ("auto", "x.asgi.application", True), ("wsgi", "x.asgi.application", False)],
)
def test_asgi_is_what_the_project_says(settings, interface, application, asgi):
    """The interface, or without one ASGI_APPLICATION."""
    settings.MEANWHILE = {"SERVER": {"interface": interface}}
    settings.ASGI_APPLICATION = application
    assert budgets.is_asgi(conf.get_settings()) == asgi


# --- what a server allows -----------------------------------------------------------------------


def test_what_is_usable_is_the_smallest_limit():
    """max_connections less what is reserved, the role's own limit, the database's own."""
    assert Capacity(allowed=None).usable is None
    assert Capacity(allowed=100, reserved=3).usable == 97
    assert Capacity(allowed=100, reserved=3, role_limit=20).usable == 20
    assert Capacity(allowed=100, reserved=3, role_limit=20, database_limit=5).usable == 5
    assert Capacity(allowed=10, reserved=3, role_limit=20).usable == 7
    assert Capacity(allowed=10, role_limit=0).usable == 0


def test_the_limits_of_role_and_database_are_asked_for(postgresql_server, django_db_blocker):
    """A role and a database with limits of their own; a superuser is above both."""
    from django.db.backends.postgresql.base import DatabaseWrapper

    name = postgresql_server.create_database()
    role = f"{name}_role"
    try:
        postgresql_server.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'x' CONNECTION LIMIT 7")
        postgresql_server.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 5')
        for user, password, limits in ((role, "x", (7, 5)), (postgresql_server.user, "", (None, None))):
            given = {**postgresql_server.settings_dict(name), "USER": user}
            if password:
                given["PASSWORD"] = password
            alias = "limited"
            connections.settings[alias] = connections.configure_settings({"default": {}, alias: given})[alias]
            try:
                assert isinstance(connections[alias], DatabaseWrapper)
                with django_db_blocker.unblock():
                    capacity = capacity_of(alias)
            finally:
                connections[alias].close()
                del connections[alias], connections.settings[alias]
            assert (capacity.role_limit, capacity.database_limit) == limits
    finally:
        postgresql_server.drop_database(name)
        postgresql_server.execute(f'DROP ROLE IF EXISTS "{role}"')


def _budget(total, *, at_least=False):
    row = Row(what="web server", arithmetic="1 x", connections=total, source="x", at_least=at_least)
    return Budget(database="default", rows=(row,))


def test_the_verdict_is_one_line():
    """What is to spare, what is too many, and where nothing limits it."""
    assert verdict(_budget(97), Capacity(allowed=100, reserved=3)).startswith("fits: 0 to spare")
    assert verdict(_budget(98), Capacity(allowed=100, reserved=3)) == "does not fit: 1 too many"
    assert verdict(_budget(98), Capacity(allowed=None)) == "fits: the database does not limit them"
    assert "no more than 2 further requests" in verdict(_budget(5, at_least=True), Capacity(allowed=7))


# --- the checks ---------------------------------------------------------------------------------


def test_w012_more_than_the_server_allows():
    """One more than it allows is a warning that names the sum, the limit and the largest part; one less is none."""
    capacity = Capacity(allowed=100, reserved=3, role_limit=50)
    assert list(connection_checks.too_many(_budget(50), capacity)) == []
    assert list(connection_checks.too_many(_budget(50_000), Capacity(allowed=None))) == []
    (warning,) = connection_checks.too_many(_budget(51), capacity)
    assert warning.id == "meanwhile.W012"
    assert "51 connections to database 'default'" in warning.msg
    assert "allows 50 (max_connections 100 - 3 reserved for superusers, this role may have 50)" in warning.msg
    assert "web server, 1 x, 51" in warning.msg


def test_w012_is_said_with_database_and_by_the_command_only(backend, settings, monkeypatch, meanwhile):
    """Django asks a database in a check only if it is told to by --database; `meanwhile check` asks always. SQLite
    limits nothing.
    """
    settings.MEANWHILE = {"SERVER": {"workers": 100, "threads": 100}}

    def said(**given):
        return "meanwhile.W012" in {message.id for message in django_checks.run_checks(**given)}

    is_limited = connections[backend].vendor == "postgresql"
    assert said(databases=[backend]) == is_limited
    assert not said()
    assert not said(tags=["meanwhile"])
    ran = meanwhile("check")
    assert ran.status == 0
    for text in ("meanwhile.W012", "100 processes x 100 threads", "does not fit: "):
        assert (text in ran.out) == is_limited


def test_w012_is_silent_where_the_database_is_not_there(backend, monkeypatch):
    """An image that is built without a database has its checks; Django says what is wrong there."""
    from django.db import OperationalError

    def away(_alias):
        raise OperationalError

    monkeypatch.setattr(connection_checks, "capacity_of", away)
    assert list(connection_checks.check_budget([backend, "nowhere"])) == []


@pytest.mark.parametrize(
    ("meanwhile_setting", "size", "wanted"),
    [
        ({"SERVER": {"threads": 4}, "CONCURRENT": {"connections": 3}}, 6, 7),
        ({"SERVER": {"threads": 4}, "CONCURRENT": {"connections": 3}}, 7, None),
        ({"CONCURRENT": {"connections": 3}}, 3, 4),
        ({"CONCURRENT": {"connections": 3}}, 4, None),
        ({"SERVER": {"interface": "asgi"}}, 8, 9),
        ({}, 1, None),
    ],
)
def test_w013_a_pool_that_is_smaller_than_its_threads(on_postgresql, settings, meanwhile_setting, size, wanted):
    """Threads of the server and of concurrent against max_size, with the line to write. Silent where the project says
    neither how it is served nor that it uses concurrent: who can ask is then unknown.
    """
    on_postgresql["pool"] = {"max_size": size}
    settings.MEANWHILE = meanwhile_setting
    found = [message for message in connection_checks.check() if message.id == "meanwhile.W013"]
    assert len(found) == (wanted is not None)
    if wanted:
        assert f'["pool"] = {{"max_size": {wanted}}}' in found[0].hint


def test_w013_needs_a_pool(on_postgresql, settings):
    """Without one, threads open their own."""
    settings.MEANWHILE = {"SERVER": {"threads": 400}}
    assert list(connection_checks.check()) == []


@pytest.mark.parametrize(
    ("age", "interface", "said"), [(60, "asgi", 1), (None, "asgi", 1), (0, "asgi", 0), (60, "wsgi", 0)]
)
def test_w014_conn_max_age_under_asgi(settings, monkeypatch, age, interface, said):
    """Connections that are kept for threads that end."""
    monkeypatch.setitem(connections["default"].settings_dict, "CONN_MAX_AGE", age)
    settings.MEANWHILE = {"SERVER": {"interface": interface}}
    found = [message.id for message in connection_checks.check()]
    assert found == ["meanwhile.W014"] * said


# --- the command --------------------------------------------------------------------------------


def test_the_command_prints_the_sum_line_by_line(backend, settings, meanwhile):
    """Who, how many, the sum, by whom it is said; what the server allows; the verdict. SQLite limits nothing."""
    settings.MEANWHILE = {"SERVER": {"workers": 2, "threads": 3}, "WORKER": SMALL}
    ran = meanwhile("check")
    if connections[backend].vendor == "sqlite":
        assert "that may be open at once" not in ran.out
        return
    assert f'Connections to database "{backend}" that may be open at once, on one host' in ran.out
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert 'web server 2 processes x 3 threads 6 MEANWHILE["SERVER"]' in lines
    assert 'concurrent 2 processes x 8 connections 16 MEANWHILE["CONCURRENT"]' in lines
    assert 'worker "default" 4 of its own + 3 of threads 7 assumed: one runs' in lines
    assert "together 38" in lines
    capacity = capacity_of(backend)
    assert any(
        line.startswith(f"the server allows {capacity.usable}: max_connections {capacity.allowed}") for line in lines
    )
    assert any(line.startswith(f"fits: {capacity.usable - 38} to spare") for line in lines)
    (said,) = json.loads(meanwhile("check", "--json").out)["budgets"]
    assert (said["database"], said["total"], said["allowed"]) == (backend, 38, capacity.usable)
    assert sum(row["connections"] for row in said["rows"]) == 38


def test_an_embedded_worker_is_called_so(on_postgresql, settings):
    """EMBEDDED: there is one on each host."""
    settings.MEANWHILE = {"EMBEDDED": True}
    assert _rows()[0]['worker "default"'].source == "embedded"


def test_migrate_is_not_hindered(backend, settings):
    """Django runs checks of databases before migrate: a warning there stops nothing."""
    settings.MEANWHILE = {"SERVER": {"workers": 100, "threads": 100}}
    call_command("check", "--database", backend, "--fail-level", "ERROR")
