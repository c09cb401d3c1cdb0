"""``aparallel_map()`` once it is iterated over: pulling, starting and giving, on an event loop that never waits for it.

Called by ``mapping``. One task pulls and starts while there is room, so that neither a slow source nor a slow consumer
holds up what is there; what there is room for is ``window``'s to say.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async

from ...conf import real_clock
from ..admission import outcome
from ..transactions import refuse_inside_transaction, runs_inline
from .lanes import AGAIN_AFTER, CoroutineLane, Lane, lane_for
from .parcel import Packer
from .pulling import achunks
from .window import Piece, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be mapped, and how, as the caller wrote it."""

    function: Callable[[Any], Any]
    iterable: Any
    label: str
    is_coroutine_function: bool
    is_local: bool  # one after another, here
    executor: str
    max_workers: int | None
    ordered: bool
    chunk_size: int
    timeout: float | None
    outside_transaction: bool
    packer: Packer | None


async def arun(order: Order) -> AsyncGenerator[Any, None]:
    """Yield the results. The first thing to be done is to look at the transactions, in the thread that has them."""
    deadline = None if order.timeout is None else real_clock().monotonic() + order.timeout
    if order.is_local or await sync_to_async(runs_inline)():
        results = _one_after_another(order)
    else:
        refuse = partial(refuse_inside_transaction, order.label, outside_transaction=order.outside_transaction)
        await sync_to_async(refuse)()
        results = AsyncRun(order, deadline).results()
    async with contextlib.aclosing(results):
        async for result in results:
            yield result


async def _one_after_another(order: Order) -> AsyncGenerator[Any, None]:
    """Call it where the caller's own ORM calls run, lazily."""

    def call_it(item: Any) -> Any:
        return outcome(order.function(item))

    call = sync_to_async(call_it)
    async with contextlib.aclosing(achunks(order.iterable, 1)) as source:
        async for (item,) in source:
            if order.packer is not None:
                order.packer.pack([item])
            yield await (order.function(item) if order.is_coroutine_function else call(item))


class AsyncRun:
    """One ``aparallel_map()`` that is being consumed. Everything in it happens on its loop."""

    def __init__(self, order: Order, deadline: float | None) -> None:
        self._lane: Lane
        if order.is_coroutine_function:
            self._lane = CoroutineLane(order.function, order.label)
        else:
            self._lane = lane_for(order.executor, order.function, order.label, order.packer)
        self._window = Window(order.max_workers or self._lane.max_workers, ordered=order.ordered)
        self._source = achunks(order.iterable, order.chunk_size)
        self._order, self._deadline = order, deadline
        self._loop = asyncio.get_running_loop()
        self._news, self._room = asyncio.Event(), asyncio.Event()

    async def results(self) -> AsyncGenerator[Any, None]:
        """Yield what comes of it."""
        window = self._window
        feeder = self._loop.create_task(self._feed(), name=f"{self._order.label}: pulling")
        try:
            while not (window.is_empty() and window.takes_no_more):
                if not window.is_ready():
                    await self._wait()
                    continue
                piece = window.take()
                self._room.set()
                for result in piece.results:
                    yield result
                piece.raise_error()
        finally:
            left = window.abandon()
            feeder.cancel()
            for each in left:
                self._lane.stop(each)
            tasks = [each.future for each in left if asyncio.isfuture(each.future)]
            await asyncio.gather(feeder, *tasks, return_exceptions=True)

    async def _feed(self) -> None:
        """Pull and start, as long as there is room."""
        window = self._window
        while not window.takes_no_more:
            if not window.has_room():
                self._room.clear()
                await self._room.wait()
                continue
            try:
                chunk = await anext(self._source)
                piece = Piece()
                while not self._lane.start(piece, chunk):  # noqa: ASYNC110 - others fill that queue
                    await asyncio.sleep(AGAIN_AFTER)
            except StopAsyncIteration:
                window.takes_no_more = True
            except Exception as error:  # noqa: BLE001 - raised where the result would be
                window.add(Piece(error=error, is_ended=True))
            else:
                self._add(piece)
            self._news.set()

    def _add(self, piece: Piece) -> None:
        self._window.add(piece)
        if asyncio.isfuture(piece.future):
            piece.future.add_done_callback(lambda _: self._note(piece))
        else:
            piece.future.add_done_callback(lambda _: self._note_from_a_thread(piece))

    def _note_from_a_thread(self, piece: Piece) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._note, piece)

    def _note(self, piece: Piece) -> None:
        if piece in self._window.pieces:  # else it was abandoned
            self._lane.read(piece)
            self._window.note_end(piece)
            self._news.set()
            self._room.set()

    async def _wait(self) -> None:
        """Wait for news. Raises ``TimeoutError`` once the time is up."""
        self._news.clear()
        left = None if self._deadline is None else self._deadline - real_clock().monotonic()
        try:
            async with asyncio.timeout(left):
                await self._news.wait()
        except TimeoutError:
            label, seconds = self._order.label, self._order.timeout
            raise TimeoutError(f"{label}: the next result was not there within {seconds:g} s") from None
