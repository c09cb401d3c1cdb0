"""Waiting, in async tests, for the coroutines that ``create_task()`` started. Called by users' tests."""

from __future__ import annotations

import asyncio

from ..concurrent.coroutines.residents import residents_of


async def run_background_tasks(*, timeout: float = 5.0) -> None:  # noqa: ASYNC109 - it names what still runs
    """Wait until every coroutine of ``create_task()`` on this event loop has ended, those that they start included.

    What they raised, now or earlier in this test, comes as one ``ExceptionGroup``. ``TimeoutError`` names those that
    still run after ``timeout`` seconds.
    """
    residents = residents_of(asyncio.get_running_loop())
    end = asyncio.get_running_loop().time() + timeout
    while residents.tasks:
        await asyncio.wait(residents.tasks, timeout=end - asyncio.get_running_loop().time())
        await asyncio.sleep(0)  # for what is done when they end
        if residents.tasks and asyncio.get_running_loop().time() >= end:
            names = ", ".join(sorted(task.get_name() for task in residents.tasks))
            raise TimeoutError(f"background coroutines still run: {names}; not done in {timeout:g} s")
    failed, residents.failed = residents.failed, []
    if failed:
        names = ", ".join(name for name, _ in failed)
        raise ExceptionGroup(f"background coroutines failed: {names}", [error for _, error in failed])
