"""What a scope hears of its calls while other threads change what it knows."""

import contextlib
import threading

import pytest

from django_meanwhile.concurrent import TaskGroup, parallel
from django_meanwhile.concurrent.threads import deadlock
from django_meanwhile.concurrent.threads import executor as executors
from django_meanwhile.concurrent.together import calls, gathering, scope
from tests.playground import eventually


@pytest.fixture
def pool(monkeypatch, settings):
    """Replace the process's pool by one of these settings."""

    def replace(**concurrent):
        monkeypatch.setattr(executors, "_default", None)
        settings.MEANWHILE = {"CONCURRENT": concurrent}
        return executors.default_executor()

    return replace


def test_a_call_that_ends_just_as_it_is_let_go_of(pool, monkeypatch, caplog, time_by):
    """Its future is done, and before the scope hears so, whoever waited has given it up: its error is logged as any."""
    pool()
    begun, go, done, told = threading.Event(), threading.Event(), threading.Event(), threading.Event()
    forgotten, hear = gathering.forgotten, scope.Member.done
    time_by(begun.is_set)

    def fail():
        begun.set()
        assert go.wait(20)
        raise ValueError

    def hear_late(member, future):
        done.set()
        assert let_go.wait(20)
        hear(member, future)
        told.set()

    def forgotten_when_it_is_done(*args):
        go.set()
        assert done.wait(20)
        return forgotten(*args)

    let_go = threading.Event()
    monkeypatch.setattr(scope.Member, "done", hear_late)
    monkeypatch.setattr(gathering, "forgotten", forgotten_when_it_is_done)
    monkeypatch.setattr(gathering, "STOP_WITHIN", 0.01)
    with pytest.raises(TimeoutError, match="Still running"):
        parallel(fail, timeout=0.01)
    let_go.set()
    assert told.wait(20), "the scope heard of it"
    assert "fail failed after it had been given up" in caplog.text


def test_a_task_that_is_refused_before_the_stop_has_come_to_it(pool, monkeypatch):
    """It asks its group for another task while that is being stopped: to be told so is no error of its own."""
    pool()
    stop, begun, stopping = scope.Member.stop, threading.Event(), threading.Event()

    def stop_late(member):
        stopping.set()
        eventually(lambda: member not in member.scope.alive, what="it has ended")
        stop(member)

    def spawn():
        begun.set()
        assert stopping.wait(20)
        group.create_task(int)

    monkeypatch.setattr(scope.Member, "stop", stop_late)
    with pytest.raises(ExceptionGroup) as caught, TaskGroup() as group:  # noqa: PT012 - the block is a part of it
        group.create_task(spawn)
        assert begun.wait(20)
        raise ZeroDivisionError
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]


@pytest.mark.parametrize("when_full", ["wait", "reject"])
def test_a_turn_that_found_no_room_is_taken_later(pool, monkeypatch, when_full):
    """A task's turn comes when others have filled the queue: whoever waits for the group looks until there is room."""
    default, first, results = pool(max_workers=2, when_full=when_full), threading.Event(), []
    shared = default._pool
    is_full, answers = shared.is_full, [True, True]  # when the turn comes, and when whoever waits was told of that
    monkeypatch.setattr(shared, "is_full", lambda: answers.pop() if answers else is_full())

    def run():
        with TaskGroup(max_workers=1) as group:
            group.create_task(first.wait, 20)
            second = group.create_task(int)
            scopes.append(group._scope)
        results.append(second.result())

    scopes = []
    # A thread of a pool that waits runs itself what finds no room; but not if that is to be rejected.
    place = run if when_full == "wait" else lambda: default.submit(run).result(20)
    running = threading.Thread(target=place, daemon=True)
    running.start()
    eventually(lambda: scopes and scopes[0].changed._waiters, what="the block waits")
    first.set()
    running.join(20)
    assert results == [0]
    assert not answers


@pytest.fixture
def as_a_wait_begins(monkeypatch):
    """Have something done once, when a wait is seen and has not begun."""

    def replace(function):
        todo, begin = [function], deadlock.waiting

        @contextlib.contextmanager
        def begin_late(*args, **options):
            with begin(*args, **options) as wait:
                while todo:
                    todo.pop()()
                yield wait

        monkeypatch.setattr(deadlock, "waiting", begin_late)

    return replace


def test_a_call_that_ends_just_as_the_wait_for_it_begins(pool, executor, gate, as_a_wait_begins):
    """In a thread of a pool, which asks once more before it sleeps: nobody would wake it."""
    pool()
    work, waited = gate("worked"), []

    def end_it():
        work.open()
        eventually(lambda: not waited[0].alive, what="it has ended")

    class Waited(gathering.Gathering):
        def run(self):
            waited.append(self)
            return super().run()

    as_a_wait_begins(end_it)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls, "Gathering", Waited)
        assert executor(1).submit(parallel, work).result(20) == ("worked",)


def test_a_task_that_is_created_just_as_the_wait_begins(pool, as_a_wait_begins):
    """The thread that waits is the only one that is free to run it."""
    shared, ran = pool(max_workers=2), threading.Event()

    def nest():
        with TaskGroup() as group:
            first = group.create_task(ran.wait, 20)

            def create():
                other = threading.Thread(target=group.create_task, args=[ran.set])
                other.start()
                other.join(20)

            as_a_wait_begins(create)
        return first.result()

    assert shared.submit(nest).result(30) is True
