"""The database goes away and comes back: no worker exits, nothing is lost."""

import contextlib
import time

import pytest

from tests.playground import Project, eventually
from tests.servers import OwnServer

from .harness import FAST, all_ended, audit_endings, enqueue, recorded_twice, start_worker, states, truth

ALL = ("--threads=4", "--coroutines=8", "--processes=1")
LOAD = "*pause.enqueue_many([(str(n), 0.05) for n in range(400)])"


@pytest.fixture
def pg_project(playground, private_postgresql: OwnServer, tmp_path):
    """A project on a PostgreSQL of its own, which may be restarted."""
    with playground.project("postgresql", tmp_path, migrated=False) as project:
        project.database = private_postgresql.settings_dict(private_postgresql.create_database())
        project.meanwhile = FAST
        project.migrate()
        yield project
        project.kill_everything()


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_postgresql_restarted_under_load(pg_project: Project, private_postgresql: OwnServer, mode: str) -> None:
    """PostgreSQL is restarted twice under load: the worker stays, every job ends once."""
    audit_endings(pg_project)
    worker = start_worker(pg_project, *ALL)
    enqueue(pg_project, LOAD)
    for round_ in (1, 2):
        eventually(lambda round_=round_: len(truth(pg_project)) > 120 * round_)
        private_postgresql.restart(mode)
    eventually(lambda: all_ended(pg_project), within=60)
    assert states(pg_project) == {4: 400}
    assert recorded_twice(pg_project) == []
    assert worker.is_running()
    assert worker.stop() == 0


def test_postgresql_away_for_longer_than_a_lease(pg_project: Project, private_postgresql: OwnServer) -> None:
    """An outage past the lease fences the children; the worker stays and everything ends once it is back."""
    audit_endings(pg_project)
    worker = start_worker(pg_project, *ALL)
    enqueue(pg_project, LOAD)
    eventually(lambda: len(truth(pg_project)) > 100)
    private_postgresql.stop("immediate")
    worker.wait_for("lease could not be renewed")
    private_postgresql.start()
    eventually(lambda: all_ended(pg_project), within=60)
    assert states(pg_project) == {4: 400}
    assert recorded_twice(pg_project) == []
    assert worker.is_running()
    assert worker.stop() == 0


def test_connections_cut_under_load(pg_project: Project, private_postgresql: OwnServer) -> None:
    """Every connection is cut five times under load: the worker stays, every job ends once."""
    audit_endings(pg_project)
    worker = start_worker(pg_project, *ALL)
    enqueue(pg_project, LOAD)
    for round_ in range(1, 6):
        eventually(lambda round_=round_: len(truth(pg_project)) > 60 * round_)
        private_postgresql.disconnect_everybody(pg_project.database["NAME"])
    eventually(lambda: all_ended(pg_project), within=60)
    assert states(pg_project) == {4: 400}
    assert recorded_twice(pg_project) == []
    assert worker.is_running()
    assert worker.stop() == 0


def test_sqlite_write_locked_for_three_seconds(playground, tmp_path) -> None:
    """Another process holds SQLite's write lock for 3 s, longer than a lease: nobody is fenced, nothing is lost."""
    with playground.project("sqlite", tmp_path, migrated=True) as project:
        project.meanwhile = FAST
        audit_endings(project)
        worker = start_worker(project, *ALL)
        enqueue(project, "*pause.enqueue_many([(str(n), 0.05) for n in range(200)])")
        eventually(lambda: len(truth(project)) > 60)
        with contextlib.closing(project.connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(3)  # the outage itself
            connection.execute("ROLLBACK")
        eventually(lambda: all_ended(project), within=60)
        assert states(project) == {4: 200}
        assert recorded_twice(project) == []
        assert project.sql("SELECT count(*) FROM meanwhile_attempt") == [(0,)], "somebody was fenced"
        assert worker.is_running()
        assert worker.stop() == 0
