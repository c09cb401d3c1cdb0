"""``meanwhile retry`` and ``meanwhile cancel``: which jobs, asking first, saying what became of them."""

import io
import sys

import pytest
from django.core.management import call_command

from django_meanwhile.compat import task_finished
from django_meanwhile.core.states import LIVE, TERMINAL, JobState
from django_meanwhile.management import selection, verbs

from .conftest import BACKEND
from .rows import Rows, ago


@pytest.fixture
def answers(monkeypatch):
    """Sit at the terminal, with answers prepared; what was asked is noted."""
    asked, given = [], []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)

    def answer(question):
        asked.append(question)
        return given.pop(0)

    monkeypatch.setattr("builtins.input", answer)
    return asked, given


@pytest.mark.parametrize("state", list(JobState))
def test_retry_brings_back_what_has_ended_and_nothing_else(meanwhile, rows, state):
    """A job that has ended is READY again with fresh counters; any other is left alone, said so, and is status 1."""
    job = rows.job(state, attempts=1)
    ran = meanwhile("retry", str(job.pk))
    if state in TERMINAL:
        assert ran.status == 0
        assert f"{job.pk}  {job.task}: ready to run again" in ran.out
        job.refresh_from_db()
        assert (job.state, job.attempts, job.finished_at) == (JobState.READY, 0, None)
    else:
        assert ran.status == 1
        assert f"it is {state.name}, and only a job that has ended" in ran.err
        assert rows.state_of(job) is state


@pytest.mark.parametrize("state", list(JobState))
def test_cancel_ends_what_waits_asks_what_runs_and_leaves_what_has_ended(meanwhile, rows, state):
    """SCHEDULED and READY are CANCELLED at once, RUNNING is asked to stop, the rest is left alone."""
    job = rows.job(state)
    ran = meanwhile("cancel", str(job.pk))
    job.refresh_from_db()
    if state is JobState.RUNNING:
        assert (ran.status, job.state) == (0, JobState.RUNNING)
        assert job.cancel_requested_at is not None
        assert "asked to stop" in ran.out
    elif state in LIVE:
        assert (ran.status, job.state) == (0, JobState.CANCELLED)
        assert ": cancelled" in ran.out
    else:
        assert (ran.status, job.state) == (1, state)
        assert f"it is {state.name} already" in ran.err


def test_the_beginning_of_an_id_names_a_job(meanwhile, rows):
    """As with show; and nothing is changed if one of several names is no job."""
    job = rows.job()
    assert meanwhile("cancel", str(job.pk)[:30], "ffffffff").status == 1
    assert rows.state_of(job) is JobState.READY
    assert meanwhile("cancel", str(job.pk)[:30]).status == 0
    assert rows.state_of(job) is JobState.CANCELLED


def test_a_filter_finds_the_jobs_that_fit_and_no_others(meanwhile, rows):
    """State, queue, task and age narrow down together."""
    fits = rows.job(JobState.FAILED, queue="mail", task="a.b")
    others = [
        rows.job(JobState.CANCELLED, queue="mail", task="a.b"),
        rows.job(JobState.FAILED, queue="default", task="a.b"),
        rows.job(JobState.FAILED, queue="mail", task="a.c"),
        rows.job(JobState.FAILED, queue="mail", task="a.b", finished_at=ago(90_000)),
        rows.job(JobState.READY, queue="mail", task="a.b"),
    ]
    before = [rows.state_of(job) for job in others]
    ran = meanwhile("retry", "--state", "failed", "--queue", "mail", "--task", "a.b", "--since", "2h", "--yes")
    assert ran.status == 0
    assert "1 job ready to run again" in ran.out
    assert rows.state_of(fits) is JobState.READY
    assert [rows.state_of(job) for job in others] == before


def test_without_a_state_retry_means_failed_and_cancel_all_that_live(meanwhile, rows):
    """The defaults of the help."""
    for state in JobState:
        rows.job(state)
    assert "1 job ready to run again" in meanwhile("retry", "--queue", "default", "--yes").out
    assert rows.count(state=JobState.FAILED) == 0
    assert rows.count(state=JobState.CANCELLED) == rows.count(state=JobState.QUARANTINED) == 1
    ran = meanwhile("cancel", "--queue", "default", "--yes")
    assert "1 job asked to stop" in ran.out
    assert "3 jobs cancelled" in ran.out


def test_since_is_about_the_end_for_retry_and_about_the_enqueue_for_cancel(meanwhile, rows):
    """As the help says."""
    rows.job(JobState.FAILED, enqueued_at=ago(90_000), finished_at=ago(10))
    assert "1 job ready" in meanwhile("retry", "--since", "1m", "--yes").out
    assert "No job to cancel." in meanwhile("cancel", "--since", "1h", "--yes").out
    assert "1 job cancelled" in meanwhile("cancel", "--since", "2d", "--yes").out


def test_a_limit_takes_the_oldest(meanwhile, rows):
    """--limit 2 of three: the two that ended first."""
    jobs = [rows.job(JobState.FAILED, finished_at=ago(seconds)) for seconds in (10, 30, 20)]
    meanwhile("retry", "--limit", "2", "--yes")
    assert [rows.state_of(job).name for job in jobs] == ["FAILED", "READY", "READY"]


def test_many_jobs_are_changed_in_batches_each_once(meanwhile, rows, monkeypatch):
    """More jobs than a batch and than a round: all are changed, none is met twice."""
    monkeypatch.setattr(selection, "BATCH", 3)
    monkeypatch.setattr(selection, "ROUND", 7)
    for _ in range(20):
        rows.job(JobState.FAILED)
    assert "20 jobs ready to run again" in meanwhile("retry", "--state", "failed", "--yes").out
    for _ in range(10):
        rows.job(JobState.RUNNING)
    ran = meanwhile("cancel", "--queue", "default", "--yes")
    assert "20 jobs cancelled" in ran.out
    assert "10 jobs asked to stop" in ran.out
    assert "No job to cancel." in meanwhile("cancel", "--queue", "default", "--yes").out


def test_jobs_that_fit_later_are_left_out(rows, monkeypatch):
    """What ends, or comes in, after the command began is not touched by it, so that it ends."""
    monkeypatch.setattr(selection, "ROUND", 1)
    from django_meanwhile.store import get_store

    store = get_store(rows.alias)
    rows.job(JobState.FAILED)
    until = store.now()
    chosen = selection.Filter(states=(JobState.FAILED,), age="finished_at")
    met = 0
    for ids in selection.batches(store, chosen, until):
        met += len(ids)
        store.retry(ids)
        rows.job(JobState.FAILED, finished_at=ago(-1))
        assert met < 5
    assert met == 1


def test_on_a_terminal_it_asks_with_the_number(meanwhile, rows, answers):
    """The question names how many and where; anything but yes changes nothing."""
    asked, given = answers
    rows.job(JobState.FAILED)
    given += ["", "n", "y"]
    for state, said in (
        ("FAILED", "Nothing was changed."),
        ("FAILED", "Nothing was changed."),
        ("READY", "1 job ready"),
    ):
        assert said in meanwhile("retry", "--state", "failed").out
        assert rows.count(state=JobState[state]) == 1
    assert asked[0] == f"Retry 1 job in database {rows.alias!r}? [y/N] "


def test_away_from_a_terminal_it_wants_yes(meanwhile, rows, monkeypatch):
    """In a script nobody can answer: it refuses, and says --yes."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    rows.job()
    ran = meanwhile("cancel", "--state", "ready")
    assert ran.status == 1
    assert "add --yes" in ran.err
    assert rows.count(state=JobState.READY) == 1


def test_ctrl_c_stops_between_batches_and_tells_what_was_done(meanwhile, rows, monkeypatch):
    """Batches that are done stay done, and are reported; the status is the shells' 130."""
    monkeypatch.setattr(selection, "BATCH", 2)
    for _ in range(5):
        rows.job()
    real, batches = verbs.cancel, []

    def cancel(store, ids):
        if len(batches) == 1:
            raise KeyboardInterrupt
        batches.append(ids)
        return real(store, ids)

    monkeypatch.setattr(verbs, "cancel", cancel)
    ran = meanwhile("cancel", "--state", "ready", "--yes")
    assert ran.status == 130
    assert "2 jobs cancelled" in ran.out
    assert rows.count(state=JobState.READY) == 3


@pytest.mark.django_db(databases=["default", "other"])
def test_a_limit_holds_over_all_databases(meanwhile, settings):
    """Two databases with two failed jobs each, --limit 3: three are retried."""
    settings.TASKS = {
        "default": {"BACKEND": BACKEND},
        "away": {"BACKEND": BACKEND, "OPTIONS": {"DATABASE": "other"}},
    }
    both = [Rows("default"), Rows("other")]
    for rows in both * 2:
        rows.job(JobState.FAILED)
    assert "3 jobs ready to run again" in meanwhile("retry", "--state", "failed", "--limit", "3", "--yes").out
    assert [rows.count(state=JobState.FAILED) for rows in both] == [0, 1]


def test_jobs_that_are_named_need_no_question(meanwhile, rows, answers):
    """Who writes an id means it."""
    asked, _ = answers
    meanwhile("cancel", str(rows.job().pk))
    assert not asked


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["retry"], "Which jobs?"),
        (["cancel", "--yes"], "Which jobs?"),
        (["retry", "0190d2a4", "--state", "failed"], "either jobs or a filter"),
        (["retry", "--limit", "0"], "--limit 0"),
        (["retry", "--state", "ready"], "ready"),
        (["cancel", "--state", "failed"], "failed"),
        (["retry", "--since", "yesterday"], "yesterday"),
        (["retry", "--state", "failed", "--backend", "defualt"], 'Did you mean "default"?'),
    ],
)
def test_a_command_line_that_means_nothing_is_refused(meanwhile, backend, args, said):
    """The error names the value and the way out; nothing is changed."""
    ran = meanwhile(*args)
    assert ran.status == 1
    assert said in ran.err


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        """Say yes."""
        return True


def test_a_bar_is_drawn_on_a_terminal_and_nowhere_else(rows, monkeypatch):
    """Progress goes to stderr if that is a terminal, and is wiped away at the end; a file gets none of it."""
    monkeypatch.setattr(selection, "BATCH", 2)
    for stream, is_drawn in ((Terminal(), True), (io.StringIO(), False)):
        for _ in range(4):
            rows.job()
        call_command("meanwhile", "cancel", "--state", "ready", "--yes", stdout=io.StringIO(), stderr=stream)
        assert ("[###############...............] 2 of 4" in stream.getvalue()) == is_drawn
        assert stream.getvalue().endswith("\r\x1b[K") == is_drawn


@pytest.mark.django_db(transaction=True)
def test_task_finished_is_sent_for_what_was_cancelled_while_it_waited(meanwhile, rows):
    """One signal for each, after the commit; none for a running job, which its worker ends; none for a task that is
    unknown.
    """
    waiting, running = rows.job(), rows.job(JobState.RUNNING)
    tried = rows.job(JobState.SCHEDULED, epoch=1, attempts=1)
    rows.attempt(tried, 1)
    unknown = rows.job(task="gone.tasks.old")
    seen = []

    def receiver(sender, task_result, **_):
        seen.append((task_result.id, task_result.state, len(task_result.errors)))

    task_finished.connect(receiver)
    try:
        ids = [str(job.pk) for job in (waiting, running, tried, unknown)]
        assert meanwhile("cancel", *ids).status == 0
    finally:
        task_finished.disconnect(receiver)
    assert sorted(seen) == sorted([(str(waiting.pk), JobState.CANCELLED, 1), (str(tried.pk), JobState.CANCELLED, 2)])
    assert rows.state_of(unknown) is JobState.CANCELLED
