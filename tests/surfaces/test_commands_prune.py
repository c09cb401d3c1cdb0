"""``meanwhile prune``: old jobs that have ended go, in batches; nothing else does."""

import pytest

from django_meanwhile.core.states import TERMINAL, JobState
from django_meanwhile.management.subcommands import prune
from django_meanwhile.models import Attempt

from .rows import ago

DAY = 86_400


def test_by_default_it_keeps_what_the_settings_keep(meanwhile, rows):
    """Each state has its own age; what is live stays whatever its age."""
    for state in JobState:
        for days in (1, 8, 31, 91):
            ended = {"finished_at": ago(days * DAY)} if state in TERMINAL else {}
            rows.job(state, enqueued_at=ago(days * DAY), **ended)
    ran = meanwhile("prune")
    assert ran.status == 0
    assert f"3 jobs deleted: successful over 7 d ago, in database {rows.alias!r}" in ran.out
    kept = {state: rows.count(state=state) for state in JobState}
    assert kept == {
        JobState.SCHEDULED: 4, JobState.READY: 4, JobState.RUNNING: 4,
        JobState.SUCCESSFUL: 1, JobState.FAILED: 2, JobState.CANCELLED: 1, JobState.QUARANTINED: 3,
    }  # fmt: skip


def test_state_and_age_can_be_given(meanwhile, rows):
    """--state and --older-than; attempts go with their job."""
    old, young = (rows.job(JobState.FAILED, finished_at=ago(seconds)) for seconds in (7200, 60))
    for job in (old, young):
        rows.attempt(job)
    rows.job(JobState.SUCCESSFUL, finished_at=ago(7200))
    meanwhile("prune", "--state", "failed", "--older-than", "1h")
    assert rows.count() == 2
    assert list(Attempt.objects.using(rows.alias).values_list("job_id", flat=True)) == [young.pk]


def test_a_dry_run_deletes_nothing_and_tells_the_same_number(meanwhile, rows):
    """--dry-run says what would go."""
    for _ in range(3):
        rows.job(JobState.SUCCESSFUL, finished_at=ago(8 * DAY))
    ran = meanwhile("prune", "--dry-run")
    assert "3 would be deleted: successful over 7 d ago" in ran.out
    assert rows.count() == 3
    assert "3 jobs deleted: successful" in meanwhile("prune").out


def test_many_jobs_go_in_batches(meanwhile, rows, monkeypatch):
    """More jobs than a batch: all of them, in several transactions."""
    monkeypatch.setattr(prune, "_BATCH", 3)
    for _ in range(10):
        rows.job(JobState.CANCELLED, finished_at=ago(60))
    assert "10 jobs deleted" in meanwhile("prune", "--state", "cancelled", "--older-than", "30s").out


def test_what_is_kept_for_ever_is_said(meanwhile, rows, settings):
    """With retention off for a state nothing goes, and --older-than is the way out; the other states go on."""
    settings.MEANWHILE = {"RETENTION": {"failed": None}}
    rows.job(JobState.FAILED, finished_at=ago(1000 * DAY))
    ran = meanwhile("prune", "--state", "failed")
    assert ran.status == 1
    assert "keeps failed for ever" in ran.err
    assert "--older-than" in ran.err
    assert meanwhile("prune").status == 0
    assert rows.count() == 1
    assert meanwhile("prune", "--state", "failed", "--older-than", "1d").status == 0
    assert rows.count() == 0


@pytest.mark.parametrize("args", [["--state", "ready"], ["--older-than", "old"], ["--backend", "nope"]])
def test_a_wrong_flag_is_refused(meanwhile, backend, args):
    """The error names the value."""
    ran = meanwhile("prune", *args)
    assert ran.status == 1
    assert args[1] in ran.err


def test_wrong_settings_are_told(meanwhile, backend, settings):
    """A retention that is no number is a problem of the settings, not a traceback."""
    settings.MEANWHILE = {"RETENTION": {"failed": "never"}}
    ran = meanwhile("prune")
    assert ran.status == 1
    assert "'never'" in ran.err
