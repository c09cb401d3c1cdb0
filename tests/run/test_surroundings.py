"""The project's context hooks: captured at the enqueue, restored around the body, never silently left out."""

import asyncio
import contextvars
import json

import pytest
from django.utils import translation

from django_meanwhile.core.errors import ContextError
from django_meanwhile.core.outcome import End
from django_meanwhile.run.pipeline import acall, call, prepare
from django_meanwhile.surroundings import capture
from tests.playground import eventually
from tests.run import hooks, sample
from tests.run.jobs import ManualClock, claimed

PATH = "tests.run.hooks."


@pytest.fixture(autouse=True)
def _nothing_seen():
    hooks.SEEN.clear()


@pytest.fixture(params=["def", "async def"])
def run(request, bodies, settings):
    """Capture with the hooks of these names, then run a body under what was captured; return the outcome."""

    def run_it(body, *names, listed=None, **changes):
        settings.MEANWHILE = {"CONTEXT": [PATH + name for name in names]}
        context = json.loads(capture("a.task"))
        if listed is not None:
            settings.MEANWHILE = {"CONTEXT": [PATH + name for name in listed]}

        async def asynchronous():
            return body()

        bodies["x"] = body if request.param == "def" else asynchronous
        task = sample.do if request.param == "def" else sample.ado
        made = prepare(claimed(task, "x", context=context, **changes), ManualClock())
        if request.param == "def":
            return contextvars.Context().run(call, made)
        return contextvars.Context().run(asyncio.run, acall(made))

    return run_it


def fail():
    """A body that fails by itself."""
    raise ZeroDivisionError("in the body")


def test_hooks_are_restored_around_the_body_the_first_outermost(run):
    """Each gets the value that it captured; they nest in the order of the settings, inside the language."""
    with translation.override("de"):
        outcome = run(lambda: hooks.SEEN.append(translation.get_language()), "Recorder", "Inner")
    assert outcome.end is End.SUCCEEDED
    assert hooks.SEEN == [("Recorder", "acme"), ("Inner", {"user": 7}), "de", ("Inner", "end"), ("Recorder", "end")]


def test_what_a_body_raises_passes_through_the_hooks_and_stays_its_outcome(run):
    """A hook sees the body's error; swallowing or replacing it changes nothing: the body decides what becomes of it."""
    outcome = run(fail, "Recorder", "Swallows", "CannotEnd")
    assert (outcome.end, outcome.exception) == (End.FAILED, "builtins.ZeroDivisionError")
    assert hooks.SEEN == [("Recorder", "acme"), "swallowed", ("Recorder", "ZeroDivisionError")]
    assert "hooks.py" not in outcome.detail


def test_a_job_whose_hook_is_not_listed_here_does_not_run(run):
    """Data never names code: the row's hook is not imported. The error names hook, job and the line to write."""
    outcome = run(lambda: pytest.fail("ran without its tenant"), "Recorder", "Inner", listed=["Inner"])
    assert (outcome.end, outcome.exception) == (End.FAILED, "django_meanwhile.core.errors.ContextError")
    assert f"'{PATH}Recorder'" in outcome.detail
    assert f'MEANWHILE = {{"CONTEXT": ["{PATH}Recorder"]}}' in outcome.detail
    assert "tests.run.sample." in outcome.detail
    assert hooks.SEEN == []


def test_a_hook_that_is_new_is_not_restored_for_older_jobs(run):
    """A row without its value was enqueued before the hook was: it runs as it always did."""
    assert run(lambda: None, "Inner", listed=["Recorder", "Inner"]).end is End.SUCCEEDED
    assert hooks.SEEN == [("Inner", {"user": 7}), ("Inner", "end")]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CannotBegin", "restore() failed before the body began: builtins.LookupError: no schema acme"),
        ("NotDecorated", "decorate it with @contextlib.contextmanager"),
    ],
)
def test_a_hook_that_cannot_restore_fails_the_attempt_before_the_body(run, name, words):
    """No body runs half dressed, and the hooks around the broken one are left properly."""
    outcome = run(lambda: pytest.fail("the body was called"), "Recorder", name, "Inner")
    assert (outcome.end, outcome.exception) == (End.FAILED, "django_meanwhile.core.errors.ContextError")
    assert f"{PATH}{name}: " in outcome.detail
    assert words in outcome.detail
    assert hooks.SEEN == [("Recorder", "acme"), ("Recorder", "ContextError")]


def test_a_hook_that_cannot_end_fails_the_attempt_of_a_body_that_returned(run):
    """The message says that the body had returned: whether it may run again is for max_attempts to say."""
    outcome = run(lambda: 5, "CannotEnd")
    assert (outcome.end, outcome.exception) == (End.FAILED, "django_meanwhile.core.errors.ContextError")
    assert "after the body had returned: builtins.ConnectionError: the schema cannot be left" in outcome.detail


def test_without_a_value_nothing_is_stored(settings, monkeypatch):
    """None means nothing to restore: the row is as it would be without the hook."""
    plain = capture("a.task")
    monkeypatch.setattr(hooks.Recorder, "VALUE", None)
    settings.MEANWHILE = {"CONTEXT": [PATH + "Recorder"]}
    assert capture("a.task") == plain


def test_a_capture_that_fails_refuses_the_enqueue(database, settings):
    """Nothing is inserted; the error names the task, the hook and its reason."""
    from django_meanwhile.models import Job

    settings.MEANWHILE = {"CONTEXT": [PATH + "CannotCapture"], "TASK_MODULES": ["tests.run.sample"]}
    with pytest.raises(ContextError, match=r"sample\.add: not enqueued.*CannotCapture raised .*LookupError: no tenant"):
        sample.add.using(backend=database).enqueue(1, 2)
    assert not Job.objects.using(database).exists()


@pytest.mark.parametrize(("value", "words"), [({1, 2}, r"Pass sorted\(value\)"), ("x" * 20_000, "16,384 bytes")])
def test_a_captured_value_is_one_that_an_argument_could_be(settings, monkeypatch, value, words):
    """What could not be read back is refused as an argument would be, with the mend."""
    monkeypatch.setattr(hooks.Recorder, "VALUE", value)
    settings.MEANWHILE = {"CONTEXT": [PATH + "Recorder"]}
    with pytest.raises(ContextError, match=rf"a\.task: what {PATH}Recorder\.capture\(\) returned.*{words}"):
        capture("a.task")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (PATH + "Recoder", "cannot be imported"),
        ("Recorder", "cannot be imported"),
        (PATH + "instance", "is no class but a Recorder"),
        (PATH + "OnlyHalf", r"has no restore\(\)"),
        (PATH + "NeedsArguments", "making an instance of it failed"),
    ],
)
def test_a_path_that_is_no_hook_is_refused_by_name(settings, path, words):
    """The error names the path, and what a hook is."""
    settings.MEANWHILE = {"CONTEXT": [path]}
    with pytest.raises(ContextError, match=rf'MEANWHILE\["CONTEXT"\] names .{path}., which .*{words}|{words}'):
        capture("a.task")


@pytest.mark.slow
def test_a_tenant_travels_through_a_real_worker(project):
    """Captured in one process, restored in another, in a thread, on the loop and in a process of its own."""
    project.meanwhile = {"CONTEXT": ["tests.project.tenants.Tenant"]}
    enqueue = (
        "from tests.project.tenants import *\n"
        "current.set('acme')\n"
        "print(*(task.enqueue().id for task in (tenant, atenant, process_tenant)))"
    )
    ids = project.python(enqueue).stdout.split()
    worker = project.start("meanwhile", "worker", "--drain")
    assert worker.wait(60) == 0, worker.log

    def results():
        rows = project.sql("SELECT result FROM meanwhile_job WHERE result IS NOT NULL")
        return [json.loads(result) for (result,) in rows]

    assert eventually(results) == ["acme"] * len(ids) == ["acme"] * 3
