"""What a worker holds does not grow with the work: connections, threads, descriptors. And it wakes up quickly."""

import json
import statistics

import psutil
import pytest

from tests.playground import Project, Running, eventually

from .harness import all_ended, children, enqueue, job, said, start_worker, states

MIXED = (
    "*write_mark.enqueue_many([('x',)] * 2000), *write_mark_async.enqueue_many([('x',)] * 2000),"
    "*nothing_process.enqueue_many([()] * 1000)"
)


def footprint(project: Project, worker: Running) -> dict[str, int]:
    """Return threads, descriptors and server connections of the worker and its children."""
    family = [psutil.Process(worker.pid), *children(worker)]
    found = {
        "processes": len(family),
        "threads": sum(process.num_threads() for process in family),
        "descriptors": sum(process.num_fds() for process in family),
    }
    if project.vendor == "postgresql":
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        found["connections"] = project.sql(query)[0][0]
    return found


@pytest.mark.parametrize("pool", [False, True], ids=["plain", "pool"])
def test_nothing_grows_over_five_thousand_jobs(project: Project, pool) -> None:
    """Connections, threads and descriptors are the same after 5,000 jobs, with Django's pool and without."""
    if pool:
        if project.vendor == "sqlite":
            pytest.skip("Django's connection pool is psycopg's; SQLite has none")
        project.database["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 4}}
    worker = start_worker(project, "--threads=4", "--coroutines=8", "--processes=1")
    enqueue(project, *["write_mark.enqueue('warm')"] * 40, *["write_mark_async.enqueue('warm')"] * 40)
    enqueue(project, *["nothing_process.enqueue()"] * 10)
    eventually(lambda: all_ended(project), within=30)
    before = footprint(project, worker)
    enqueue(project, MIXED)
    eventually(lambda: all_ended(project), within=120)
    assert set(states(project)) == {4}
    # Slots that had not queried yet may have opened their one connection since.
    allowed = {"processes": 0, "threads": 2, "descriptors": 16, "connections": 6}
    after = footprint(project, worker)
    grown = {key: after[key] - before[key] for key in before if after[key] > before[key] + allowed[key]}
    assert not grown, (before, after)
    # What `check` announces: supervisor 4, shared child 2 + 4 threads + 1 loop, process child 3.
    assert after.get("connections", 0) <= 4 + (2 + 4 + 1) + 3
    assert worker.stop() == 0


@pytest.mark.alone
def test_an_idle_worker_picks_up_a_job_within_a_tenth_of_a_second(project: Project) -> None:
    """From commit to the first line of the body: at most 100 ms (median of 11), by NOTIFY or ``data_version``."""
    worker = start_worker(project, "--threads=2", "--coroutines=0", "--processes=0")
    code = """
import time
from tests.project.tasks import pause
for n in range(12):
    pause.enqueue(f"k{n}")
    print(time.monotonic(), flush=True)
    time.sleep(0.4)
"""
    sent = [float(line) for line in project.python(code).stdout.split()]
    seen = [eventually(lambda n=n: said(project, "begin", f"k{n}"))[0].at for n in range(12)]
    waits = [begun - sent_at for begun, sent_at in zip(seen, sent, strict=True)][1:]
    assert statistics.median(waits) <= 0.1, waits
    assert worker.stop() == 0


def test_children_drop_djangos_pool(project: Project) -> None:
    """A child keeps one connection a slot; Django's pool, where the project configures it, is not in its settings."""
    if project.vendor == "postgresql":
        project.database["OPTIONS"] = {"pool": True}
    start_worker(project, "--threads=1", "--coroutines=0", "--processes=0")
    (job_id,) = enqueue(project, "surroundings.enqueue()")
    row = eventually(lambda: (r := job(project, job_id))["state"] == 4 and r)
    assert json.loads(row["result"])["pool"] is False
