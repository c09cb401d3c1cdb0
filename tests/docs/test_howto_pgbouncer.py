"""docs/how-to/pgbouncer.md, with the pgbouncer that it configures in front of the tests' PostgreSQL."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings

from tests.playground import Project, Running, eventually

from .pages import page
from .pooler import Pooler, find

PAGE = page("how-to/pgbouncer")
INI = next(block.text for block in PAGE.blocks() if block.text.startswith("# /etc/pgbouncer"))
LEASE = 6  # a beat gives up after a sixth of it, which is enough on a busy machine


@pytest.fixture(params=["postgresql"])
def _vendor_of_project(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def pooler(project: Project) -> Iterator[Pooler]:
    """The page's pgbouncer, started, in front of the project's database."""
    if find() is None:
        if os.environ.get("MEANWHILE_TEST_REQUIRE_SERVERS") == "1":
            pytest.fail("MEANWHILE_TEST_REQUIRE_SERVERS=1, and there is no pgbouncer on this machine")
        pytest.skip("there is no pgbouncer on this machine: apt-get install pgbouncer")
    pooler = Pooler(INI, settings.POSTGRESQL, project.database["NAME"])
    yield pooler
    pooler.close()


def _through(project: Project, pooler: Pooler, name: str) -> dict[str, Any]:
    """Return `DATABASES["default"]` as the page has it, for an entry of pgbouncer.ini."""
    return pooler.settings_dict(name) | {"DISABLE_SERVER_SIDE_CURSORS": _settings()["DISABLE_SERVER_SIDE_CURSORS"]}


def _settings(pooled: str = "yes") -> dict[str, Any]:
    """Run the page's settings, and return the database in them."""
    (block,) = (block for block in PAGE.blocks() if block.file == "mysite/settings.py")
    names: dict[str, Any] = {}
    before = os.environ.get("POOLED")
    os.environ["POOLED"] = pooled
    try:
        exec(block.text, names)
    finally:
        os.environ.pop("POOLED") if before is None else os.environ.__setitem__("POOLED", before)
    return names["DATABASES"]["default"]


def _worker(project: Project, database: dict[str, Any]) -> Running:
    return project.start("meanwhile", "worker", "--lease", str(LEASE), MEANWHILE_TEST_DB=json.dumps(database))


def _enqueue(project: Project, database: dict[str, Any]) -> None:
    """Enqueue from a process whose only way to the database is that one, as a web process would."""
    code = (
        "from tests.project.tasks import add, nothing_async, nothing_process, write_mark\n"
        "from tests.project.models import Mark\n"
        "add.enqueue(1, 2); nothing_async.enqueue(); nothing_process.enqueue(); write_mark.enqueue('through')\n"
        "Mark.objects.bulk_create(Mark(text='') for _ in range(300))\n"
        "assert len(list(Mark.objects.filter(text='').iterator(chunk_size=50))) in {300, 600}"
    )
    kept = project.database
    project.database = database
    project.python(code)
    project.database = kept


def _successful(project: Project) -> int:
    return project.sql("SELECT count(*) FROM meanwhile_job WHERE state = 4")[0][0]


def _renewals(project: Project) -> set[Any]:
    return {row[0] for row in project.sql("SELECT lease_until FROM meanwhile_worker WHERE dead_at IS NULL")}


def _listening(project: Project) -> int:
    statement = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' AND datname = %s"
    return project.sql(statement, (project.database["NAME"],))[0][0]


def test_the_page_tells_the_two_ways_apart() -> None:
    """POOLED chooses port and cursors together: pgbouncer's port without cursors, PostgreSQL's with them."""
    pooled, direct = _settings("yes"), _settings("no")
    assert (pooled["PORT"], pooled["DISABLE_SERVER_SIDE_CURSORS"]) == (6432, True)
    assert (direct["PORT"], direct["DISABLE_SERVER_SIDE_CURSORS"]) == (5432, False)
    assert "listen_port = 6432" in INI
    assert "Environment=POOLED=no" in PAGE.text


@pytest.mark.slow
def test_a_worker_runs_jobs_behind_pgbouncer(project: Project, pooler: Pooler) -> None:
    """With the page's file and settings jobs of every executor run, leases are renewed, and a restart is survived."""
    pooler.start()
    worker = _worker(project, _through(project, pooler, "mysite_worker"))
    _enqueue(project, _through(project, pooler, "mysite"))
    eventually(lambda: _successful(project) == 4, within=30, what="four jobs have run")
    before = _renewals(project)
    eventually(lambda: _renewals(project).isdisjoint(before), what="every lease was renewed")
    pools = {pool["database"]: pool for pool in pooler.admin("SHOW POOLS")}
    assert pools["mysite_worker"]["cl_active"] > pools["mysite_worker"]["sv_idle"] + pools["mysite_worker"]["sv_active"]
    assert "could not be renewed" not in worker.log

    pooler.close()
    pooler.start()
    _enqueue(project, _through(project, pooler, "mysite"))
    eventually(lambda: _successful(project) == 8, within=30, what="jobs go on after a restart of pgbouncer")
    assert worker.stop() == 0, worker.log


@pytest.mark.slow
def test_without_the_line_the_worker_says_so(project: Project, pooler: Pooler) -> None:
    """Without `ignore_startup_parameters` no lease is renewed, and the log holds what the page's table says."""
    del pooler.ini["pgbouncer"]["ignore_startup_parameters"]
    pooler.start()
    worker = _worker(project, _through(project, pooler, "mysite_worker"))
    log = worker.wait_for("the leases could not be renewed")
    assert "unsupported startup parameter: options" in log


@pytest.mark.slow
def test_a_worker_past_pgbouncer_is_woken_through_it(project: Project, pooler: Pooler) -> None:
    """A NOTIFY passes pgbouncer: a worker that connects directly starts a job long before its poll is due."""
    pooler.start()
    project.meanwhile = {"POLL": 60}
    worker = _worker(project, project.database)
    eventually(lambda: _listening(project) == 1, what="the worker listens")
    children = "SELECT count(*) FROM meanwhile_worker"
    eventually(lambda: project.sql(children) == [(3,)], what="its children are there")
    _enqueue(project, _through(project, pooler, "mysite"))
    eventually(lambda: _successful(project) == 4, within=30, what="four jobs have run")
    assert worker.stop() == 0, worker.log
