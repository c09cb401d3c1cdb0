"""What a newcomer is told: Django's refusals with name and next step, the verbs of other queues with ours."""

import datetime as dt
import re

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections

from django_meanwhile import task
from django_meanwhile.compat import (
    InvalidTask,
    InvalidTaskBackend,
    TaskResultDoesNotExist,
    TaskResultMismatch,
    task_backends,
)
from django_meanwhile.core.identifiers import uuid7
from django_meanwhile.tasks import refusals
from django_meanwhile.tasks.task import Task

from .sample.tasks import add, fetch, report


def body(n):
    return n


def takes_another(ctx, n):
    return n


def nested():
    def inner(n):
        return n

    return inner


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Task(func=body, queue_name="mail"), r'Queue .mail. is not valid .*\["default", "mail"\]'),
        (lambda: Task(func=takes_another, takes_context=True), r"Write def takes_another\(context, \.\.\.\)"),
        (lambda: Task(func=nested()), "defined at a module level. Move it out of the function"),
        (lambda: add.using(priority=500), r"It is 500\. Higher runs first"),
        (lambda: add.using(run_after=dt.datetime(2030, 1, 1)), r"using\(run_after=timedelta\(hours=1\)\)"),
    ],
    ids=["queue", "context", "nested", "priority", "naive"],
)
def test_what_django_refuses_is_said_with_name_and_next_step(settings, make, words):
    """Django's sentence stays; before it stands which task, behind it what to write."""
    settings.TASKS = {"default": {"BACKEND": "django_meanwhile.backends.DatabaseBackend"}}
    with pytest.raises(InvalidTask, match=rf"^tests\.tasks\..*: .*{words}"):
        make()


@pytest.mark.parametrize(("queue", "listed"), [("mail", r'\["mail"\]'), ("default", r'\["default", "mail"\]')])
def test_queues_that_are_a_text_are_not_shown_as_its_letters(settings, queue, listed):
    """``QUEUES = "mail"`` is four queues for Django; the refusal says what it is, and the list to write."""
    settings.TASKS = {"default": {"BACKEND": "django_meanwhile.backends.DatabaseBackend", "QUEUES": "mail"}}
    with pytest.raises(InvalidTask, match=rf"""is the text 'mail', and must be a list\. Write "QUEUES": {listed}"""):
        Task(func=body, queue_name=queue)


def test_an_unknown_backend_is_answered_with_the_likely_one():
    """The alias is named, and the one that was meant; where none is near, all of them."""
    with pytest.raises(InvalidTaskBackend, match=r'test_refusals.body: backend="defualt": .*Did you mean "default"\?'):
        Task(func=body, backend="defualt")
    with pytest.raises(InvalidTaskBackend, match=r'There is: .*"default"'):
        Task(func=body, backend="x")


def test_calling_a_task_says_how_it_is_queued_and_how_it_is_run_here():
    """A task is no function, and the error names both ways out, which work; templates leave it alone."""
    with pytest.raises(TypeError, match=r"sample\.tasks\.add is a task, .*add\.enqueue\(.*, add\.call\("):
        add(1)
    with pytest.raises(TypeError, match=r"fetch\.enqueue\(.*, await fetch\.acall\("):
        fetch("u")
    with pytest.raises(TypeError, match=r" report\.enqueue\(.*, report\.call\("):
        report({})
    assert add.do_not_call_in_templates


@pytest.mark.parametrize("verb", refusals.FOREIGN_VERBS)
def test_the_verbs_of_other_queues_are_answered_with_ours(verb):
    """``delay`` and its like are attributes that do not exist, and whose error says what does."""
    assert not hasattr(add, verb)
    with pytest.raises(AttributeError, match=rf"sample\.tasks\.add is a task, which has no '{verb}'\. Write add\."):
        getattr(add, verb)
    with pytest.raises(AttributeError, match=r"has no 'colour'\.$"):
        _ = add.colour


def test_a_task_on_a_task_is_refused_as_such():
    """A second decorator is named as the mistake, although a task can be called (to be refused)."""
    with pytest.raises(InvalidTask, match="is a task already"):
        task(add)


def test_a_result_that_is_not_there_says_where_it_was_looked_for(database):
    """A job that is not (or no longer) there, and an id that is none, are two different mistakes."""
    backend = task_backends[database]
    missing = str(uuid7())
    with pytest.raises(
        TaskResultDoesNotExist, match=rf'No job {missing} in database .{database}.*rolled back.*"RETENTION"'
    ):
        backend.get_result(missing)
    with pytest.raises(TaskResultDoesNotExist, match="'nonsense' is no id of a job"):
        backend.get_result("nonsense")


@pytest.mark.django_db
def test_a_result_of_another_task_names_both():
    """And says how to read a job whose task one does not know."""
    result = add.enqueue(1)
    with pytest.raises(TaskResultMismatch, match=rf"job {result.id} is not of .*\.report: .*\.add.*task_backends"):
        report.get_result(result.id)


def test_a_backend_without_the_app_is_refused_before_the_database_is(settings, monkeypatch):
    """The tables could not be there: the line to write stands in place of a database's error."""
    monkeypatch.setattr(refusals.apps, "is_installed", lambda _name: False)
    with pytest.raises(ImproperlyConfigured, match='Add "django_meanwhile" to INSTALLED_APPS'):
        add.enqueue(1)


def test_a_task_without_the_app_is_refused_where_it_is_made(monkeypatch):
    """At its import, once the apps are ready; before that it is Django's check of backends that says so."""
    monkeypatch.setattr(refusals.apps, "is_installed", lambda _name: False)
    with pytest.raises(ImproperlyConfigured, match='Add "django_meanwhile" to INSTALLED_APPS'):
        Task(func=body)
    monkeypatch.setattr(refusals.apps, "ready", False)
    assert Task(func=body).func is body


@pytest.mark.django_db
@pytest.mark.parametrize("word", refusals.FOREIGN_WORDS)
def test_the_words_of_other_results_are_answered_with_ours(word):
    """``get`` and its like are attributes that do not exist, and whose error says what does."""
    result = add.enqueue(1)
    assert not hasattr(result, word)
    with pytest.raises(
        AttributeError, match=rf"the result of job {result.id} has no '{word}'\. Write result\."
    ) as caught:
        getattr(result, word)
    ours = str(caught.value).partition("Write result.")[2]
    field = re.match(r"\w+", ours)[0]
    assert hasattr(type(result), field) or hasattr(result, field)
    with pytest.raises(AttributeError, match=r"has no 'colour'\.$"):
        _ = result.colour


def test_a_locked_sqlite_is_explained_where_the_settings_can_mend_it():
    """A deferred transaction's "database is locked" carries the line to write; with that line written it is plain."""
    options = connections["default"].settings_dict["OPTIONS"]
    before = dict(options)
    notes = {}
    try:
        for mode in (None, "IMMEDIATE"):
            options.pop("transaction_mode", None)
            options |= {"transaction_mode": mode} if mode else {}
            error = OperationalError("database is locked")
            refusals.annotate(error, "default")
            notes[mode] = getattr(error, "__notes__", [])
    finally:
        options.clear()
        options.update(before)
    assert '"transaction_mode": "IMMEDIATE"' in notes[None][0]
    assert notes["IMMEDIATE"] == []
