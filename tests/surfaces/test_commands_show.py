"""``meanwhile show``: everything about one job, safe to look at on a terminal."""

import json

import pytest

from django_meanwhile.core.states import AttemptKind, JobState

from .rows import ago

HOSTILE = "\x1b[31mred\r\nforged\u202e"


@pytest.fixture
def job(rows):
    """Insert a failed job with everything a row can have."""
    worker = rows.worker(host="web7", pid=99)
    job = rows.job(
        JobState.FAILED,
        task="shop.tasks.charge",
        arguments=json.dumps({"args": [42, HOSTILE], "kwargs": {"when": {"$date": "2026-11-22"}}}),
        overrides=json.dumps({"priority": 5}),
        context=json.dumps({"language": "de"}),
        progress=json.dumps({"n": 40, "total": 100, "message": "importing"}),
        rank=-5,
        epoch=3,
        attempts=2,
        interruptions=1,
        last_worker_id=worker.pk,
    )
    rows.attempt(job, 1, detail=f"Traceback\nValueError: first {HOSTILE}")
    rows.attempt(
        job, 2, kind=AttemptKind.INTERRUPTED, exception="django_meanwhile.core.errors.Interrupted", detail="a deploy"
    )
    rows.attempt(job, 3, detail="Traceback\nValueError: third")
    return job


def test_it_shows_everything(meanwhile, job):
    """State, route, times, counters with their meaning, arguments, progress, and each attempt with its traceback, in
    order.
    """
    ran = meanwhile("show", str(job.pk))
    assert ran.status == 0
    for text in (
        f"Job {job.pk}",
        "shop.tasks.charge",
        "FAILED",
        "default, executor thread, priority 5",
        "web7:99",
        "42",
        '"$date": "2026-11-22"',
        '"language": "de"',
        '"message": "importing"',
        "runs taken away by a deploy",
        "Attempt: run 1, failed",
        "Attempt: run 2, interrupted",
        "Attempt: run 3, failed",
        "builtins.ValueError",
        "lasted 5 s",
        "Z  (",
    ):
        assert text in ran.out, text
    assert ran.out.index("first") < ran.out.index("\n    a deploy") < ran.out.index("third")


def test_no_value_reaches_the_terminal_as_a_control_sequence(meanwhile, job):
    """Arguments and tracebacks with ANSI sequences, carriage returns and bidirectional marks are made visible, line
    by line.
    """
    for flags in ([], ["--json"]):
        out = meanwhile("show", str(job.pk), *flags).out
        assert all(line.isprintable() or not line for line in out.split("\n"))
        assert "forged" in out


def test_the_beginning_of_an_id_will_do(meanwhile, rows, job):
    """Eight digits or more, dashes or not, upper case or not, if one job has it; else those that have it are listed."""
    text = str(job.pk)
    assert meanwhile("show", text[:23]).status == 0
    assert meanwhile("show", text.replace("-", "")[:30].upper()).status == 0
    twin = rows.job(id=type(job.pk)(int=job.pk.int ^ 1), task="other.task")
    ran = meanwhile("show", text[:18])
    assert ran.status == 1
    assert str(job.pk) in ran.err
    assert str(twin.pk) in ran.err
    assert "give more digits" in ran.err
    assert meanwhile("show", text).status == 0


@pytest.mark.parametrize("text", ["", "1234567", "0190d2a4-xyz", "x" * 40, "0" * 33, HOSTILE, "%"])
def test_what_is_no_id_is_refused_with_an_example(meanwhile, backend, text):
    """Too short, too long, or no hexadecimal digits."""
    ran = meanwhile("show", text)
    assert ran.status == 1
    assert "is no job id" in ran.err
    assert "8 digits or more" in ran.err
    assert "Ids are listed by: manage.py meanwhile list" in ran.err
    assert "\x1b" not in ran.err


def test_an_id_that_no_job_has_names_the_database_and_the_retention(meanwhile, backend):
    """Not found: where it was looked for, and why it may be gone."""
    ran = meanwhile("show", "0190d2a4")
    assert ran.status == 1
    assert repr(backend) in ran.err
    assert "RETENTION" in ran.err


def test_the_json_has_the_keys_that_programs_rely_on(meanwhile, job):
    """Everything of the row, parsed, times in UTC, the attempts in order."""
    shown = json.loads(meanwhile("show", str(job.pk), "--json").out)
    assert shown["id"] == str(job.pk)
    assert shown["state"] == "FAILED"
    assert shown["arguments"] == {"args": [42, HOSTILE], "kwargs": {"when": {"$date": "2026-11-22"}}}
    assert shown["progress"] == {"n": 40, "total": 100, "message": "importing"}
    assert shown["result"] is None
    assert shown["enqueued_at"].endswith("Z")
    assert shown["due_at"] is None
    assert (shown["attempts"], shown["crashes"], shown["interruptions"], shown["deaths"]) == (2, 0, 1, 0)
    assert [attempt["epoch"] for attempt in shown["attempt_rows"]] == [1, 2, 3]
    assert set(shown["attempt_rows"][0]) == {
        "epoch",
        "kind",
        "started_at",
        "ended_at",
        "worker_id",
        "exception",
        "detail",
    }


def test_many_attempts_are_cut_to_the_last_ones(meanwhile, rows, job):
    """--attempts: the newest, still in order."""
    ran = meanwhile("show", str(job.pk), "--attempts", "2")
    assert "Attempt: run 1" not in ran.out
    assert ran.out.index("Attempt: run 2") < ran.out.index("Attempt: run 3")
    assert meanwhile("show", str(job.pk), "--attempts", "-1").status == 1


@pytest.mark.parametrize("state", list(JobState))
def test_a_job_of_every_state_can_be_shown(meanwhile, rows, state):
    """No state lacks what the page wants, not even with damaged texts."""
    job = rows.job(state, arguments="{damaged", progress="[]", result="{", due_at=ago(-60))
    ran = meanwhile("show", str(job.pk))
    assert ran.status == 0
    assert state.name in ran.out
    assert "{damaged" in ran.out
    assert json.loads(meanwhile("show", str(job.pk), "--json").out)["arguments"] == "{damaged"


def test_times_do_not_depend_on_the_project(meanwhile, rows, job, settings):
    """With USE_TZ off, and in any time zone, the JSON is the same UTC."""
    before = json.loads(meanwhile("show", str(job.pk), "--json").out)
    settings.USE_TZ = False
    settings.TIME_ZONE = "Asia/Tokyo"
    after = json.loads(meanwhile("show", str(job.pk), "--json").out)
    assert before == after


def test_runs_that_are_no_attempts_stand_beside_the_attempts(meanwhile, rows):
    """A quarantined job has 0 attempts, and the same line says how many runs it has cost; without any, what counts."""
    counters = {"attempts": 0, "crashes": 3, "interruptions": 2, "deaths": 2}
    job = rows.job(JobState.QUARANTINED, **counters)
    lines = [" ".join(line.split()) for line in meanwhile("show", str(job.pk)).out.splitlines()]
    assert "attempts 0 runs begun, without 3 crashes and 2 interruptions (2 of them by deaths in company)" in lines
    deployed = meanwhile("show", str(rows.job(JobState.FAILED, interruptions=1).pk)).out
    assert "runs begun, without 1 interruption\n" in deployed
    assert "runs begun, without crashes and interruptions\n" in meanwhile("show", str(rows.job().pk)).out
