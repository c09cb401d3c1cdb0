"""Every way in which a run can end, in real workers."""

import json
import time

import pytest

from tests.playground import Project, Running, eventually

from .harness import CALM, FAST, all_ended, attempts, enqueue, job, said, start_worker, truth

ALL = ("--threads=4", "--coroutines=8", "--processes=2")
RUNNING, SUCCESSFUL, FAILED, CANCELLED, QUARANTINED = 3, 4, 5, 6, 7


@pytest.fixture
def worker(project: Project) -> Running:
    """A worker with every executor."""
    project.meanwhile = CALM
    return start_worker(project, *ALL)


def ended(project: Project, job_id: str, within: float = 30) -> dict[str, object]:
    """Wait for the end of a job; return its row."""
    return eventually(lambda: (row := job(project, job_id))["state"] >= SUCCESSFUL and row, within=within, what=job_id)


def test_each_executor_records_results(project: Project, worker: Running) -> None:
    """A return value of a thread, a coroutine and a process comes back as it was."""
    calls = ["add.enqueue(2, 3)", "pause_async.enqueue('x')", "pause_process.enqueue('y')"]
    ids = enqueue(project, *calls)
    rows = [ended(project, job_id) for job_id in ids]
    assert [json.loads(row["result"]) for row in rows] == [5, "x", "y"]
    assert [row["attempts"] for row in rows] == [1, 1, 1]


def test_failures_of_every_kind_end_the_job_with_a_reason(project: Project, worker: Running) -> None:
    """Exceptions, SystemExit and unserialisable results are failed attempts; the job never stays RUNNING."""
    ids = enqueue(
        project, "fails.enqueue()", "unserialisable.enqueue()", "exits.enqueue()", "fails.enqueue('\\x1b[31m')"
    )
    for job_id in ids:
        assert ended(project, job_id)["state"] == FAILED
    kinds = [attempts(project, job_id)[0] for job_id in ids]
    assert [exception for _kind, exception, _detail in kinds] == [
        "builtins.ValueError",
        "django_meanwhile.core.errors.EncodingError",
        "builtins.SystemExit",
        "builtins.ValueError",
    ]
    assert "no luck" in kinds[0][2]
    assert worker.is_running()


def test_retries_follow_the_policy(project: Project, worker: Running) -> None:
    """A task is run again until it succeeds or max_attempts is used up; each failed attempt keeps its traceback."""
    first, second = enqueue(project, "fails_until.enqueue('r', 3)", "asks_to_be_retried.enqueue('s')")
    assert ended(project, first)["state"] == SUCCESSFUL
    assert job(project, first)["attempts"] == 3
    assert [detail.splitlines()[-1] for _, _, detail in attempts(project, first)] == [
        "RuntimeError: attempt 1",
        "RuntimeError: attempt 2",
    ]
    assert ended(project, second)["state"] == FAILED
    assert len(attempts(project, second)) == 2


@pytest.mark.alone
def test_a_running_job_of_each_executor_is_cancelled_within_a_second_and_a_half(
    project: Project, worker: Running
) -> None:
    """A cancel reaches thread, coroutine and process bodies within 1.5 s, and is their recorded end."""
    calls = ["listen.enqueue('thread')", "pause_async.enqueue('async', 60)", "pause_process.enqueue('process', 60)"]
    ids = enqueue(project, *calls)
    for key in ("thread", "async", "process"):
        eventually(lambda key=key: said(project, "begin", key))
    code = "import time\nfrom tests.project.tasks import *\n"
    code += "".join(f"nothing.get_backend().get_result({job_id!r}).cancel()\n" for job_id in ids)
    code += "print(time.monotonic())"
    asked_at = float(project.python(code).stdout)
    for job_id in ids:
        assert ended(project, job_id)["state"] == CANCELLED
        assert attempts(project, job_id)[0][1].endswith(".Cancelled")
    heard = {line.key: line.at for line in truth(project) if line.word == "end"}
    assert heard["thread"] - asked_at <= 1.5
    assert time.monotonic() - asked_at <= 3


def test_a_cancel_before_the_body_begins_is_not_lost(project: Project, worker: Running) -> None:
    """A job that is cancelled while its module is still being imported ends as CANCELLED soon after it began."""
    code = "from tests.project.late import listen_late\nprint(listen_late.enqueue().id)"
    job_id = project.python(code).stdout.split()[-1]
    eventually(lambda: job(project, job_id)["state"] == RUNNING)
    project.manage("meanwhile", "cancel", "--yes", job_id)
    assert ended(project, job_id)["state"] == CANCELLED


@pytest.mark.alone
def test_a_catastrophic_regular_expression_is_stopped_by_the_supervisor(project: Project) -> None:
    """A body that holds the GIL is ended at its timeout from outside; it is a TaskTimeout, its neighbour runs again."""
    project.meanwhile = FAST | {"LEASE": 12, "BEAT": 3}
    worker = start_worker(project, "--threads=4", "--coroutines=0", "--processes=0")
    regex, neighbour = enqueue(project, "catastrophic.enqueue('re')", "pause.enqueue('n', 3)")
    begun = eventually(lambda: said(project, "begin", "re"))[0]
    row = ended(project, regex)
    assert time.monotonic() - begun.at <= 5 + 3
    assert (row["state"], row["attempts"]) == (FAILED, 1)
    kind, exception, detail = attempts(project, regex)[0]
    assert (kind, exception.rpartition(".")[2]) == ("failed", "TaskTimeout")
    assert "tasks.py" in detail, "the stack of the stuck body is shown"
    assert ended(project, neighbour)["state"] == SUCCESSFUL
    assert worker.is_running()


def test_a_child_without_a_pulse_is_killed_and_the_culprit_found(project: Project) -> None:
    """With a lease shorter than its timeout, the body that starves its child ends up alone, and timed out there."""
    project.meanwhile = FAST
    worker = start_worker(project, *ALL)
    regex, neighbour = enqueue(project, "catastrophic.enqueue('re')", "pause.enqueue('n', 3)")
    row = ended(project, regex, within=40)
    assert (row["state"], row["deaths"], row["crashes"]) == (FAILED, 2, 0)
    assert attempts(project, regex)[-1][1].endswith("TaskTimeout")
    assert ended(project, neighbour, within=40)["state"] == SUCCESSFUL
    assert worker.is_running()


def test_a_blocked_c_call_is_written_off_and_its_child_recycled(project: Project, worker: Running) -> None:
    """A thread that does not heed its timeout blocks no slot for others, and is over when its process is gone."""
    ids = enqueue(project, *[f"deaf.enqueue('d{n}', 60)" for n in range(4)])
    for n in range(4):
        eventually(lambda n=n: said(project, "begin", f"d{n}"))
    (quick,) = enqueue(project, "add.enqueue(1, 1)")
    assert ended(project, quick)["state"] == SUCCESSFUL, "all slots were stuck"
    for job_id in ids:
        row = ended(project, job_id, within=30)
        assert row["state"] == FAILED
        assert attempts(project, job_id)[0][1].endswith("TaskTimeout")
    assert not [line for line in truth(project) if line.word == "end"]


def test_a_swallowed_cancellation_is_written_off(project: Project, worker: Running) -> None:
    """A coroutine that swallows its cancellation ends as TaskTimeout once it is over."""
    (job_id,) = enqueue(project, "swallows_cancellation.enqueue('s', 3)")
    assert ended(project, job_id)["state"] == FAILED
    assert attempts(project, job_id)[0][1].endswith("TaskTimeout")
    assert said(project, "end", "s"), "it was not retried or recorded before its body ended"


def test_a_process_that_heeds_nothing_is_killed(project: Project, worker: Running) -> None:
    """A process body that swallows its timeout is killed and recorded as TaskTimeout."""
    (job_id,) = enqueue(project, "deaf_process.enqueue('p', 60)")
    assert ended(project, job_id)["state"] == FAILED
    assert attempts(project, job_id)[0][1].endswith("TaskTimeout")
    assert not said(project, "end", "p")


def test_poison_is_quarantined(project: Project, worker: Running) -> None:
    """A job that kills its process is quarantined after three deaths alone, five at most; others live on."""
    process, thread, fine = enqueue(
        project, "kills_its_process.enqueue('p')", "kills_its_thread_process.enqueue('t')", "pause.enqueue('ok', 1)"
    )
    assert ended(project, process, within=60)["state"] == QUARANTINED
    assert ended(project, thread, within=60)["state"] == QUARANTINED
    assert ended(project, fine, within=60)["state"] == SUCCESSFUL
    begun = [line.key for line in truth(project) if line.word == "begin"]
    assert begun.count("p") == 3
    assert 3 <= begun.count("t") <= 5
    assert "SIGKILL" in attempts(project, process)[-1][2]


def test_on_crash_fail_is_never_run_again(project: Project, worker: Running) -> None:
    """A task that must not be repeated is FAILED by the death of its process."""
    (job_id,) = enqueue(project, "charge_card.enqueue('c')")
    assert ended(project, job_id)["state"] == FAILED
    assert len([line for line in truth(project) if line.word == "begin"]) == 1


def test_progress_is_seen_while_the_job_runs(project: Project, worker: Running) -> None:
    """Progress of a running job is in its row before its end; the last value stays."""
    (job_id,) = enqueue(project, "report_progress.enqueue('p', 20, 8)")
    seen = eventually(lambda: (row := job(project, job_id))["progress"] and row)
    assert seen["state"] == 3
    assert 0 < json.loads(seen["progress"])["n"] < 20
    assert json.loads(ended(project, job_id)["progress"])["n"] == 20


def test_a_job_leaves_nothing_behind_for_the_next(project: Project) -> None:
    """Language, time zone, transaction and query log of one job are not there in the next one on its slot."""
    project.meanwhile = CALM
    worker = start_worker(project, "--threads=1", "--coroutines=0", "--processes=0")
    mess, after = enqueue(project, "leaves_a_mess.enqueue()", "surroundings.enqueue()")
    assert ended(project, mess)["state"] == SUCCESSFUL
    ended(project, after)
    found = json.loads(job(project, after)["result"])
    assert (found["language"], found["time_zone"]) == ("en-us", "America/Chicago")
    assert (found["in_transaction"], found["queries"]) == (False, 0)
    assert project.sql("SELECT count(*) FROM project_mark")[0][0] == 0
    assert worker.stop() == 0


def test_the_enqueuers_language_and_time_zone_reach_the_body(project: Project, worker: Running) -> None:
    """A job runs under the language and the time zone that were active where it was enqueued."""
    code = """
from django.utils import timezone, translation
from tests.project.tasks import surroundings
with translation.override("fr"), timezone.override("Europe/Paris"):
    print(surroundings.enqueue().id)
"""
    job_id = project.python(code).stdout.split()[-1]
    ended(project, job_id)
    found = json.loads(job(project, job_id)["result"])
    assert (found["language"], found["time_zone"]) == ("fr", "Europe/Paris")


def test_drain_runs_what_is_due_and_ends(project: Project) -> None:
    """``--drain`` ends with status 0 once nothing is due."""
    project.meanwhile = CALM
    enqueue(project, *[f"pause.enqueue('{n}', 0.05)" for n in range(20)])
    assert project.start("meanwhile", "worker", "--drain", "--threads=2", "--processes=0").wait() == 0
    assert all_ended(project)
    assert len([line for line in truth(project) if line.word == "end"]) == 20


def test_a_backend_that_was_renamed_loses_no_job(project: Project) -> None:
    """Jobs that were enqueued under another name of the backend run all the same, and can be read."""
    project.meanwhile = CALM
    ids = enqueue(project, "pause.enqueue('thread')", "pause_process.enqueue('process')", "fails_until.enqueue('r', 2)")
    project.sql("UPDATE meanwhile_job SET backend = 'renamed'")
    project.manage("meanwhile", "worker", "--drain", "--threads=1", "--processes=1", "--coroutines=0")
    eventually(lambda: all_ended(project) or project.manage("meanwhile", "worker", "--drain"), within=30)
    read = f"print([nothing.get_backend().get_result(i).state.name for i in {ids}])"
    output = project.python(f"from tests.project.tasks import nothing\n{read}").stdout
    assert output.strip() == "['SUCCESSFUL', 'SUCCESSFUL', 'SUCCESSFUL']"
