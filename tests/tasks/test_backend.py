"""``DatabaseBackend``: Django's contract, cancel and retry, signals, checks."""

import threading

import pytest
from asgiref.sync import async_to_sync
from django.core import checks
from django.db import transaction

from django_meanwhile.backends import DatabaseBackend
from django_meanwhile.compat import (
    BaseTaskBackend,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_finished,
)
from django_meanwhile.core.errors import NotCancellable
from django_meanwhile.core.outcome import End
from django_meanwhile.core.states import JobState
from django_meanwhile.models import Job
from django_meanwhile.store import wake
from django_meanwhile.tasks.task import Task

from .lifecycle import FakeWorker, rolled_back
from .sample.tasks import add, fails, fetch

PATH = "django_meanwhile.backends.DatabaseBackend"
NOWHERE = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def announced(monkeypatch):
    """The (alias, queues) that workers were woken for."""
    calls = []
    monkeypatch.setattr(wake, "announce", lambda alias, queues: calls.append((alias, list(queues))))
    return calls


@pytest.fixture
def finished():
    """The results that ``task_finished`` was sent with."""
    results = []

    def receive(sender, task_result, **_):
        results.append((sender, task_result))

    task_finished.connect(receive)
    yield results
    task_finished.disconnect(receive)


# --- the dialect ----------------------------------------------------------------------------


def test_it_is_a_backend_of_djangos_with_every_ability():
    """All four flags are true, and Django's decorator makes our tasks for it."""
    backend = task_backends["default"]
    assert isinstance(backend, BaseTaskBackend)
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority
    assert backend.task_class is Task


def test_one_instance_for_each_thread():
    """Django makes a backend per thread; they have nothing in common but their settings."""
    made = [task_backends["default"]]
    thread = threading.Thread(target=lambda: made.append(task_backends["default"]))
    thread.start()
    thread.join()
    assert made[0] is not made[1]
    assert made[0].database == made[1].database


@pytest.mark.django_db
def test_enqueue_by_the_backend():
    """The backend's own methods take what Django's do."""
    backend = task_backends["default"]
    result = backend.enqueue(add, [1], {"y": 2})
    assert backend.get_result(result.id) == add.get_result(result.id)
    assert (result.args, result.kwargs) == ([1], {"y": 2})


@pytest.mark.django_db(transaction=True)
def test_the_async_twins(database):
    """Every ``a`` method does what its twin does."""

    async def story():
        task = fetch.using(backend=database)
        result = await task.aenqueue("u")
        assert (await task.aget_result(result.id)).id == result.id
        assert await result.acancel() is JobState.CANCELLED
        await result.arefresh()
        assert result.state is JobState.CANCELLED
        await result.aretry()
        await result.arefresh()
        return result

    assert async_to_sync(story)().state is JobState.READY


def test_queues_are_checked_at_every_enqueue(settings):
    """A queue that left the settings after the task was made is refused."""
    task = add.using(queue_name="mail")
    settings.TASKS = {"default": {"BACKEND": PATH, "QUEUES": ["default"]}}
    with pytest.raises(Exception, match="Queue 'mail' is not valid for backend"):
        task.enqueue(1)


@pytest.mark.django_db
def test_an_empty_queues_means_any(settings):
    """``QUEUES: []`` accepts every name."""
    settings.TASKS = {"default": {"BACKEND": PATH, "QUEUES": []}}
    assert add.using(queue_name="whatever").enqueue(1).status == TaskResultStatus.READY


# --- cancel and retry -----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_cancel_of_a_waiting_job(database, finished, announced):
    """A waiting job is cancelled at once, and ``task_finished`` is sent by whoever cancelled it."""
    result = add.using(backend=database).enqueue(1)
    announced.clear()
    assert result.cancel() is JobState.CANCELLED
    [(sender, said)] = finished
    assert sender is type(task_backends[database])
    assert (said.id, said.state, said.status) == (result.id, JobState.CANCELLED, TaskResultStatus.FAILED)
    assert not announced


@pytest.mark.django_db(transaction=True)
def test_cancel_of_a_running_job(database, finished, announced):
    """A running job is asked to stop, its worker is woken, and nothing is said to have finished."""
    result = add.using(backend=database).enqueue(1)
    announced.clear()
    job = FakeWorker(database).claim()
    assert result.cancel() is JobState.RUNNING
    assert announced == [(database, [wake.CANCEL])]
    assert not finished
    assert Job.objects.using(database).get(pk=job.id).cancel_requested_at is not None


@pytest.mark.django_db(transaction=True)
def test_cancel_in_a_transaction(database, finished):
    """A cancel that is rolled back has not happened, and nobody was told."""
    result = add.using(backend=database).enqueue(1)
    with rolled_back(database):
        result.cancel()
        assert not finished
    result.refresh()
    assert result.state is JobState.READY
    assert not finished
    with transaction.atomic(using=database):
        result.cancel()
        assert not finished
    assert len(finished) == 1


def test_cancel_of_an_ended_job(database):
    """What has ended cannot be cancelled; the error says how it ended."""
    result = add.using(backend=database).enqueue(1)
    FakeWorker(database).run(End.SUCCEEDED, result="1")
    with pytest.raises(NotCancellable, match=rf"job {result.id} has already ended \(SUCCESSFUL\)"):
        result.cancel()


def test_retry_of_an_ended_job(database, django_capture_on_commit_callbacks, announced):
    """A job that has ended runs again, and a worker is woken for its queue."""
    result = fails.using(backend=database, queue_name="default").enqueue()
    FakeWorker(database).run(End.FAILED, exception="builtins.ValueError", detail="x")
    with django_capture_on_commit_callbacks(using=database, execute=True):
        result.retry()
    result.refresh()
    assert result.state is JobState.READY
    assert announced == [(database, ["default"])]


def test_retry_of_a_job_that_has_not_ended(database):
    """Only what has ended can be retried; the error names state and next step."""
    result = add.using(backend=database).enqueue(1)
    with pytest.raises(NotCancellable, match=r"is READY: only a job that has ended can be retried. Wait"):
        result.retry()


@pytest.mark.django_db
@pytest.mark.parametrize("verb", ["cancel", "retry", "has_ended", "get_result"])
@pytest.mark.parametrize("wrong", [NOWHERE, "nonsense"])
def test_verbs_on_unknown_ids(verb, wrong):
    """Whatever is asked of an id that is no job's, it does not exist."""
    with pytest.raises(TaskResultDoesNotExist):
        getattr(task_backends["default"], verb)(wrong)


# --- checks ---------------------------------------------------------------------------------


def problems(settings, **backends):
    """Return the check messages of backends of ours with these parameters."""
    settings.TASKS = {alias: {"BACKEND": PATH, **params} for alias, params in backends.items()}
    return [message for alias in backends for message in task_backends[alias].check()]


def test_good_settings(settings):
    """What the documentation shows passes."""
    assert problems(settings, default={}) == []
    assert problems(settings, default={"QUEUES": ["a"]}, other={"QUEUES": ["b", "c"]}) == []
    assert problems(settings, default={"QUEUES": []}, other={"OPTIONS": {"DATABASE": "other"}}) == []


@pytest.mark.parametrize(
    ("params", "code", "message", "hint"),
    [
        ({"OPTIONS": {"database": "other"}}, "E021", "unknown key 'database'", 'Did you mean "DATABASE"?'),
        ({"OPTIONS": {"zzz": 1}}, "E021", "unknown key 'zzz'", "Known: DATABASE."),
        ({"OPTIONS": {"DATABASE": "othr"}}, "E022", "'othr': DATABASES has no such alias", 'Did you mean "other"?'),
        ({"QUEUES": "mail"}, "E024", "is 'mail': it must be a list", 'Write "QUEUES": ["mail"]'),
        ({"QUEUES": ["a,b"]}, "E025", "has 'a,b': a name must be", "Change the name"),
    ],
)
def test_wrong_settings(settings, params, code, message, hint):
    """A mistake in TASKS is an error with the line to write."""
    [problem] = problems(settings, default=params)
    assert problem.id == f"meanwhile.{code}"
    assert isinstance(problem, checks.Error)
    assert message in problem.msg
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ({}, {}, "queue 'default'"),
        ({"QUEUES": ["a", "b"]}, {"QUEUES": ["b"]}, "queue 'b'"),
        ({"QUEUES": []}, {"QUEUES": ["b"]}, "an empty QUEUES means every queue"),
        ({"QUEUES": ["b"]}, {"QUEUES": []}, "an empty QUEUES means every queue"),
    ],
)
def test_two_backends_that_share_a_queue(settings, first, second, what):
    """Two aliases on one database must not share a queue; the pair is told once."""
    [problem] = problems(settings, one=first, two=second)
    assert problem.id == "meanwhile.E023"
    assert 'TASKS["two"] and TASKS["one"] share database' in problem.msg
    assert what in problem.msg


def test_without_the_app(settings):
    """A backend without the app in INSTALLED_APPS has no tables; the check says what to add."""
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django_meanwhile"]
    [problem] = problems(settings, default={})
    assert problem.id == "meanwhile.E020"
    assert 'Add "django_meanwhile" to INSTALLED_APPS' in problem.hint


def test_django_runs_these_checks(settings):
    """``manage.py check`` shows them, on every Django."""
    settings.TASKS = {"default": {"BACKEND": PATH, "OPTIONS": {"DATABASE": "othr"}}}
    assert "meanwhile.E022" in {message.id for message in checks.run_checks()}


def test_the_dotted_path():
    """The module of lazy names offers this one name, and says so of others as Python does."""
    import django_meanwhile.backends as module
    from django_meanwhile.tasks import backend

    assert DatabaseBackend is backend.DatabaseBackend
    assert module.__all__ == ["DatabaseBackend"]
    with pytest.raises(AttributeError, match="has no attribute 'Other'"):
        _ = module.Other
