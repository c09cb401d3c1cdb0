"""Fixtures: a database of each vendor inside pytest's process, a project of each vendor in processes of its own.

``database``            the alias ("default" is SQLite, "postgresql"); access is granted by itself, and
                        ``@pytest.mark.django_db(transaction=True, databases=["other"])`` adds to it
``project``             a migrated ``playground.Project`` with an empty database of its own
``bare_project``        the same, without migrations
``postgresql_server``   the session's server
``private_postgresql``  a started server of this test's own, to be stopped and restarted at will

Hypothesis has no deadline here and draws the same examples each time: what it finds does not depend on the machine's
load or on the day. ``--hypothesis-profile=search`` draws new ones.

The suite runs on both vendors by default. A vendor that is missing is skipped with its reason, or, with
``MEANWHILE_TEST_REQUIRE_SERVERS=1``, ends the run at once.
"""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest
from django.conf import settings
from pytest_django import DjangoDbBlocker

from tests import servers, watchdog
from tests.playground import Playground, Project

_ALIASES = {"sqlite": "default", "postgresql": "postgresql"}
_VENDORS = settings.VENDORS
_SERVER_FIXTURES = {"postgresql_server", "private_postgresql"}
hypothesis.settings.register_profile(
    "search", deadline=None, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("suite", hypothesis.settings.get_profile("search"), derandomize=True)
hypothesis.settings.load_profile("suite")

_REQUIRED = os.environ.get("MEANWHILE_TEST_REQUIRE_SERVERS") == "1"


def pytest_configure() -> None:
    """Have no process inherit that a signal is ignored, as whoever starts the tests in the background has it.

    A handler, which ends with exec, ignores it in this process alone.
    """
    for name in ("SIGINT", "SIGQUIT", "SIGHUP"):
        number = getattr(signal, name, None)
        is_ours = threading.current_thread() is threading.main_thread()
        if number is not None and is_ours and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def _vendor(item: pytest.Item) -> str | None:
    """Return the vendor that this test runs on, if it depends on one."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if "database" in parameters:
        return {alias: vendor for vendor, alias in _ALIASES.items()}[parameters["database"]]
    if "_vendor_of_project" in parameters:
        return parameters["_vendor_of_project"]
    return "postgresql" if _SERVER_FIXTURES & set(getattr(item, "fixturenames", ())) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start PostgreSQL if a selected test wants it, mark what cannot run, and grant access to ``database``."""
    on_postgresql = [item for item in items if _vendor(item) == "postgresql"]
    missing = "" if not on_postgresql or config.option.collectonly else _start_postgresql()
    if missing and _REQUIRED:
        message = f"MEANWHILE_TEST_REQUIRE_SERVERS=1, and {len(on_postgresql)} tests cannot run: {missing}"
        raise pytest.UsageError(message)
    for item in on_postgresql:
        if missing:
            item.add_marker(pytest.mark.skip(reason=missing))
    for item in items:
        if "database" in getattr(item, "fixturenames", ()) and not (missing and item in on_postgresql):
            _grant_access(item, item.callspec.params["database"])  # type: ignore[attr-defined]


def _grant_access(item: pytest.Item, alias: str) -> None:
    given = item.get_closest_marker("django_db")
    options = dict(given.kwargs) if given else {}
    databases = [alias, *(name for name in options.pop("databases", None) or () if name != alias)]
    item.add_marker(pytest.mark.django_db(databases=databases, **options), append=False)


def _start_postgresql() -> str:
    """Start the session's server; return why that is impossible, or nothing."""
    if settings.POSTGRESQL is None:
        return settings.POSTGRESQL_MISSING
    try:
        settings.POSTGRESQL.start()
    except servers.ServerUnavailableError as error:
        return str(error)
    return ""


def pytest_report_header() -> str:
    """Name the databases that this run is about."""
    server = settings.POSTGRESQL
    postgresql = settings.POSTGRESQL_MISSING or getattr(server, "binaries", None) or f"{server.host}:{server.port}"
    return f"databases: {', '.join(_VENDORS)}; PostgreSQL: {postgresql}"


def pytest_unconfigure() -> None:
    """Stop the session's server; if this is never reached, the watchdog does."""
    if settings.POSTGRESQL is not None:
        settings.POSTGRESQL.close()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """Before PostgreSQL's test database is dropped, throw out whoever still sits in it: a session that ends late, of a
    thread or of a process that was killed, fails no test that happens to be the last.
    """
    yield
    from django.db import connections

    if settings.POSTGRESQL is not None and "postgresql" in connections.settings:
        connections["postgresql"].close()
        name = connections["postgresql"].settings_dict["NAME"]
        if name != "postgres":  # it was made
            settings.POSTGRESQL.disconnect_everybody(name)


@pytest.fixture(params=[pytest.param(_ALIASES[vendor], id=vendor) for vendor in _VENDORS])
def database(request: pytest.FixtureRequest) -> str:
    """The alias of the database under test; ``TASKS`` has a backend of the same name."""
    return request.param


@pytest.fixture(params=_VENDORS)
def _vendor_of_project(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def playground(django_db_blocker: DjangoDbBlocker) -> Iterator[Playground]:
    """Where projects come from; for tests that want several."""
    ground = Playground(settings.POSTGRESQL, django_db_blocker.unblock)
    yield ground
    ground.close()


@pytest.fixture
def project(playground: Playground, _vendor_of_project: str, tmp_path: Path) -> Iterator[Project]:
    """A migrated project with an empty database of its own."""
    with playground.project(_vendor_of_project, tmp_path, migrated=True) as project:
        yield project


@pytest.fixture
def bare_project(playground: Playground, _vendor_of_project: str, tmp_path: Path) -> Iterator[Project]:
    """A project whose database has no table."""
    with playground.project(_vendor_of_project, tmp_path, migrated=False) as project:
        yield project


@pytest.fixture
def postgresql_server() -> servers.Server:
    """The session's PostgreSQL, which other tests use as well: no restarting here."""
    assert settings.POSTGRESQL is not None
    return settings.POSTGRESQL


@pytest.fixture
def private_postgresql() -> Iterator[servers.OwnServer]:
    """A PostgreSQL of this test's own, started."""
    server = servers.private()
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="session", autouse=True)
def _run_directory_outlives_nothing() -> Iterator[None]:
    """Leave no process of a project behind, whatever the tests did."""
    yield
    mark = next(iter(watchdog.run_mark().items()))
    psutil.wait_procs(watchdog.marked_processes(*mark), timeout=30)  # children of a supervisor that was killed just now
    left = watchdog.marked_processes(*mark)
    for process in left:
        process.kill()
    assert not left, f"processes that outlived their test: {left}"
