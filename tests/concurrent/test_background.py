"""``create_task()``: what it takes, where it is refused, what a failure becomes, how the end of a loop drains it."""

import asyncio
import contextvars
import gc
import json
import signal
import threading

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.db import connection
from django.test import AsyncClient, TestCase, TransactionTestCase, override_settings
from django.test.utils import _TestState
from django.utils import timezone, translation

from django_meanwhile.concurrent import NoLastingLoop, NotAllowed, background_task_failed, create_task
from django_meanwhile.concurrent.coroutines import residents
from django_meanwhile.testing import run_background_tasks
from tests.embedded.servers import Server, serve
from tests.playground import Playground, Project, eventually
from tests.processes.harness import said
from tests.project.models import Mark

ASGI = json.dumps({"ROOT_URLCONF": "tests.project.concurrency_urls"})


async def value(result=None):
    """Return at once."""
    return result


async def fail():
    """Raise."""
    raise ValueError("no luck")


@pytest.fixture(autouse=True)
def _truth(monkeypatch, tmp_path):
    """Say where bodies write what they did."""
    monkeypatch.setenv("MEANWHILE_TEST_PATH", str(tmp_path))


@pytest.fixture
def in_production(monkeypatch):
    """Let this process pass for one that is not under test."""
    monkeypatch.delattr(_TestState, "saved_data")


# --- what it returns ----------------------------------------------------------------------------


def test_it_returns_a_task_with_a_name_and_a_result() -> None:
    """An asyncio.Task: awaitable, named after the coroutine or as told."""

    async def main():
        task = create_task(value(3))
        assert isinstance(task, asyncio.Task)
        assert task.get_name() == "value"
        assert create_task(value(), name="mail").get_name() == "mail"
        return await task

    assert asyncio.run(main()) == 3


def test_it_is_held_until_it_is_done() -> None:
    """Nobody keeps the task, and the garbage collector takes it nevertheless only when it has ended."""
    ended = []

    async def wait_for(opened, done):
        await opened.wait()
        ended.append(True)
        done.set()

    async def main():
        opened, done = asyncio.Event(), asyncio.Event()
        create_task(wait_for(opened, done))
        await asyncio.sleep(0)
        gc.collect()
        residents_here = residents.residents_of(asyncio.get_running_loop())
        assert len(residents_here.tasks) == 1
        opened.set()
        await done.wait()
        await asyncio.sleep(0.01)
        assert not residents_here.tasks

    asyncio.run(main())
    assert ended == [True]


def test_context_language_and_time_zone_are_the_callers() -> None:
    """What was in force where create_task() was called is in force in the coroutine, in its ORM thread as well."""
    variable = contextvars.ContextVar("variable", default="none")

    def look():
        return variable.get(), translation.get_language(), timezone.get_current_timezone_name()

    async def both():
        return look(), await sync_to_async(look)()

    async def main():
        variable.set("acme")
        with translation.override("de"), timezone.override("Asia/Tokyo"):
            task = create_task(both())
        variable.set("other")
        return await task

    assert asyncio.run(main()) == (("acme", "de", "Asia/Tokyo"),) * 2


@override_settings(MEANWHILE={"CONTEXT": ["tests.project.tenants.Tenant"]})
def test_the_projects_hooks_are_restored() -> None:
    """A hook of MEANWHILE["CONTEXT"] is captured in the caller and restored around the coroutine."""
    from tests.project import tenants

    async def tenant():
        return tenants.current.get()

    async def main():
        tenants.current.set("acme")
        task = create_task(tenant())
        tenants.current.set(None)
        return await task

    assert asyncio.run(main()) == "acme"


def test_the_orm_thread_is_no_requests(in_production) -> None:
    """ORM calls of all background coroutines run in one thread, which is no request's and outlives them."""

    async def thread_of(event=None):
        if event is not None:
            await event.wait()
        return await sync_to_async(threading.current_thread)()

    async def main():
        ended = asyncio.Event()
        async with ThreadSensitiveContext():  # as Django puts around each request
            requests_own = await sync_to_async(threading.current_thread)()
            tasks = [create_task(thread_of()), create_task(thread_of(ended))]
            await tasks[0]
        ended.set()
        threads = {await task for task in tasks}
        assert len(threads) == 1
        assert requests_own not in threads
        assert threads.pop().name.startswith("meanwhile-background")

    asyncio.run(main())


def test_a_sync_middlewares_executor_is_left_behind(in_production) -> None:
    """Of a view under sync middleware nothing remains that breaks when the middleware has returned."""

    async def main():
        ended = asyncio.Event()

        async def later():
            await ended.wait()
            return await sync_to_async(threading.current_thread)()

        async def view():
            return create_task(later())

        def middleware():
            return async_to_sync(view)()

        task = await sync_to_async(middleware)()
        ended.set()
        assert (await task).name.startswith("meanwhile-background")

    asyncio.run(main())


# --- failures -----------------------------------------------------------------------------------


def test_a_failure_is_logged_and_sent_even_if_a_receiver_raises(caplog) -> None:
    """ERROR with name and traceback; every receiver gets name and exception; whoever awaits the task gets it too."""
    got = []

    def broken(**_):
        raise RuntimeError("receiver")

    async def receiver(sender, name, exception, **_):
        got.append((sender, name, str(exception)))

    background_task_failed.connect(broken)
    background_task_failed.connect(receiver)
    try:

        async def main():
            task = create_task(fail(), name="mail")
            with pytest.raises(ValueError, match="no luck"):
                await task

        asyncio.run(main())
    finally:
        background_task_failed.disconnect(broken)
        background_task_failed.disconnect(receiver)
    assert got == [(create_task, "mail", "no luck")]
    [record] = [record for record in caplog.records if record.name == "django_meanwhile.concurrent"]
    assert record.getMessage() == "background coroutine mail failed"
    assert record.exc_info is not None
    assert "receiver" in caplog.text


def test_nobody_need_ask_for_a_failure(caplog) -> None:
    """A failed task that nobody awaits is told once: asyncio does not complain as well."""

    async def main():
        create_task(fail())
        for _ in range(5):
            await asyncio.sleep(0)
        gc.collect()

    asyncio.run(main())
    gc.collect()
    assert "never retrieved" not in caplog.text
    assert caplog.text.count("background coroutine fail failed") == 1


def test_an_exit_in_a_coroutine_ends_no_server(caplog) -> None:
    """SystemExit is a failure like others: the loop goes on."""

    async def leave():
        raise SystemExit(3)

    async def main():
        with pytest.raises(RuntimeError, match="SystemExit"):
            await create_task(leave())
        return "goes on"

    assert asyncio.run(main()) == "goes on"
    assert "background coroutine" in caplog.text


def test_a_task_that_is_cancelled_is_no_failure(caplog) -> None:
    """cancel() while the loop runs does what asyncio's does, and nothing is logged."""

    async def main():
        task = create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not caplog.records


# --- refusals -----------------------------------------------------------------------------------


def test_without_a_loop_it_is_refused() -> None:
    """In sync code: NoLastingLoop points to @task, and the coroutine is closed, so that Python does not complain."""
    coroutine = value()
    with pytest.raises(NoLastingLoop, match=r"create_task\(value\): no event loop runs .*@task.* --interface asgi\.$"):
        create_task(coroutine)
    assert coroutine.cr_frame is None


def test_on_a_private_loop_it_is_refused(in_production) -> None:
    """The loop that async_to_sync() makes ends with its call: refused, in the view and in what it awaits or creates."""

    async def view():
        with pytest.raises(
            NoLastingLoop, match=r"private one of async_to_sync.*runserver.*@task.* --interface asgi\.$"
        ):
            create_task(value())
        return await asyncio.get_running_loop().create_task(deeper())

    async def deeper():
        with pytest.raises(NoLastingLoop):
            create_task(value())
        return "refused"

    assert async_to_sync(view)() == "refused"


def test_under_a_lasting_loop_async_to_sync_is_no_hindrance(in_production) -> None:
    """async_to_sync() in a thread of sync_to_async() runs on the loop that lasts: allowed."""

    async def inner():
        return create_task(value("well"))

    async def main():
        task = await sync_to_async(async_to_sync(inner))()
        return await task

    assert asyncio.run(main()) == "well"


def _function():
    """No coroutine."""


async def _generator():
    yield


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (value, r"given the function: call it, as in create_task\(value\(\.\.\.\)\)"),
        (_function, "not async"),
        (3, "given int"),
        (_generator(), "async generator"),
    ],
)
def test_what_is_no_coroutine_is_refused(given, message) -> None:
    """With what to write instead."""

    async def main():
        with pytest.raises(NotAllowed, match=message):
            create_task(given)

    asyncio.run(main())


def test_a_task_that_runs_is_refused() -> None:
    """A task of asyncio's own runs already: whoever made it keeps it."""

    async def main():
        task = asyncio.get_running_loop().create_task(value())
        with pytest.raises(NotAllowed, match="runs already"):
            create_task(task)
        await task

    asyncio.run(main())


# --- the end of a loop --------------------------------------------------------------------------


def test_when_the_loop_ends_coroutines_are_drained() -> None:
    """asyncio.run() returns when the coroutine has ended by itself, not cancelled."""
    ended = []

    async def slow():
        await asyncio.sleep(0.05)
        ended.append(await sync_to_async(lambda: "through the thread")())

    async def main():
        create_task(slow())

    asyncio.run(main())
    assert ended == ["through the thread"]


def test_when_the_loop_ends_what_coroutines_have_started_is_drained_too() -> None:
    """What a coroutine gathers goes on with it, and so does a task that it left running."""
    ended = []

    async def part(number: int, after: asyncio.Event | None = None) -> int:
        if after is not None:
            await after.wait()
        await asyncio.sleep(0.05 * number)
        ended.append(number)
        return number

    async def whole() -> None:
        summed = asyncio.Event()
        left = asyncio.create_task(part(3, after=summed))
        left.add_done_callback(lambda task: ended.append(task.cancelled()))
        ended.append(sum(await asyncio.gather(part(1), part(2))))
        summed.set()

    async def main() -> None:
        create_task(whole())
        await asyncio.sleep(0)  # it has begun, and its parts are tasks of the loop

    asyncio.run(main())
    assert ended == [1, 2, 3, 3, False]


@override_settings(MEANWHILE={"CONCURRENT": {"drain": 0.1}})
def test_over_the_deadline_they_are_cancelled_and_named(caplog) -> None:
    """After MEANWHILE["CONCURRENT"]["drain"] seconds: CancelledError in each, and one WARNING with their names."""
    cancelled = []

    async def slow(name):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(name)
            raise

    async def main():
        create_task(slow("b"), name="b")
        create_task(slow("a"), name="a")
        create_task(value(), name="quick")
        await asyncio.sleep(0)

    asyncio.run(main())
    assert sorted(cancelled) == ["a", "b"]
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == "background coroutines cancelled, as the server ends: a, b; not done within 0.1 s"


@override_settings(MEANWHILE={"CONCURRENT": {"drain": 60}})
def test_before_a_server_kills_they_are_cancelled_and_named(caplog, monkeypatch) -> None:
    """A server that will kill its process within 0.2 s: no 60 s, but the WARNING of those that are not done by then."""
    monkeypatch.setattr(residents, "_cut_off_at", None)

    async def main():
        create_task(asyncio.sleep(120), name="slow")
        await asyncio.sleep(0)
        residents.cut_off_within(0.2)

    asyncio.run(main())
    [record] = caplog.records
    assert record.getMessage() == "background coroutines cancelled, as the server ends: slow; not done within 0.2 s"


def test_while_the_loop_ends_none_is_taken(caplog) -> None:
    """A coroutine that is being drained cannot start another: that is refused, and so told as its failure."""

    async def starts_another():
        await asyncio.sleep(0.01)
        create_task(value())

    async def main():
        create_task(starts_another(), name="mother")

    asyncio.run(main())
    assert "background coroutine mother failed" in caplog.text
    assert "the event loop is ending" in caplog.text


def test_a_loop_that_is_left_standing_is_drained_at_exit(bare_project) -> None:
    """A server that stops its loop and never cancels its tasks, as Granian and Daphne do: drained at exit."""
    code = """
import asyncio
from django_meanwhile.concurrent import create_task
async def slow():
    await asyncio.sleep(0.2); print("drained", flush=True)
async def main():
    create_task(slow())
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
print("standing", flush=True)
"""
    if bare_project.vendor == "sqlite":
        assert bare_project.python(code).stdout.split() == ["standing", "drained"]


# --- under test ---------------------------------------------------------------------------------


class InATestCase(TestCase):
    """On the private loop of an async test."""

    async def test_a_coroutine_writes_on_the_tests_connection(self) -> None:
        """It sees the test's data and is rolled back with it; run_background_tasks() waits for it."""
        await Mark.objects.acreate(text="of the test")

        async def count_and_write():
            count = await Mark.objects.acount()
            await Mark.objects.acreate(text="in the background")
            return count

        task = create_task(count_and_write())
        await run_background_tasks()
        assert task.result() == 1
        assert await Mark.objects.acount() == 2

    async def test_it_waits_for_those_that_others_start(self) -> None:
        """A coroutine that starts another: both have ended."""
        ended = []

        async def inner():
            await asyncio.sleep(0)
            ended.append("inner")

        async def outer():
            await asyncio.sleep(0)
            create_task(inner())

        create_task(outer())
        await run_background_tasks()
        assert ended == ["inner"]
        await run_background_tasks()  # none: at once

    async def test_a_failure_fails_the_test(self) -> None:
        """What a coroutine raised comes out of run_background_tasks(), also if it had ended before; only once."""
        create_task(fail(), name="mail")
        await asyncio.sleep(0.01)
        with pytest.raises(ExceptionGroup, match="background coroutines failed: mail") as caught:
            await run_background_tasks()
        assert isinstance(caught.value.exceptions[0], ValueError)
        await run_background_tasks()

    async def test_what_does_not_end_is_named(self) -> None:
        """A TimeoutError names what still runs."""
        never = asyncio.Event()
        task = create_task(never.wait(), name="stuck")
        with pytest.raises(TimeoutError, match=r"stuck.*0\.05 s"):
            await run_background_tasks(timeout=0.05)
        never.set()
        await task


@override_settings(ROOT_URLCONF="tests.project.concurrency_urls")
class OfViews(TransactionTestCase):
    """A view that starts a coroutine, by both test clients."""

    async def test_by_the_async_client(self) -> None:
        """The response comes first; the coroutine has ended after run_background_tasks()."""
        with override_settings(MIDDLEWARE=["django.middleware.common.CommonMiddleware"]):
            await AsyncClient().get("/background/x/", {"seconds": "0.01"})
        await run_background_tasks()
        assert {mark.text async for mark in Mark.objects.all()} == {"x begun", "x done"}

    def test_by_the_sync_client(self) -> None:
        """There each request has a loop of its own, which waits for its coroutines: get() returns when they ended."""
        self.client.get("/background/x/", {"seconds": "0.01"})
        assert {mark.text for mark in Mark.objects.all()} == {"x begun", "x done"}
        assert connection.connection is not None


# --- real servers -------------------------------------------------------------------------------


@pytest.fixture
def asgi(playground: Playground, tmp_path):
    """A migrated project, and a way to serve it."""
    with playground.project("sqlite", tmp_path, migrated=True) as project:
        yield project


def _start(project: Project, kind: str, drain: float) -> Server:
    project.meanwhile = {"EMBEDDED": False, "CONCURRENT": {"drain": drain}}
    return serve(project, kind, MEANWHILE_TEST_EXTRA=ASGI)


def _marks(project: Project) -> set[str]:
    return {row[0] for row in project.sql("SELECT text FROM project_mark")}


@pytest.mark.parametrize("kind", ["uvicorn", "granian"])
def test_a_server_that_ends_waits_for_its_coroutines(asgi, kind) -> None:
    """SIGTERM while a coroutine runs, long after its request: it ends by itself, its last query included."""
    server = _start(asgi, kind, drain=20)
    assert server.get("/background/x/", seconds=1.5) == "0"
    eventually(lambda: said(asgi, "begin", "x"), what="the coroutine has begun")
    server.end(signal.SIGTERM)
    server.running.wait()
    assert said(asgi, "end", "x")
    assert _marks(asgi) == {"x begun", "x done"}


@pytest.mark.parametrize("kind", ["uvicorn", "granian"])
def test_a_server_waits_no_longer_than_the_deadline(asgi, kind) -> None:
    """A coroutine that goes on for a minute is cancelled after the deadline, and named on the server's log."""
    server = _start(asgi, kind, drain=0.3)
    server.get("/background/x/", seconds=60)
    eventually(lambda: said(asgi, "begin", "x"), what="the coroutine has begun")
    server.end(signal.SIGTERM)
    server.running.wait()
    assert said(asgi, "cancelled", "x")
    assert "background coroutines cancelled, as the server ends: x; not done within 0.3 s" in server.running.log


def test_many_coroutines_share_one_connection(asgi) -> None:
    """Forty coroutines at once that use the ORM all end, through one thread: no forty connections."""
    server = _start(asgi, "uvicorn", drain=5)
    server.get("/many/")
    eventually(lambda: len(_marks(asgi)) == 80, what="all have ended")
    threads = json.loads(server.get("/inside/"))["threads"]
    assert len([name for name in threads if name.startswith("meanwhile-background")]) == 1


@pytest.mark.parametrize(("kind", "page"), [("gunicorn-threads", "arefused"), ("uvicorn", "refused")])
def test_a_server_without_a_loop_for_it_is_told(asgi, kind, page) -> None:
    """Under WSGI an async view, and under ASGI a sync one, gets NoLastingLoop with the way out."""
    answer = _start(asgi, kind, drain=5).get(f"/{page}/")
    assert answer.startswith("NoLastingLoop")
    assert "@task" in answer
