"""``meanwhile list``: which jobs are there, the newest first, without a walk through history."""

from __future__ import annotations

import json
import re

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from django_meanwhile.core.identifiers import uuid7
from django_meanwhile.core.states import LIVE, AttemptKind, JobState
from django_meanwhile.core.text import describe
from django_meanwhile.management import listing
from django_meanwhile.management.narrowing import by_index, in_states
from django_meanwhile.management.reasons import LONGEST, TAIL, message
from django_meanwhile.management.selection import Filter, narrowed
from django_meanwhile.models import Job
from django_meanwhile.store import get_store

from .conftest import BACKEND
from .rows import HOUR_AND_A_HALF, TASK, Rows, ago


def _jobs(meanwhile, *flags):
    """Return the ids that ``list --json`` prints, and how many more there are."""
    ran = meanwhile("list", "--json", *flags)
    assert ran.status == 0, ran.err
    report = json.loads(ran.out)
    found = [job["id"] for database in report["databases"] for job in database["jobs"]]
    return found, sum(database["more"] for database in report["databases"])


def _ids(*jobs):
    return [str(job.pk) for job in jobs]


# --- which jobs ---------------------------------------------------------------------------------


def test_alone_it_shows_what_went_wrong_today_and_what_has_not_ended(meanwhile, rows):
    """Failed and quarantined jobs of the last day, and live ones of any age; each the newest first; no success."""
    rows.job(JobState.SUCCESSFUL)
    rows.job(JobState.CANCELLED)
    rows.job(JobState.FAILED, finished_at=ago(90_000))
    bad = [rows.job(JobState.QUARANTINED, finished_at=ago(20)), rows.job(JobState.FAILED, finished_at=ago(4000))]
    old = rows.job(enqueued_at=ago(900_000))
    new = [rows.job(state, enqueued_at=ago(number)) for number, state in enumerate(sorted(LIVE), 1)]
    suspect = rows.job(suspect=True, enqueued_at=ago(30))
    assert _jobs(meanwhile) == (_ids(*bad, *new, suspect, old), 0)
    out = meanwhile("list").out
    first, second = out.index("Failed or quarantined, ended within the last 1 d:"), out.index("Scheduled, ready or")
    assert first < out.index(str(bad[1].pk)) < second < out.index(str(new[0].pk))


def test_nothing_is_an_answer(meanwhile, backend):
    """No job: status 0, and it says none."""
    ran = meanwhile("list")
    assert (ran.status, ran.out.count("None.")) == (0, 2)


@pytest.mark.parametrize("state", list(JobState))
def test_a_state_lists_the_jobs_in_it_of_any_age(meanwhile, rows, state):
    """Each state by its name, in any case; suspects are READY."""
    jobs = {each: rows.job(each, enqueued_at=ago(900_000)) for each in JobState}
    Job.objects.using(rows.alias).filter(finished_at__isnull=False).update(finished_at=ago(800_000))
    suspect = rows.job(suspect=True, enqueued_at=ago(950_000))
    expected = _ids(jobs[state], *([suspect] if state is JobState.READY else []))
    assert _jobs(meanwhile, "--state", state.name.title()) == (expected, 0)


def test_several_states_are_apart_by_whether_they_have_ended(meanwhile, rows):
    """Those that ended come first, by their end; then the others, by their enqueue."""
    running = rows.job(JobState.RUNNING, enqueued_at=ago(1))
    failed, successful = (
        rows.job(JobState.FAILED, finished_at=ago(9)),
        rows.job(JobState.SUCCESSFUL, finished_at=ago(8)),
    )
    found, _ = _jobs(meanwhile, "--state", "running, failed,successful,failed")
    assert found == _ids(successful, failed, running)


def test_filters_narrow_down_together(meanwhile, rows):
    """Task, queue and age; --since is about the end of what has ended, and about the enqueue of what has not."""
    fits = {"queue": "mail", "task": "a.b"}
    failed = rows.job(JobState.FAILED, enqueued_at=ago(90_000), finished_at=ago(50), **fits)
    ready = rows.job(enqueued_at=ago(50), **fits)
    for others in ({**fits, "queue": "x"}, {**fits, "task": "a.c"}):
        rows.job(JobState.FAILED, **others)
        rows.job(**others)
    rows.job(JobState.FAILED, finished_at=ago(5000), **fits)
    rows.job(enqueued_at=ago(5000), **fits)
    assert _jobs(meanwhile, "--queue", "mail", "--task", "a.b", "--since", "1h")[0] == _ids(failed, ready)
    assert len(_jobs(meanwhile, "--queue", "mail", "--task", "a.b", "--since", "2h")[0]) == 4


def test_a_running_job_that_was_asked_to_stop_is_listed(meanwhile, rows):
    """It still runs, and the line says that it was asked."""
    job = rows.job(JobState.RUNNING, attempted_at=ago(HOUR_AND_A_HALF), cancel_requested_at=ago(1))
    assert _jobs(meanwhile, "--state", "running") == (_ids(job), 0)
    assert "runs for 1 h 30 min, cancel requested" in meanwhile("list").out


def test_what_is_cut_is_counted_as_far_as_the_limit(meanwhile, rows, monkeypatch):
    """The newest N of each list, over all states in it; the others are a number, and from the limit on "at least"."""
    monkeypatch.setattr(listing, "MORE_LIMIT", 3)
    monkeypatch.setattr("django_meanwhile.management.subcommands.list.MORE_LIMIT", 3)
    jobs = [rows.job([JobState.FAILED, JobState.QUARANTINED][n % 2], finished_at=ago(10 + n)) for n in range(4)]
    assert _jobs(meanwhile, "--limit", "4") == (_ids(*jobs), 0)
    assert _jobs(meanwhile, "--limit", "2") == (_ids(*jobs[:2]), 2)
    assert "... and 2 more\n" in meanwhile("list", "--limit", "2").out
    assert _jobs(meanwhile, "--limit", "1") == (_ids(jobs[0]), 3)
    for job in range(6):
        rows.job([JobState.FAILED, JobState.QUARANTINED][job % 2], finished_at=ago(60))
    assert _jobs(meanwhile, "--limit", "1") == (_ids(jobs[0]), 3)
    assert "... and at least 3 more\n" in meanwhile("list", "--limit", "1").out


def test_a_job_that_moves_on_between_two_queries_is_listed_once(rows, monkeypatch):
    """Each state is a query of its own: what both have seen is one job."""
    job = rows.job()
    monkeypatch.setattr(listing, "by_index", lambda jobs, states: [*by_index(jobs, states)] * 2)
    store = get_store(rows.alias)
    chosen = Filter(states=(JobState.READY,), age="enqueued_at")
    assert [found.id for found in listing.newest(store, chosen, store.now(), 20).jobs] == [job.pk]


@pytest.mark.django_db(databases=["default", "other"])
def test_every_database_of_ours_is_listed_or_the_one_that_is_named(meanwhile, settings):
    """Two databases, two lists; --backend keeps one."""
    settings.TASKS = {"default": {"BACKEND": BACKEND}, "away": {"BACKEND": BACKEND, "OPTIONS": {"DATABASE": "other"}}}
    here, there = Rows("default").job(), Rows("other").job()
    assert _jobs(meanwhile)[0] == _ids(here, there)
    assert _jobs(meanwhile, "--backend", "away")[0] == _ids(there)


# --- what a line says ---------------------------------------------------------------------------


def test_a_line_has_what_one_looks_for_and_an_id_that_the_others_take(meanwhile, rows):
    """Id, state, task, queue, attempts, when; below it why the last run did not succeed, not the one before."""
    job = rows.job(JobState.FAILED, queue="mail", attempts=2, epoch=2, finished_at=ago(HOUR_AND_A_HALF))
    rows.attempt(job, 1)
    rows.attempt(job, 2, exception="shop.errors.Declined", detail="Traceback ...\nshop.errors.Declined: no funds\nmore")
    lines = [" ".join(line.split()) for line in meanwhile("list").out.splitlines()]
    at = lines.index(f"{job.pk} FAILED {TASK} mail 2 ended 1 h 30 min ago")
    assert lines[at - 1] == "JOB STATE TASK QUEUE ATTEMPTS WHEN"
    assert lines[at + 1] == "shop.errors.Declined: no funds"
    assert meanwhile("show", lines[at].split()[0]).status == 0


def test_crashes_and_deaths_stand_beside_the_attempts(meanwhile, rows):
    """A job that killed its worker five times has no attempt to its name, but the line does not say just 0."""
    job = rows.job(JobState.QUARANTINED, attempts=0, crashes=3, deaths=2, epoch=5)
    said = "The process that ran this job is gone: killed.\nExit status: -9."
    rows.attempt(job, 5, kind=AttemptKind.CRASH, exception="django_meanwhile.core.errors.Crashed", detail=said)
    out = meanwhile("list").out
    assert " 0, 3 crashes, 2 deaths " in out
    assert "errors.Crashed: The process that ran this job is gone: killed.\n" in out


def test_a_run_that_goes_on_has_no_error(meanwhile, rows):
    """The error of an earlier run is not that of a job that runs again; one that waits for its next run has it."""
    running = rows.job(JobState.RUNNING, epoch=2)
    waiting = rows.job(JobState.SCHEDULED, epoch=1, due_at=ago(-HOUR_AND_A_HALF - 59))
    rows.attempt(running, 1)
    rows.attempt(waiting, 1)
    out = meanwhile("list").out
    assert out.count("ValueError: no luck") == 1
    assert "due in 1 h 30 min" in out


def test_no_value_reaches_the_terminal_as_a_control_sequence(meanwhile, rows):
    """Names and messages are escaped."""
    job = rows.job(JobState.FAILED, task="a\x1b[31m", queue="b\r\nc\u202e")
    rows.attempt(job, 1, exception="x.E", detail="Traceback (most recent call last):\nx.E: \x1b[31mred\u202e\r")
    for flags in ([], ["--json"]):
        assert all(line.isprintable() or not line for line in meanwhile("list", *flags).out.split("\n"))


def test_the_json_has_the_keys_that_programs_rely_on(meanwhile, rows):
    """Names and types of the JSON, in full."""
    job = rows.job(JobState.FAILED)
    rows.attempt(job, 1)
    report = json.loads(meanwhile("list", "--json").out)
    assert set(report) == {"more_limit", "databases"}
    (database,) = report["databases"]
    assert set(database) == {"database", "vendor", "time", "jobs", "more"}
    (shown,) = database["jobs"]
    assert {key for key, value in shown.items() if isinstance(value, str) and value.endswith("Z")} == {
        "enqueued_at", "attempted_at", "finished_at",
    }  # fmt: skip
    times = {"enqueued_at", "attempted_at", "finished_at"}
    assert {key: value for key, value in shown.items() if key not in times} == {
        "id": str(job.pk), "state": "FAILED", "task": TASK, "backend": "default", "queue": "default",
        "executor": "thread", "suspect": False, "attempts": 1, "crashes": 0, "interruptions": 0, "deaths": 0,
        "due_at": None, "cancel_requested_at": None,
        "last_error": {"exception": "builtins.ValueError", "message": "no luck"},
    }  # fmt: skip


class Refused(Exception):
    """An exception whose path is longer than its name."""


def _raised(error, cause=None):
    try:
        raise error from cause
    except type(error) as raised:
        return describe(raised)


@pytest.mark.parametrize(
    ("error", "cause", "said"),
    [
        (ValueError("one line"), None, "one line"),
        (ValueError("first\nValue: second"), None, "first"),
        (ValueError(), None, ""),
        (Refused("no"), None, "no"),
        (ValueError("the effect"), ValueError("the cause"), "the effect"),
        (ExceptionGroup("two", [ValueError("a"), ValueError("b")]), None, "two (2 sub-exceptions)"),
        (ValueError("x" * 300), None, "x" * LONGEST + "..."),
        (ValueError("x" * 2 * TAIL), None, ""),
    ],
)
def test_the_message_is_found_in_what_was_stored(error, cause, said):
    """The first line of the message of the exception that ended the run, not of its cause, whatever notes follow."""
    detail = _raised(error, cause) + "\nNot retried: the task says so."
    path = f"{type(error).__module__}.{type(error).__qualname__}"
    assert message(path, detail[: listing.HEAD], detail[-TAIL:]) == said


# --- command lines ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--state", "faild"], 'Did you mean "failed"?'),
        (["--state", "failed,cancled"], 'Did you mean "cancelled"?'),
        (["--state", ","], "names no state"),
        (["--limit", "0"], "--limit 0: must be 1 to 500"),
        (["--limit", "501"], "--limit 501: must be 1 to 500"),
        (["--since", "yesterday"], "yesterday"),
        (["--backend", "defualt"], 'Did you mean "default"?'),
    ],
)
def test_a_command_line_that_means_nothing_is_refused(meanwhile, backend, args, said):
    """The error names the value and the way out."""
    ran = meanwhile("list", *args)
    assert ran.status == 1
    assert said in ran.err


def test_a_database_without_tables_is_status_2(bare_project):
    """Not migrated: status 2, and the command that mends it."""
    ran = bare_project.manage("meanwhile", "list", check=False)
    assert ran.returncode == 2
    assert "Run: manage.py migrate meanwhile" in ran.stderr


@pytest.mark.parametrize("command", [["list"], ["cancel", "--yes"], ["retry", "--yes"]])
def test_a_task_that_nobody_has_is_a_slip_of_the_pen(meanwhile, rows, command):
    """No job, and no such task: it says so with the name that was meant, also by the function's name alone."""
    for typed in (f"{TASK}s", "nothing"):
        ran = meanwhile(*command, "--task", typed)
        assert ran.status == 0
        assert f'--task {typed}: this code has no task of that name. Did you mean "{TASK}"?' in ran.err
    assert not meanwhile(*command, "--task", TASK).err
    assert "\x1b" not in meanwhile(*command, "--task", "\x1b[31m").err


@pytest.mark.parametrize(("command", "state"), [("list", "failed"), ("retry", "failed"), ("cancel", "ready")])
def test_jobs_of_a_task_that_is_gone_are_found_without_a_lecture(meanwhile, rows, command, state):
    """A job that has the name is what was asked for, whatever the code has."""
    rows.job(JobState[state.upper()], task="gone.tasks.old")
    ran = meanwhile(command, "--task", "gone.tasks.old", *(["--yes"] if command != "list" else []))
    assert ran.status == 0
    assert not ran.err


# --- cost ---------------------------------------------------------------------------------------


@pytest.fixture
def history(rows):
    """Fill a history of three thousand successes and a thousand failures with a few jobs of every other state."""
    Job.objects.using(rows.alias).bulk_create(
        Job(id=uuid7(), task=TASK, backend="default", queue="default", executor="thread",
            state=JobState.FAILED if n % 4 == 0 else JobState.SUCCESSFUL, enqueued_at=ago(60), finished_at=ago(40 + n),
            arguments="{}") for n in range(4000)
    )  # fmt: skip
    for state in JobState:
        rows.job(state)
    with connections[rows.alias].cursor() as cursor:
        cursor.execute("ANALYZE")
    return rows.alias


def test_the_states_by_index_are_the_states(rows):
    """Together the queries find what one query for the states finds, nothing twice."""
    for state in JobState:
        rows.job(state)
        rows.job(state, suspect=True)
    jobs = Job.objects.using(rows.alias)
    for states in (list(JobState), [JobState.READY, JobState.FAILED], [JobState.SUCCESSFUL]):
        found = [job.pk for query in by_index(jobs, states) for job in query]
        assert sorted(found) == sorted(in_states(jobs, states).values_list("pk", flat=True))


@pytest.mark.parametrize("narrow", [{}, {"since": 3600.0}, {"task": TASK, "queue": "default", "since": 3600.0}])
def test_each_query_goes_along_a_partial_index(history, narrow):
    """On every vendor, ended jobs come from the index in their order, and live ones without a look at history."""
    store = get_store(history)
    now = store.now()
    for state in JobState:
        chosen = Filter(states=(state,), age="finished_at" if state.is_terminal else "enqueued_at", **narrow)
        for query in by_index(Job.objects.using(history), [state]):
            plan = narrowed(query, chosen, now).order_by(f"-{chosen.age}")[:21].explain()
            assert "meanwhile_" in plan.replace("meanwhile_job", ""), plan
            assert "Seq Scan" not in plan
            if state.is_terminal:
                assert "meanwhile_prune" in plan
                assert "Sort" not in plan
                assert "TEMP B-TREE" not in plan


def test_every_query_is_cut(meanwhile, history):
    """No query for jobs is without a limit, which is what is shown and one, or the bound of the count."""
    with CaptureQueriesContext(connections[history]) as captured:
        meanwhile("list", "--limit", "5", "--state", ",".join(state.name for state in JobState))
    queries = [query["sql"] for query in captured if '"meanwhile_job"' in query["sql"]]
    of_jobs = [sql for sql in queries if '"meanwhile_attempt"' not in sql]
    limits = [int(found[1]) if (found := re.search(r" LIMIT (\d+)", sql)) else None for sql in of_jobs]
    assert set(limits) == {6, 5 + listing.MORE_LIMIT}
    assert len(queries) - len(of_jobs) <= 2
