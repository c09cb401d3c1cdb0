"""What surrounds a call: it is in force in the thread, whatever asgiref keeps it in, and nothing of it stays there."""

import asyncio
import contextvars
import threading

import pytest
from asgiref.local import Local
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.core.cache import caches
from django.test import override_settings
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

from django_meanwhile.concurrent import context
from django_meanwhile.concurrent.context import capture
from django_meanwhile.core.errors import ContextError
from tests.concurrent.conftest import PATIENCE
from tests.run import hooks

TENANT = contextvars.ContextVar("tenant", default="none")
LOCAL = Local()
HOOKS = "tests.run.hooks."


def surroundings():
    """Return all that Django and the project keep around a call."""
    return (
        TENANT.get(),
        getattr(LOCAL, "tenant", None),
        translation.get_language(),
        timezone.get_current_timezone_name(),
        get_urlconf(),
        get_script_prefix(),
    )


def set_all(mark="acme"):
    """Set every one of them in the calling thread."""
    TENANT.set(mark)
    LOCAL.tenant = mark
    translation.activate("fr")
    timezone.activate("Asia/Tokyo")
    set_urlconf("tests.urls")
    set_script_prefix(f"/{mark}/")


def in_force(mark="acme"):
    return (mark, mark, "fr", "Asia/Tokyo", "tests.urls", f"/{mark}/")


@pytest.fixture(autouse=True)
def _apart():
    """Run each test in a context of its own, and see that its thread's is as before."""
    hooks.SEEN.clear()


@pytest.fixture(params=["handed over", "by name"])
def way(request, monkeypatch):
    """Both ways to restore language, time zone and URLs: asgiref's values handed over, and by name."""
    if request.param == "by name":
        monkeypatch.setattr(context, "_is_by_name", lambda: True)
    return request.param


def test_this_asgiref_keeps_django_s_values_where_they_are_found():
    """The cheap way is taken with this version; if a new asgiref ends that, this test says so."""
    assert not context._is_by_name()


def apart(function, *args):
    """Call it in a context and a thread of its own, so that no other test sees what it sets."""
    result = []

    def run():
        result.append(contextvars.Context().run(function, *args))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)
    return result[0]


def test_everything_around_the_caller_is_in_force_in_the_call(executor, way):
    """Context variables, asgiref's Locals, language, time zone, URLconf, script prefix."""
    pool = executor(1)

    def caller():
        set_all()
        return pool.submit(surroundings).result(timeout=PATIENCE)

    assert apart(caller) == in_force()


def test_by_name_does_not_need_asgiref_at_all(executor, monkeypatch):
    """If no value could be handed over, language, time zone and URLs would still be in force."""
    monkeypatch.setattr(context, "_is_by_name", lambda: True)
    monkeypatch.setattr(context, "_handed_over", lambda context: ())
    pool = executor(1)

    def caller():
        set_all()
        return pool.submit(surroundings).result(timeout=PATIENCE)

    assert apart(caller)[2:] == in_force()[2:]


def test_nothing_that_a_call_sets_is_seen_by_the_next_one_or_by_the_caller(executor, way):
    """Neither in the same thread nor back in the caller, even where all copies share a Local's dictionary."""
    pool = executor(1)

    def caller():
        set_all()
        here = surroundings()
        pool.submit(set_all, "other").result(timeout=PATIENCE)
        return here, surroundings(), pool.submit(surroundings).result(timeout=PATIENCE)

    before, after, of_the_next = apart(caller)
    assert before == after == of_the_next == in_force()
    assert apart(lambda: pool.submit(surroundings).result(timeout=PATIENCE)) == apart(surroundings)


def test_a_call_finds_what_was_in_force_at_its_submit_however_late_it_begins(executor, gate, way):
    """The caller goes on, and sets other values: the call that still waits does not see them."""
    pool, busy = executor(1), gate()

    def caller():
        pool.submit(busy)
        set_all()
        future = pool.submit(surroundings)
        set_all("other")
        busy.open()
        return future.result(timeout=PATIENCE)

    assert apart(caller) == in_force()


def test_what_the_caller_deactivated_is_off_in_the_call(executor, way):
    """No language at all, as after deactivate_all(), is captured like any other."""
    pool = executor(1)

    def caller():
        translation.deactivate_all()
        return pool.submit(translation.get_language).result(timeout=PATIENCE)

    assert apart(caller) is None


def test_many_calls_in_one_surroundings_run_at_once_and_apart(executor, way):
    """One capture serves any number of threads at the same time; each call has a copy."""
    pool, barrier = executor(4), threading.Barrier(4)

    def call(mark):
        first = surroundings()
        set_all(mark)
        barrier.wait(PATIENCE)
        return first, surroundings()

    def caller():
        set_all()
        captured = capture()
        futures = [pool.start(call, (mark,), {}, surroundings=captured) for mark in "abcd"]
        return [future.result(timeout=PATIENCE) for future in futures]

    assert apart(caller) == [(in_force(), in_force(mark)) for mark in "abcd"]


def test_a_local_is_seen_in_a_call_as_sync_to_async_shows_it(executor):
    """What Django would make visible in a thread, we do, from a coroutine as well."""
    pool = executor(1)

    async def caller():
        set_all()
        theirs = await sync_to_async(surroundings, thread_sensitive=False)()
        ours = await asyncio.get_running_loop().run_in_executor(pool, surroundings)
        return theirs, ours

    theirs, ours = apart(lambda: asyncio.run(caller()))
    assert theirs == ours == in_force()


def test_each_thread_has_caches_of_its_own(executor):
    """Django keeps a cache object for each thread, as drivers may not bear two; a call does not get its caller's."""
    pool = executor(1)

    def caller():
        mine = caches["default"]
        return mine, pool.submit(lambda: caches["default"]).result(timeout=PATIENCE), caches["default"]

    mine, theirs, later = apart(caller)
    assert mine is not theirs
    assert later is mine


@pytest.mark.parametrize("bridge", ["asyncio.run", "async_to_sync"])
def test_a_call_never_comes_back_to_the_thread_that_waits_for_it(executor, bridge):
    """A coroutine in the call may use sync_to_async: that work goes to another thread, not to the caller's.

    The caller is sync code under async code under sync code, so that asgiref knows a way back to its thread.
    """
    pool = executor(1)

    async def use_orm():
        return await sync_to_async(threading.get_ident)()

    def call():
        return asyncio.run(use_orm()) if bridge == "asyncio.run" else async_to_sync(use_orm)()

    def view():
        return threading.get_ident(), pool.submit(call).result(timeout=PATIENCE)

    here, there = apart(async_to_sync(sync_to_async(view)))
    assert here != there


@pytest.mark.parametrize("bridge", ["asyncio.run", "async_to_sync"])
def test_under_asgi_a_call_never_comes_back_to_the_thread_of_its_request(executor, bridge):
    """Each request has a thread for its sync code; a call that it waits for uses another one for its coroutines."""
    pool = executor(1)

    async def use_orm():
        return await sync_to_async(threading.get_ident)()

    def call():
        return asyncio.run(use_orm()) if bridge == "asyncio.run" else async_to_sync(use_orm)()

    def view():
        return threading.get_ident(), pool.submit(call).result(timeout=PATIENCE)

    async def request():
        async with ThreadSensitiveContext():
            return await sync_to_async(view)()

    here, there = apart(lambda: asyncio.run(request()))
    assert here != there


def test_where_asgiref_has_one_thread_for_all_a_call_that_needs_it_learns_so(executor):
    """Outside of requests all sync code of a loop has one thread: if that waits for the call, asgiref says so."""
    pool = executor(1)

    async def use_orm():
        return await sync_to_async(threading.get_ident)()

    def view():
        return pool.submit(asyncio.run, use_orm()).exception(timeout=PATIENCE)

    error = apart(lambda: asyncio.run(sync_to_async(view)()))
    assert isinstance(error, RuntimeError)
    assert "would deadlock" in str(error)


@override_settings(MEANWHILE={"CONTEXT": [HOOKS + "Recorder", HOOKS + "Inner"]})
def test_the_project_s_hooks_are_restored_around_the_call(executor):
    """The first outermost, as around a job; the end of each comes after the call."""
    pool = executor(1)
    pool.submit(lambda: hooks.SEEN.append("call")).result(timeout=PATIENCE)
    assert hooks.SEEN == [
        ("Recorder", "acme"),
        ("Inner", {"user": 7}),
        "call",
        ("Inner", "end"),
        ("Recorder", "end"),
    ]


@override_settings(MEANWHILE={"CONTEXT": [HOOKS + "CannotBegin"]})
def test_a_call_whose_hook_cannot_restore_does_not_run(executor):
    """No function runs without its tenant; the error names function and hook."""
    pool = executor(1)
    error = pool.submit(pytest.fail, "ran without its tenant").exception(timeout=PATIENCE)
    assert isinstance(error, ContextError)
    assert "fail" in str(error)
    assert HOOKS + "CannotBegin: restore() failed before the body began" in str(error)


@override_settings(MEANWHILE={"CONTEXT": [HOOKS + "CannotCapture"]})
def test_a_capture_that_fails_refuses_the_submit(executor):
    """Nothing is started; the error names the function and the hook."""
    pool = executor(1)
    with pytest.raises(ContextError, match=r"surroundings: not started, because capture\(\) of .*CannotCapture"):
        pool.submit(surroundings)
    assert not pool._threads
