"""What only PostgreSQL's store has to see to: binding, isolation, and the connection of a worker."""

import pytest
from django.db import OperationalError, connections
from django.db.backends.postgresql.psycopg_any import IsolationLevel

from django_meanwhile.connections import use_service_connection
from django_meanwhile.core.job import Progress
from django_meanwhile.core.outcome import End
from django_meanwhile.core.states import JobState
from tests.store.scene import on_postgresql, runs, succeeded

pytestmark = on_postgresql

BINDING = {
    "on the client": {},
    "on the server": {"server_side_binding": True},
    "on the server, prepared": {"server_side_binding": True, "prepare_threshold": 0},
}


@pytest.mark.parametrize("options", BINDING.values(), ids=BINDING)
def test_every_verb_works_with_either_way_to_bind(scene, store, options):
    """Each parameter has a cast: the server needs no guess, also where all values of a column are NULL."""

    def life():
        worker, other = scene.worker(), scene.worker()
        for _ in range(2):  # the second time from a prepared statement
            jobs = scene.running(3, worker)
            scene.enqueue(2, delay=5)
            scene.enqueue(2, due_at=store.now())
            assert len(scene.claim(worker, 1)) + len(scene.claim(worker, 1, ["default", "x"])) == 2
            assert scene.claim(worker, 1, suspects=True) == scene.claim(worker, 1, ["x"], suspects=True) == []
            assert len(store.write_progress([Progress(run=run, progress="[1]") for run in runs(jobs)])) == 3
            assert store.cancel([jobs[0].id]) == {jobs[0].id: JobState.RUNNING}
            assert store.cancel_requests([worker]) == [(worker, jobs[0].run)]
            assert len(store.held(worker)) >= 3
            assert len(store.finish(succeeded(jobs[:2]))) == 2
            assert scene.end(jobs[2], End.FAILED, retry_in=1.5) is JobState.SCHEDULED
            assert len(store.recorded(runs(jobs))) == 3
            assert store.retry([jobs[0].id]) == {jobs[0].id}
            assert scene.at(10).promote() != {}
            assert store.suspects([], 5) == store.suspects(["x"], 5) == 0
            assert store.renew([worker], 30) == {worker}
            assert store.depths()
            assert len(store.workers()) == len(store.leases()) == 2
            assert scene.at(10).prune(JobState.SUCCESSFUL, 5) == 1
        scene.lapse(other)
        assert store.kill([other]) == {other}
        store.bury([worker])
        assert store.orphans()
        store.unregister([other])
        assert scene.at(10).prune_workers(5) == 0
        store.notify(["default"])

    with scene.actors(1) as (actor,):
        actor.do(use_service_connection, scene.alias, store.connection_options() | options)
        actor.do(life)


def test_workers_read_committed_whatever_the_project_does(scene, store, monkeypatch):
    """The guards look again after a wait; under a snapshot they could not."""
    given = {"isolation_level": IsolationLevel.SERIALIZABLE, "keepalives_idle": 60}
    monkeypatch.setitem(connections[scene.alias].settings_dict, "OPTIONS", given)
    options = store.connection_options()
    assert options["isolation_level"] == IsolationLevel.READ_COMMITTED
    assert options["keepalives_idle"] == 60  # what the project chose stays

    def isolation():
        with connections[scene.alias].cursor() as cursor:
            cursor.execute("SHOW transaction_isolation")
            return cursor.fetchone()[0]

    with scene.actors(1) as (actor,):
        actor.begin()
        assert actor.do(isolation) == "read committed"


def test_a_wakeup_of_many_queues_is_one_statement(scene, store):
    """Each name once; no name, no statement."""
    said = []

    def count(execute, sql, params, many, context):
        said.append(params["queues"])
        return execute(sql, params, many, context)

    with connections[scene.alias].execute_wrapper(count):
        store.notify(iter(["a", "b", "a"]))
        store.notify([])
    assert said == [["a", "b"]]


def test_the_beats_connection_gives_up_before_the_next_beat(scene, store, monkeypatch):
    """A server that does not answer costs one beat, not the lease; what the project set stays set."""
    given = {"options": "-c work_mem=7MB"}
    monkeypatch.setitem(connections[scene.alias].settings_dict, "OPTIONS", given)

    def shown():
        with connections[scene.alias].cursor() as cursor:
            cursor.execute("SELECT current_setting('statement_timeout'), current_setting('work_mem')")
            return cursor.fetchone()

    with scene.actors(1) as (actor,):
        actor.do(use_service_connection, scene.alias, {**store.connection_options(), **store.beat_options(2.5)})
        assert actor.do(shown) == ("1250ms", "7MB")
        with pytest.raises(OperationalError, match="timeout"):
            actor.do(_sleep, scene.alias, 10)


def _sleep(alias, seconds):
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])
