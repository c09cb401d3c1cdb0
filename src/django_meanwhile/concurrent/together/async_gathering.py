"""Several calls, one place where they end: what ``aparallel()`` awaits, on an event loop that it never blocks.

Called by ``calls``. ``gathering`` with another way to wait, and with coroutines among the calls: each is a task of its
own, with a thread of its own for its ORM calls. All that concerns the calls happens on the loop; what another thread
has to tell is handed over to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from ..admission import Call
from ..threads.lending import in_a_thread_of_its_own
from .gathering import Gathering, Terms
from .scope import STOP_WITHIN, Member, cancel

if TYPE_CHECKING:
    from ..context import Surroundings
    from ..threads.executor import ThreadPoolExecutor


class AsyncGathering(Gathering):
    """The calls of one ``aparallel()``: run once, by ``arun()``."""

    def __init__(
        self, what: str, calls: Sequence[Call], terms: Terms, executor: ThreadPoolExecutor, surroundings: Surroundings
    ) -> None:
        super().__init__(what, calls, terms, executor, surroundings)
        self._helps, self._must_not_wait = False, self._pool.when_full == "wait"  # it is the loop's thread
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._errands: set[asyncio.Future[Any]] = set()  # interruptions on their way

    async def arun(self) -> tuple[Any, ...]:
        """Start all, await all, return or raise what came of them."""
        with self:
            try:
                if not await self._arun_to_the_end():
                    self._time_is_up()
                    if not await self._await(self._is_all_over, deadline=monotonic() + STOP_WITHIN):
                        self._left = self.abandon()
            except BaseException:
                self.stop()
                await self._await_whatever_comes()
                raise
        return self.results()

    async def _arun_to_the_end(self) -> bool:
        while self._start_some():
            if not await self._await(self._has_room, deadline=self._next_look()) and self._is_late():
                return False
        return await self._await(self._is_all_over, deadline=self._deadline)

    async def _await_whatever_comes(self) -> None:
        """Await the end of all, as ``asyncio.TaskGroup`` does: however often this task is cancelled meanwhile."""
        while True:
            try:
                await self._await(self._is_all_over)
            except asyncio.CancelledError:
                continue
            return

    async def _await(self, is_over: Callable[[], bool], *, deadline: float | None = None) -> bool:
        """Do as ``wait()``."""
        while not is_over():
            left = self.until(deadline)
            if left is not None and left <= 0:
                return False
            self._event.clear()
            try:
                async with asyncio.timeout(left):
                    await self._event.wait()
            except TimeoutError:
                if self.is_stopping:
                    self.stop_again()
        return True

    def _is_all_over(self) -> bool:
        return not self.alive and not self._errands

    # --- starting ---

    def _start(self, member: Member) -> bool:
        if not member.call.is_awaited and not self._terms.is_inline:
            return super()._start(member)
        self.watch(member, self._loop.create_task(self._task_of(member), name=member.label))
        return True

    def _task_of(self, member: Member) -> Coroutine[Any, Any, Any]:
        """Return what runs a call on the loop. In a TestCase all ORM calls belong on the test's own connection."""
        if not member.call.is_awaited:
            return sync_to_async(member, thread_sensitive=True)()
        if self._terms.is_inline:
            return _awaited(member.call.function)
        return in_a_thread_of_its_own(member.call.function)

    def watch(self, member: Member, future: Any) -> None:
        """See ``Scope``. The end of a call in a thread is told on the loop."""
        if isinstance(future, asyncio.Task):
            super().watch(member, future)
            return
        member.future = future
        future.add_done_callback(lambda ended: self._tell_the_loop(self.ended, member, ended))

    def _tell_the_loop(self, function: Callable[..., object], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed: it had given up on the call
            function(*args)

    # --- stopping ---

    def wake(self) -> None:
        """See ``Scope``."""
        self._event.set()

    def stop_from_outside(self) -> None:
        """See ``Scope``."""
        self._tell_the_loop(super().stop_from_outside)

    def stop_members(self, members: Sequence[Member]) -> None:
        """See ``Scope``. An interruption asks the database, which takes its time: not on the loop."""
        running = []
        for member in members:
            if isinstance(member.future, asyncio.Task):
                if not member.is_stopped:  # once: to be cancelled again and again is more than a coroutine can take
                    member.is_stopped = True
                    member.future.cancel()
            elif not cancel(member.future):
                running.append(member)
        if running and not self._errands:
            errand = self._loop.run_in_executor(None, super().stop_members, running)
            self._errands.add(errand)
            errand.add_done_callback(self._errand_done)

    def _errand_done(self, errand: asyncio.Future[Any]) -> None:
        self._errands.discard(errand)
        self.wake()


async def _awaited(function: Callable[[], Any]) -> Any:
    return await function()
