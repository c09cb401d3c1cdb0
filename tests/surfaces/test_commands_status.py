"""``meanwhile status``: queues, workers, what is wrong, and an exit status for probes."""

import json
import uuid

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from django_meanwhile.core.states import JobState
from django_meanwhile.management import snapshot
from django_meanwhile.store import get_store

from .conftest import BACKEND
from .rows import HOUR_AND_A_HALF, ago


def test_an_empty_queue_is_all_right(meanwhile, backend):
    """Nothing waits, nobody works: status 0."""
    ran = meanwhile("status")
    assert ran.status == 0
    assert "No job waits or runs." in ran.out
    assert "No worker lives." in ran.out
    assert ran.out.endswith("\nFailed in the last day: 0\n\nNothing is wrong: there is no job that needs a worker.\n")


def test_nothing_is_wrong_says_whether_a_worker_is_needed(meanwhile, rows):
    """Without a worker, work that will be due needs one, and that is no alarm yet; with one it is just all right."""
    rows.job(JobState.SCHEDULED)
    ran = meanwhile("status")
    assert (ran.status, ran.out.splitlines()[-1]) == (
        0,
        "Nothing is wrong yet, but the jobs above will need a worker.",
    )
    rows.worker()
    assert meanwhile("status").out.endswith("\n\nNothing is wrong.\n")


def test_what_failed_today_is_counted_and_is_not_wrong(meanwhile, rows):
    """Jobs that failed within the last day, with the command that lists them; the status stays 0."""
    rows.worker()
    rows.job(JobState.FAILED, finished_at=ago(90_000))
    rows.job(JobState.CANCELLED)
    assert "\nFailed in the last day: 0\n" in meanwhile("status").out
    rows.job(JobState.FAILED, finished_at=ago(80_000))
    rows.job(JobState.FAILED)
    ran = meanwhile("status")
    assert ran.status == 0
    command = "manage.py meanwhile list --state failed --since 1d"
    assert f"\nFailed in the last day: 2 ({command})\n" in ran.out
    assert meanwhile(*command.split()[2:]).out.count(" FAILED ") == 2
    (database,) = json.loads(meanwhile("status", "--json").out)["databases"]
    assert (database["failed_last_day"], database["quarantined_last_day"]) == (2, 0)


def test_what_was_quarantined_stands_beside_what_failed(meanwhile, rows):
    """One command lists both; where only the one kind is there, it names only that."""
    rows.job(JobState.QUARANTINED)
    said = "Failed in the last day: 0, quarantined in the last day: 1 (manage.py meanwhile list --state {} --since 1d)"
    assert said.format("quarantined") in meanwhile("status").out
    rows.job(JobState.FAILED)
    assert said.replace(": 0", ": 1").format("failed,quarantined") in meanwhile("status").out
    (database,) = json.loads(meanwhile("status", "--json").out)["databases"]
    assert (database["failed_last_day"], database["quarantined_last_day"]) == (1, 1)


def test_it_shows_queues_workers_and_what_they_run(meanwhile, rows):
    """Depths per queue and executor, each living worker with its lease, and its jobs; all served: status 0."""
    worker = rows.worker(queues="mail,default")
    began = ago(HOUR_AND_A_HALF)
    job = rows.job(JobState.RUNNING, worker_id=worker.pk, task="shop.tasks.long", attempted_at=began)
    rows.job(enqueued_at=ago(240))
    rows.job(queue="mail", enqueued_at=ago(120))
    rows.job(JobState.SCHEDULED, queue="mail")
    rows.job(JobState.SUCCESSFUL)
    ran = meanwhile("status")
    assert ran.status == 0, ran.out
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert "QUEUE EXECUTOR READY SCHEDULED RUNNING SUSPECTS OLDEST READY" in lines
    (default,) = [line for line in lines if line.startswith("default thread")]
    assert default.startswith("default thread 1 0 1 0 4 min")
    (mail,) = [line for line in lines if line.startswith("mail thread")]
    assert mail.startswith("mail thread 1 1 0 0 2 min")
    (living,) = [line for line in lines if line.startswith("shared web1")]
    assert living.startswith("shared web1 4711 mail,default thread,asyncio 108 1 ")
    assert any(line.startswith(f"{job.pk} shop.tasks.long 1 h 30 min") for line in lines)


def test_dead_workers_are_not_shown_as_living(meanwhile, rows):
    """A worker that was declared dead, or whose lease ran out, does not live."""
    rows.worker(dead_at=ago(5), host="dead1")
    rows.worker(lease=-5, host="expired1")
    out = meanwhile("status").out
    assert "No worker lives." in out
    assert "dead1" not in out
    assert "expired1" not in out


def _wrong(meanwhile, *flags):
    ran = meanwhile("status", "--json", *flags)
    report = json.loads(ran.out)
    problems = [problem for database in report["databases"] for problem in database["problems"]]
    assert ran.status == int(bool(problems))
    assert report["healthy"] is not bool(problems)
    return {problem["code"] for problem in problems}


def test_due_work_that_nobody_takes_is_wrong(meanwhile, rows):
    """A ready job without a worker of its queue: status 1, and the command to run."""
    rows.worker(queues="mail")
    rows.job(queue="reports", executor="process")
    ran = meanwhile("status")
    assert ran.status == 1
    assert 'Nobody works queue "reports", executor process: 1 job due' in ran.out
    assert "Run: manage.py meanwhile worker --queues reports --processes 2" in ran.out
    assert _wrong(meanwhile) == {"queue-without-worker"}


def test_scheduled_work_without_any_worker_is_wrong_once_it_is_due(meanwhile, rows):
    """A job whose time is long past and that nobody promoted is due work; one whose time will come is not."""
    rows.job(JobState.SCHEDULED)
    assert _wrong(meanwhile) == set()
    rows.job(JobState.SCHEDULED, due_at=ago(600))
    assert _wrong(meanwhile) == {"queue-without-worker"}


def test_jobs_of_workers_that_are_gone_are_wrong_after_a_sweep(meanwhile, rows):
    """Running on a row that expired long ago, was declared dead, or is missing."""
    rows.worker()
    fresh = rows.worker(lease=-1)
    rows.job(JobState.RUNNING, worker_id=fresh.pk)
    assert _wrong(meanwhile) == set()
    rows.job(JobState.RUNNING, worker_id=rows.worker(lease=-600, dead_at=ago(500)).pk)
    assert _wrong(meanwhile) == {"jobs-of-dead-workers"}
    rows.job(JobState.RUNNING, worker_id=uuid.uuid4(), attempted_at=ago(600))
    assert "2 jobs RUNNING on workers that are gone" in meanwhile("status").out


def test_max_age_decides_when_a_queue_is_behind(meanwhile, rows):
    """--max-age, five minutes without it."""
    rows.worker()
    rows.job(enqueued_at=ago(200))
    assert _wrong(meanwhile) == set()
    assert _wrong(meanwhile, "--max-age", "2m") == {"ready-too-old"}
    ran = meanwhile("status", "--max-age", "often")
    assert ran.status == 1
    assert "no duration" in ran.err


def test_a_job_that_became_ready_late_is_as_old_as_its_due_time(meanwhile, rows):
    """A job that was scheduled for a minute ago has waited a minute, whenever it was enqueued."""
    rows.worker()
    rows.job(enqueued_at=ago(90_000), due_at=ago(60))
    assert _wrong(meanwhile) == set()


def test_a_task_that_this_code_does_not_have_is_wrong(meanwhile, rows):
    """Waiting jobs of an unknown task are told, with what to do; jobs that ended are not."""
    rows.worker()
    rows.job(JobState.FAILED, task="gone.tasks.old")
    assert _wrong(meanwhile) == set()
    rows.job(JobState.SCHEDULED, task="gone.tasks.older\x1b[31m")
    ran = meanwhile("status")
    assert ran.status == 1
    assert "1 job waiting for a task that this code does not have" in ran.out
    assert "\x1b" not in ran.out
    assert _wrong(meanwhile) == {"unknown-task"}


def test_suspects_and_what_was_quarantined_today_are_wrong(meanwhile, rows):
    """Quarantined for a day, then it is history."""
    rows.worker()
    rows.job(JobState.QUARANTINED, finished_at=ago(90_000))
    assert _wrong(meanwhile) == set()
    rows.job(JobState.QUARANTINED, finished_at=ago(80_000))
    rows.job(suspect=True, deaths=2)
    assert _wrong(meanwhile) == {"quarantined", "suspects-waiting"}


def test_the_json_has_the_keys_that_programs_rely_on(meanwhile, rows):
    """Names and types of the JSON, in full."""
    worker = rows.worker(queues="default")
    job = rows.job(JobState.RUNNING, worker_id=worker.pk)
    rows.job(queue="mail")
    report = json.loads(meanwhile("status", "--json").out)
    assert set(report) == {"healthy", "count_limit", "databases"}
    (database,) = report["databases"]
    assert set(database) == {
        "database", "vendor", "time", "backends", "queues", "failed_last_day", "quarantined_last_day", "workers",
        "problems",
    }  # fmt: skip
    assert database["time"].endswith("Z")
    assert database["backends"] == ["default"]
    for queue in database["queues"]:
        assert set(queue) == {"queue", "executor", "ready", "scheduled", "running", "suspects", "oldest_ready_seconds"}
        assert all(isinstance(queue[key], int) for key in ("ready", "scheduled", "running", "suspects"))
    (shown,) = database["workers"]
    assert set(shown) == {
        "id", "parent_id", "kind", "host", "pid", "queues", "executors", "slots", "lease_left_seconds", "running",
    }  # fmt: skip
    assert shown["queues"] == ["default"]
    assert 25 < shown["lease_left_seconds"] <= 30
    (running,) = shown["running"]
    assert running.pop("seconds") == pytest.approx(20, abs=5)
    assert running == {"id": str(job.pk), "task": job.task, "queue": "default", "cancel_requested": False}
    (problem,) = database["problems"]
    assert {"code", "message", "advice", "queue", "executor", "due"} == set(problem)


def test_counts_stop_at_their_limit_and_the_number_of_queries_does_not_grow(meanwhile, rows, monkeypatch):
    """More jobs than the limit are "or more", and cost no more queries than few."""
    monkeypatch.setattr(snapshot, "LIMIT", 5)
    monkeypatch.setattr("django_meanwhile.management.subcommands.status.LIMIT", 5)
    worker = rows.worker()

    def queries():
        with CaptureQueriesContext(connections[rows.alias]) as captured:
            ran = meanwhile("status")
        return len(captured), ran

    few, _ = queries()
    for _ in range(8):
        rows.job(enqueued_at=ago(1))
        rows.job(JobState.RUNNING, worker_id=worker.pk)
        rows.job(JobState.SUCCESSFUL)
        rows.job(JobState.FAILED)
    many, ran = queries()
    assert " 5+ " in ran.out
    assert "Failed in the last day: 5 or more (" in ran.out
    assert many <= few + 1
    assert many < 20


def test_a_run_that_ended_while_status_looked_is_no_lost_run(rows):
    """A job that ends between the two reads, so that its worker's row is gone, is not reported as running."""
    job = rows.job(JobState.RUNNING, attempted_at=ago(600))
    store = get_store(rows.alias)
    before = snapshot._running(rows.alias, store.now())
    type(job).objects.using(rows.alias).filter(pk=job.pk).update(state=4, worker_id=None, finished_at=ago(0))
    assert [found.id for found in before] == [job.pk]
    assert snapshot._confirmed(rows.alias, before, ()) == ()


@pytest.mark.django_db(databases=["default", "other"])
def test_every_database_of_ours_is_looked_at_once(meanwhile, settings):
    """Two backends on one database make one report, another database another; --backend chooses its database."""
    settings.TASKS = {
        "default": {"BACKEND": BACKEND, "QUEUES": ["default"]},
        "mail": {"BACKEND": BACKEND, "QUEUES": ["mail"]},
        "away": {"BACKEND": BACKEND, "OPTIONS": {"DATABASE": "other"}},
    }

    def reports(*flags):
        report = json.loads(meanwhile("status", "--json", *flags).out)
        return [(entry["database"], entry["backends"]) for entry in report["databases"]]

    assert reports() == [("default", ["default", "mail"]), ("other", ["away"])]
    assert reports("--backend", "away") == [("other", ["away"])]
    assert reports("--backend", "mail") == [("default", ["default", "mail"])]


@pytest.mark.django_db
def test_an_unknown_backend_is_status_2(meanwhile):
    """A probe with a slip of the pen must not look like a queue with a problem."""
    ran = meanwhile("status", "--backend", "defualt")
    assert ran.status == 2
    assert 'Did you mean "default"?' in ran.err


def test_a_database_without_tables_or_without_a_server_is_status_2(bare_project):
    """Not migrated, and not reachable: status 2 and one message, without a traceback."""
    ran = bare_project.manage("meanwhile", "status", check=False)
    assert ran.returncode == 2
    assert "lacks the tables of django_meanwhile. Run: manage.py migrate meanwhile" in ran.stderr
    if bare_project.vendor == "sqlite":
        bare_project.database["NAME"] = "/nonexistent/db.sqlite3"
    else:
        bare_project.database |= {"HOST": "127.0.0.1", "PORT": 9}
    ran = bare_project.manage("meanwhile", "status", check=False)
    assert ran.returncode == 2
    assert "did not answer" in ran.stderr
    assert "Traceback" not in ran.stderr
