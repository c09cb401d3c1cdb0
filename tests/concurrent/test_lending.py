"""Threads that are lent to coroutines: a loop that stands still, a thread that fails at once, a fork."""

import threading

import pytest

from django_meanwhile.concurrent.threads import lending
from tests.concurrent.conftest import PATIENCE
from tests.concurrent.test_executor_connections import SETUP
from tests.concurrent.test_executor_endings import FORK


def test_a_loop_that_was_left_standing_does_not_hold_up_the_end(bare_project):
    """Its coroutines never go on, and so never give their threads back; the process ends all the same."""
    done = bare_project.python(
        SETUP
        + """
import asyncio
from asgiref.sync import sync_to_async
from django_meanwhile.concurrent import aparallel
loop = asyncio.new_event_loop()

async def coroutine():
    await sync_to_async(ask)()
    loop.call_soon(loop.stop)
    await asyncio.Event().wait()

async def main():
    await aparallel(coroutine)

task = loop.create_task(main())
loop.run_forever()
assert not task.done()
print("ends")
""",
        within=30,
    )
    assert done.stdout == "ends\n"


def test_a_lent_thread_that_fails_at_once_fails_its_calls(monkeypatch):
    """Also if it has failed before anybody could ask to be told: the call fails, and the caller does not hang."""
    pool = lending.lenders()
    start = pool.start

    def start_and_fail(*args, **kwargs):
        future = start(*args, **kwargs)
        assert isinstance(future.exception(PATIENCE), ZeroDivisionError)
        return future

    def serve(_thread):
        raise ZeroDivisionError

    monkeypatch.setattr(pool, "start", start_and_fail)
    monkeypatch.setattr(lending.CoroutineThread, "_serve", serve)
    items = []
    caller = threading.Thread(target=lambda: items.append(lending.CoroutineThread().submit(int)), daemon=True)
    caller.start()
    caller.join(PATIENCE)
    assert not caller.is_alive()
    with pytest.raises(RuntimeError, match="has ended"):
        items[0].result(PATIENCE)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_a_fork_while_another_thread_asks_for_a_lender(bare_project):
    """The child can lend threads of its own: it does not wait for a lock that nobody in it will release."""
    bare_project.python(
        SETUP
        + FORK
        + """
from django_meanwhile.concurrent.threads import lending

with lending._lock:
    child = threading.Thread(target=forked, args=(lambda: lending.lenders().submit(int).result(10),))
    child.start()
    child.join()
"""
    )
