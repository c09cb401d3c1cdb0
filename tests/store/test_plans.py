"""How the statements read: by index, in a table of 20,000 jobs, so that a backlog slows nobody down."""

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections

from django_meanwhile.core.job import Progress
from django_meanwhile.core.outcome import End
from django_meanwhile.core.states import Executor, JobState
from django_meanwhile.models import Job
from tests.store.scene import Scene, decision, on_postgresql, on_sqlite, runs


def fill(scene: Scene) -> list:
    """Make a past of 12,000 jobs, 8,000 that wait, and, after the statistics were taken, 500 that run."""
    draw = random.Random(1)
    for state in (JobState.SUCCESSFUL, JobState.FAILED, JobState.SUCCESSFUL):
        scene.store.enqueue([scene.new(queue="past") for _ in range(4000)])
        past = Job.objects.using(scene.alias).filter(queue="past", state=JobState.READY)
        past.update(state=state, finished_at=scene.at(-100).now())
    waiting = [
        scene.new(
            queue=f"q{number % 5}",
            executor=draw.choice(list(Executor)),
            rank=draw.choice([0, 0, 10, -10]),
            delay=draw.choice([None, None, None, 60 + number]),
        )
        for number in range(8000)
    ]
    scene.store.enqueue(waiting)
    with connections[scene.alias].cursor() as cursor:
        cursor.execute("ANALYZE")
    return scene.running(500, scene.worker(lease=3600))


@contextmanager
def plans(scene: Scene) -> Iterator[list[str]]:
    """Collect, for every statement that is run, how the database would read for it."""
    found: list[str] = []
    explain = "EXPLAIN " if scene.store.vendor == "postgresql" else "EXPLAIN QUERY PLAN "

    def look(execute, sql, params, many, context):
        if re.match(r"\s*(WITH|SELECT|UPDATE|DELETE)", sql):
            cursor = context["cursor"].cursor  # the one below Django's wrapper, which would call us again
            cursor.execute(explain + sql, params)
            found.append("\n".join(str(row[-1]) for row in cursor.fetchall()))
        return execute(sql, params, many, context)

    with connections[scene.alias].execute_wrapper(look):
        yield found


def read(scene: Scene) -> dict[str, str]:
    """Run every verb that is called often, or on much; return the plans of each."""
    running = fill(scene)
    store, worker = scene.store, running[0].worker_id
    thread, ahead = Executor.THREAD, scene.at(9000)
    half = running[:20]
    verbs = {
        "claim from one queue": lambda: store.claim(worker, thread, ["q1"], 10),
        "claim from several": lambda: store.claim(worker, thread, ["q1", "q2", "q3"], 10),
        "claim from every queue": lambda: store.claim(worker, thread, [], 10),
        "claim of suspects": lambda: store.claim(worker, thread, [], 10, suspects=True),
        "idle claim": lambda: store.claim(worker, thread, ["nobody's"], 10),
        "progress": lambda: store.write_progress([Progress(run=run, progress="1") for run in runs(half)]),
        "cancel": lambda: store.cancel(job.id for job in running[20:40]),
        "finish": lambda: store.finish([decision(job, End.FAILED, retry_in=0.0) for job in half]),
        "recorded": lambda: store.recorded(runs(half)),
        "held": lambda: store.held(worker),
        "cancel requests": lambda: store.cancel_requests([worker]),
        "orphans": store.orphans,
        "promote": lambda: ahead.promote(20),
        "prune": lambda: store.prune(JobState.SUCCESSFUL, 50, 20),
        "suspects": lambda: store.suspects(["q1"], 10),
        "depths": lambda: store.depths(100),
    }
    found = {}
    for name, verb in verbs.items():
        with plans(scene) as seen:
            verb()
        assert seen, name
        found[name] = "\n\n".join(seen)
    return found


@on_postgresql
def test_postgresql_reads_jobs_by_index_only(scene):
    """No verb reads the whole table of jobs, and a claim from one queue sorts nothing."""
    found = read(scene)
    wrong = {name: plan for name, plan in found.items() if "Seq Scan on meanwhile_job" in plan}
    assert not wrong, "\n\n".join(f"{name}:\n{plan}" for name, plan in wrong.items())
    for name in ("claim from one queue", "claim from several", "claim from every queue", "idle claim"):
        assert "meanwhile_claim" in found[name], found[name]
    assert "Sort" not in found["claim from one queue"], found["claim from one queue"]
    assert "using meanwhile_suspect" in found["claim of suspects"], found["claim of suspects"]
    assert "meanwhile_due" in found["promote"], found["promote"]
    assert "meanwhile_prune" in found["prune"], found["prune"]
    assert "meanwhile_running" in found["orphans"], found["orphans"]


@on_postgresql
def test_postgresql_finds_the_rows_of_a_batch_by_their_ids(scene):
    """Statistics that say "nobody runs" never make it look for each of a batch among all that run."""
    found = read(scene)
    for name in ("finish", "progress", "cancel"):
        assert "meanwhile_job_pkey" in found[name], found[name]
        assert "meanwhile_running" not in found[name], found[name]


@on_sqlite
def test_sqlite_reads_jobs_by_index_only(scene):
    """No verb scans the table of jobs; what is scanned is an index, up to a limit."""
    found = read(scene)
    whole = re.compile(r"SCAN (meanwhile_job|j|n)\b(?!.* USING )")
    wrong = {name: plan for name, plan in found.items() if whole.search(plan)}
    assert not wrong, "\n\n".join(f"{name}:\n{plan}" for name, plan in wrong.items())
    for name in ("claim from one queue", "claim from several", "claim from every queue", "idle claim"):
        assert "meanwhile_claim (queue=? AND executor=?)" in found[name], found[name]
    assert "meanwhile_suspect" in found["claim of suspects"], found["claim of suspects"]
    assert "meanwhile_due (due_at<?)" in found["promote"], found["promote"]
    assert "meanwhile_prune (state=? AND finished_at<?)" in found["prune"], found["prune"]
    assert "meanwhile_running" in found["orphans"], found["orphans"]
    for name in ("finish", "progress", "cancel"):
        assert "meanwhile_running" not in found[name], found[name]
