"""Circles of waits that lead through ``parallel()`` or ``TaskGroup``: one wait is refused, whoever comes last.

Each wait of these tests has an end, so that a circle that nobody sees fails a test and does not hold it up.
"""

import gc
import threading
import weakref

import pytest
from django.db import transaction

from django_meanwhile.concurrent import TaskGroup, WouldDeadlock, parallel
from django_meanwhile.concurrent.threads import deadlock
from django_meanwhile.concurrent.threads import executor as executors
from django_meanwhile.concurrent.together import scope
from tests.concurrent.conftest import PATIENCE
from tests.playground import eventually


@pytest.fixture
def pool(monkeypatch, settings):
    """Replace the process's pool by one of these settings, and return it."""
    made = []

    def replace(**concurrent):
        settings.MEANWHILE = {"CONCURRENT": concurrent}
        monkeypatch.setattr(executors, "_default", None)
        made.append(executors.default_executor()._pool)
        return made[-1]

    yield replace
    for one in made:
        one.close("the test has ended")
    eventually(lambda: not deadlock._waiting, what="nobody is noted as waiting, whom the next test would count")


def waits(count):
    """Wait until so many threads of pools wait, as far as ``deadlock`` sees."""
    eventually(lambda: len(deadlock._waiting) == count, what=f"{count} threads wait")


def in_parallel(*calls, **options):
    """Run the calls by ``parallel()``, which cannot be told to begin its wait later."""
    return parallel(*calls, **options)


def in_group(*calls, before_the_end=lambda: None, **options):
    """Run the calls by a ``TaskGroup``, whose wait begins when the block says so."""
    with TaskGroup(**options) as group:
        futures = [group.create_task(call) for call in calls]
        before_the_end()
    return tuple(future.result() for future in futures)


def leaves(error):
    """Return the errors in groups of groups."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]


@pytest.mark.parametrize("together", [in_parallel, in_group])
def test_a_call_that_waits_for_the_pool_whose_thread_waits_for_it_learns_so(pool, executor, together):
    """The small pool's only thread waits for a call elsewhere, which then waits for one in the small pool's queue."""
    pool()
    small = executor(1, thread_name_prefix="small")

    def call():
        waits(1)
        return small.submit(divmod, 7, 2).result()

    error = small.submit(together, call).exception(timeout=PATIENCE)
    assert isinstance(error, ExceptionGroup)
    (own,) = error.exceptions
    assert isinstance(own, WouldDeadlock)
    for words in ("thread 'default_executor_0'", "builtins.divmod", "executor 'small' (max_workers=1)", "return"):
        assert words in str(own)


def test_it_is_that_call_also_if_the_scopes_wait_begins_last(pool, executor, caplog):
    """Its wait is under way, and ends with the error; the scope neither gives it up nor waits for a second."""
    pool()
    small = executor(1)

    def call():
        return small.submit(divmod, 7, 2).result()

    error = small.submit(in_group, call, before_the_end=lambda: waits(1)).exception(timeout=PATIENCE)
    assert isinstance(error, ExceptionGroup)
    (own,) = error.exceptions
    assert isinstance(own, WouldDeadlock)
    assert "builtins.divmod, which is queued in executor" in str(own)
    assert not caplog.records, "nothing was given up"


def test_the_refused_call_may_handle_the_error(pool, executor):
    """It is raised where it waits: the call can go on without the result, and all ends well."""
    pool()
    small = executor(1)

    def call():
        nested = small.submit(int)
        try:
            return nested.result()
        except WouldDeadlock:
            return nested

    (nested,) = small.submit(in_group, call, before_the_end=lambda: waits(1)).result(timeout=PATIENCE)
    assert nested.result(timeout=PATIENCE) == 0


def test_exceptions_that_are_returned(pool, executor):
    """With ``return_exceptions`` the error is among the results, and stops nobody."""
    pool()
    small = executor(1)
    found = small.submit(parallel, lambda: small.submit(int).result(), int, return_exceptions=True)
    error, zero = found.result(timeout=PATIENCE)
    assert isinstance(error, WouldDeadlock)
    assert zero == 0


def test_each_of_several_calls_that_wait_is_told(pool, executor, monkeypatch):
    """All wait when the scope's wait begins: each would keep it for ever, and nobody wakes it in between."""
    pool(max_workers=2)
    small, wait = executor(1), scope.Scope.wait
    monkeypatch.setattr(scope.Scope, "wait", lambda *args, **options: (waits(2), wait(*args, **options))[1])

    def call():
        return small.submit(int).result()

    errors = small.submit(parallel, call, call, return_exceptions=True).result(timeout=PATIENCE)
    assert [type(error) for error in errors] == [WouldDeadlock] * 2
    assert errors[0] is not errors[1]


def test_what_a_group_waits_for(pool, gate):
    """What whoever waits would run, or whoever stops would cancel, is not stuck, in the moments before that is done."""
    shared, hold = pool(max_workers=1, max_queued=2), gate()
    executors.default_executor().submit(hold)
    hold.wait_until_begun()
    blocked = set(shared._threads)
    with TaskGroup(max_workers=1) as group:
        futures = [group.create_task(int) for _ in range(2)]
        tasks, (queued, later) = group._scope, group._scope.alive
        for helps, is_stopping, can_end in (
            (False, False, [False, False]), (True, False, [True, True]), (False, True, [True, True]),
        ):  # fmt: skip
            tasks._helps = tasks._runs_what_finds_no_room = helps
            tasks.is_stopping = is_stopping
            assert [tasks.can_end(member, blocked) for member in (queued, later)] == can_end
        tasks.is_stopping = False
        queued.future, future = None, queued.future
        assert tasks.can_end(queued, blocked), "it has let go of its future, which has ended"
        queued.future = future
        assert tasks.can_end(later, set()), "a thread goes on, and makes room"
        hold.open()
    assert [future.result() for future in futures] == [0, 0]


@pytest.mark.parametrize("together", [in_parallel, in_group])
@pytest.mark.parametrize("last", ["innermost", "outermost"])
def test_three_levels(pool, executor, together, last):
    """The circle leads through three scopes in three threads: the innermost call has the error, none is given up."""
    pool(max_workers=4)
    small = executor(1)
    ready = threading.Event()

    def innermost():
        if last == "innermost":
            waits(3)
        return small.submit(int).result()

    def outermost():
        with TaskGroup() as group:
            group.create_task(together, lambda: together(innermost))
            if last == "outermost":
                waits(3)
                ready.set()

    error = small.submit(outermost).exception(timeout=PATIENCE)
    assert [type(leaf) for leaf in leaves(error)] == [WouldDeadlock]
    assert ready.is_set() == (last == "outermost")


@pytest.mark.parametrize("together", [in_parallel, in_group])
def test_through_two_pools(pool, executor, together):
    """Pool one's thread waits for a scope, whose call waits for pool two, whose call waits for pool one."""
    pool()
    one, two = executor(1), executor(1)

    def in_two():
        return one.submit(int).result()

    error = one.submit(together, lambda: two.submit(in_two).result()).exception(timeout=PATIENCE)
    assert [type(leaf) for leaf in leaves(error)] == [WouldDeadlock]


@pytest.mark.parametrize("together", [in_parallel, in_group])
def test_calls_that_have_not_had_their_turn_are_no_way_out(pool, executor, together):
    """One at a time: the second call will begin when the first has ended, and that never ends."""
    pool()
    small, begun = executor(1), threading.Event()

    def first():
        waits(1)
        return small.submit(int).result()

    error = small.submit(together, first, begun.set, max_workers=1).exception(timeout=PATIENCE)
    assert [type(leaf) for leaf in leaves(error)] == [WouldDeadlock]
    assert not begun.is_set()


@pytest.mark.parametrize("last", ["scope", "call"])
def test_a_scope_whose_call_is_queued_behind_a_thread_that_waits_for_it(pool, executor, last):
    """The shared pool's only thread waits for the call that waits for the shared pool: one of the two learns so."""
    pool(max_workers=1)
    small, begun, holds = executor(1), threading.Event(), threading.Event()

    def outer():
        assert holds.wait(PATIENCE)
        if last == "scope":
            waits(1)
        return parallel(begun.set)

    waited_for = small.submit(outer)

    def hold():
        holds.set()
        if last == "call":
            waits(1)
        return waited_for.result()

    holding = executors.default_executor().submit(hold)
    errors = [waited_for.exception(timeout=PATIENCE), holding.exception(timeout=PATIENCE)]
    if last == "scope":
        assert [type(leaf) for leaf in leaves(errors[0])] == [WouldDeadlock]
        assert "a call of parallel(): " in str(errors[0])
        assert errors[1] is errors[0], "the result of its wait"
        assert not begun.is_set(), "it was cancelled"
    else:
        assert errors[0] is None
        assert isinstance(errors[1], WouldDeadlock)


def test_what_could_never_begin_is_among_the_exceptions_that_are_returned(pool, executor):
    """With ``return_exceptions`` a queued call of a refused wait has the error as its result, not its cancellation."""
    pool(max_workers=1)
    small, begun, holds = executor(1), threading.Event(), threading.Event()

    def outer():
        assert holds.wait(PATIENCE)
        waits(1)
        return parallel(begun.set, return_exceptions=True)

    waited_for = small.submit(outer)

    def hold():
        holds.set()
        return waited_for.result()

    (error,) = executors.default_executor().submit(hold).result(timeout=PATIENCE)
    assert isinstance(error, WouldDeadlock)
    assert not begun.is_set()


@pytest.mark.parametrize("refused", ["call", "scope", "scope that returns it"])
def test_the_error_leaves_no_cycle_behind(pool, executor, refused):
    """What it holds is gone when the error is, without the collector."""
    pool(max_workers=1)
    small, holds, seen = executor(1), threading.Event(), []

    def outer():
        assert holds.wait(PATIENCE)
        if refused != "call":
            waits(1)
        try:
            found = parallel(int, return_exceptions=refused == "scope that returns it")
            if refused != "call":
                seen.append(weakref.ref(found[0]))
        except ExceptionGroup as error:
            seen.append(weakref.ref(error.exceptions[0]))

    def hold(waited_for):
        holds.set()
        if refused == "call":
            waits(1)
        try:
            waited_for.result()
        except WouldDeadlock as error:
            seen.append(weakref.ref(error))

    gc.collect()
    gc.disable()
    try:
        executors.default_executor().submit(hold, small.submit(outer)).result(timeout=PATIENCE)
        eventually(lambda: [reference() for reference in seen] == [None], what="it is gone")
    finally:
        gc.enable()


def test_a_call_that_waits_for_room_is_refused_as_well(pool, executor):
    """The scope waits for a call that waits for room in the pool whose only thread waits for the scope."""
    pool()
    small = executor(1, max_queued=1)

    def call():
        return [small.submit(int) for _ in range(2)]  # the second one finds no room

    error = small.submit(in_group, call, before_the_end=lambda: waits(1)).exception(timeout=PATIENCE)
    (own,) = leaves(error)
    assert isinstance(own, WouldDeadlock)
    assert "for ever for room in the queue of executor" in str(own)


def test_a_task_that_ends_its_own_group(pool, caplog):
    """It waits for itself, and there is nobody else to be told."""
    pool()
    group = TaskGroup()
    with pytest.raises(ExceptionGroup) as caught, group:  # noqa: PT012 - the block is a part of it
        ended = group.create_task(lambda: group.__exit__(None, None, None))
        assert isinstance(ended.exception(timeout=PATIENCE), WouldDeadlock)
    assert caught.value.exceptions == (ended.exception(),)
    assert len(caplog.records) == 2, "given up; and failed after that"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("last", ["default_executor", "meanwhile-coroutine"])
def test_a_circle_of_scopes_alone(pool, database, monkeypatch, last):
    """Inside atomic() the pool's thread cannot run its calls itself; what one of them nests never had a thread."""
    pool(max_workers=1)
    begun, wait = threading.Event(), scope.Scope.wait

    def wait_in_order(*args, **options):
        if threading.current_thread().name.startswith(last):
            waits(1)
        return wait(*args, **options)

    monkeypatch.setattr(scope.Scope, "wait", wait_in_order)

    def outer():
        with transaction.atomic(using=database):
            return parallel(lambda: parallel(begun.set), outside_transaction=True)

    error = executors.default_executor().submit(outer).exception(timeout=PATIENCE)
    assert [type(leaf) for leaf in leaves(error)] == [WouldDeadlock]
    assert not begun.is_set()


@pytest.mark.parametrize("together", [in_parallel, in_group])
def test_a_timeout_further_out_ends_all(pool, executor, together, time_by):
    """A wait with an end is no part of a circle: ``TimeoutError``, and then the call has its thread."""
    pool()
    small, seen, begun, ended = executor(1), [], threading.Event(), threading.Event()
    time_by(begun.is_set)

    def call():
        nested = small.submit(int)
        begun.set()
        seen.append(nested.result())

    def outer():
        try:
            together(call)
        finally:
            ended.set()

    error = small.submit(parallel, outer, timeout=0.1).exception(timeout=PATIENCE)
    assert type(error) is TimeoutError
    assert ended.wait(PATIENCE)
    assert seen == [0]


def test_a_full_pool_whose_threads_wait_for_the_group(pool, executor):
    """A task has its turn and finds no room; who would make room waits for the block. That one learns so."""
    shared = pool(max_workers=1, max_queued=1)
    small, go, fill, scopes = executor(1), threading.Event(), [], []

    def outer():
        with TaskGroup(max_workers=1) as group:
            scopes.append(group._scope)
            group.create_task(go.wait, PATIENCE)
            second = group.create_task(int)
        return second.result()

    def ask():
        with scopes[0].lock:  # the block looks for room again and again: not between two of its waits, nor during one
            return deadlock._waiting and waited_for.result()

    def hold():
        eventually(shared.is_full, what="another one has taken the place in the queue")
        return eventually(ask, what="the block waits")

    waited_for = small.submit(outer)
    waits(1)
    holding = executors.default_executor().submit(hold)
    filling = threading.Thread(target=lambda: fill.append(executors.default_executor().submit(str)))
    filling.start()  # and waits for room
    eventually(lambda: len(shared._room._waiters) == 1, what="it waits")
    go.set()
    assert isinstance(holding.exception(timeout=PATIENCE), WouldDeadlock)
    assert waited_for.result(timeout=PATIENCE) == 0
    filling.join(PATIENCE)
    assert fill[0].result(timeout=PATIENCE) == ""


def test_a_full_pool_is_no_obstacle_in_a_thread_of_its_own(pool):
    """There whoever waits for the group runs itself what has its turn, though the others wait for it."""
    shared = pool(max_workers=2, max_queued=1)
    go, begun, queued = threading.Event(), threading.Event(), threading.Event()
    default = executors.default_executor()

    def outer():
        with TaskGroup(max_workers=1) as group:
            group.create_task(lambda: (begun.set(), go.wait(PATIENCE)))
            second = group.create_task(int)
            assert begun.wait(PATIENCE)  # in the other thread
            assert queued.wait(PATIENCE)
        return second.result()

    def hold():
        eventually(lambda: shared.is_full() or waited_for.done(), what="another one has taken the place in the queue")
        return waited_for.result()

    waited_for = default.submit(outer)
    assert begun.wait(PATIENCE)
    holding = default.submit(hold)
    queued.set()
    fill = []
    filling = threading.Thread(target=lambda: fill.append(default.submit(str)))
    filling.start()
    eventually(lambda: len(shared._room._waiters) == 1, what="it waits for room")
    go.set()
    assert holding.result(timeout=PATIENCE) == waited_for.result(timeout=PATIENCE) == 0
    filling.join(PATIENCE)
    assert fill[0].result(timeout=PATIENCE) == ""


def test_a_request_that_waits_is_not_looked_at(pool, monkeypatch):
    """In a thread that is none of ours ``parallel()`` and ``TaskGroup`` cost nothing more: nobody waits for it."""
    pool()
    monkeypatch.setattr(deadlock, "waiting", None)
    assert in_parallel(int, str) == in_group(int, str) == (0, "")


def test_who_waits_for_what_goes_on_is_left_alone(pool, executor, gate):
    """Scopes in a row behind a call that works wait for it, however full their pools are."""
    pool(max_workers=2)
    small, work = executor(1), gate("worked")
    row = small.submit(in_parallel, lambda: in_group(lambda: in_parallel(work)))
    work.wait_until_begun()
    waits(2)
    work.open()
    assert row.result(timeout=PATIENCE) == ((("worked",),),)
