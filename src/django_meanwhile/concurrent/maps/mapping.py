"""``parallel_map()`` and ``aparallel_map()``: the built-in ``map``, in parallel. Called by users.

::

    parallel_map ─▶ refuse ─┬─▶ inside a TestCase, or in a child process or interpreter: one after another, here
                            └─▶ Run: the consumer's thread pulls, starts, waits and gives

What may be under way is ``window``'s to say, where it runs ``lanes``'. On an event loop ``amapping`` takes the place of
``Run``. Nothing is pulled, and nothing started, before the consumer asks for the first result.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypedDict, TypeVar, Unpack, overload

from asgiref.sync import iscoroutinefunction

from ...compat import BaseTask
from ...conf import real_clock
from ...core.errors import InvalidOption, NotAllowed
from ..admission import label_of, outcome
from ..together.scope import current_member
from ..transactions import refuse_inside_transaction, runs_inline
from ..waiting import refuse_on_a_loop
from . import callee
from .amapping import Order, arun
from .lanes import AGAIN_AFTER, Lane, lane_for, refuse_unknown
from .parcel import Packer
from .pulling import chunks
from .window import Piece, Window

T = TypeVar("T")
R = TypeVar("R")
Executor = Literal["thread", "process", "interpreter"]


class _Options(TypedDict, total=False):
    """The options of ``aparallel_map()``, for type checkers: it has a signature for each kind of function."""

    max_workers: int | None
    ordered: bool
    executor: Executor
    chunk_size: int
    timeout: float | None
    outside_transaction: bool


def parallel_map(
    function: Callable[[T], R],
    iterable: Iterable[T],
    *,
    max_workers: int | None = None,
    ordered: bool = True,
    executor: Executor = "thread",
    chunk_size: int = 1,
    timeout: float | None = None,
    outside_transaction: bool = False,
) -> Generator[R, None, None]:
    """Yield ``function(item)`` for each item, computed in parallel. Not durable: for work that must survive, use @task.

    Lazy: items are pulled in the consumer's thread as results are taken, so that at most ``2 * max_workers`` pieces of
    ``chunk_size`` items are under way. ``ordered=False`` yields results as they end. ``timeout``: seconds from this
    call; a result that is not there by then is a ``TimeoutError``.

    An error of the function is raised where its result would be, as it is. It ends the iteration, as closing the
    iterator does: what has not begun is cancelled, queries are interrupted, processes that go on are killed.

    Raises ``NotAllowed`` for a function that cannot run there, ``InsideTransaction`` inside ``atomic()`` unless
    ``outside_transaction``; while iterating, ``ProcessFailed`` if a child process died of the call.
    """
    label = f"parallel_map() of {label_of(function)}"
    refuse_unknown(executor, label)
    _refuse_numbers(label, max_workers, chunk_size, timeout)
    _refuse_function(function, label)
    if is_coroutine_function(function):
        raise NotAllowed(f"{label}: it is a coroutine function. Write async for ... in aparallel_map(...).")
    if isinstance(iterable, AsyncIterable) and not isinstance(iterable, Iterable):
        raise NotAllowed(f"{label}: it is given an async iterable. Write async for ... in aparallel_map(...).")
    iterator = iter(iterable)
    packer = None if executor == "thread" else Packer(function, label, executor)
    if runs_inline() or (packer is not None and callee.is_callee):
        return _inline(function, iterator, packer, label)
    refuse_inside_transaction(label, outside_transaction=outside_transaction)
    lane = lane_for(executor, function, label, packer)
    window = Window(max_workers or lane.max_workers, ordered=ordered)
    return Run(lane, chunks(iterator, chunk_size), window, label, timeout).results()


@overload
def aparallel_map(
    function: Callable[[T], Awaitable[R]], iterable: Iterable[T] | AsyncIterable[T], **options: Unpack[_Options]
) -> AsyncGenerator[R, None]: ...
@overload
def aparallel_map(
    function: Callable[[T], R], iterable: Iterable[T] | AsyncIterable[T], **options: Unpack[_Options]
) -> AsyncGenerator[R, None]: ...
def aparallel_map(
    function: Callable[[T], Any],
    iterable: Iterable[T] | AsyncIterable[T],
    *,
    max_workers: int | None = None,
    ordered: bool = True,
    executor: Executor = "thread",
    chunk_size: int = 1,
    timeout: float | None = None,
    outside_transaction: bool = False,
) -> AsyncGenerator[Any, None]:
    """Do as ``parallel_map``, in async code. Not durable: for work that must survive, use @task.

    Takes coroutine functions, too, which run as tasks on this event loop, and async iterables. Items of an iterable
    that is no built-in collection are pulled in the thread of the ORM, so that the loop never waits for them.
    """
    label = f"aparallel_map() of {label_of(function)}"
    refuse_unknown(executor, label)
    _refuse_numbers(label, max_workers, chunk_size, timeout)
    _refuse_function(function, label)
    awaits = is_coroutine_function(function)
    if awaits and executor != "thread":
        raise NotAllowed(
            f'{label}: it is a coroutine function, which runs on this event loop, and executor="{executor}" cannot '
            "have it there. Leave executor out, or pass a function."
        )
    if not isinstance(iterable, Iterable | AsyncIterable):
        raise NotAllowed(f"{label}: {type(iterable).__name__} is neither an iterable nor an async iterable.")
    packer = None if executor == "thread" else Packer(function, label, executor)
    order = Order(
        function=function, iterable=iterable, label=label, packer=packer, is_coroutine_function=awaits,
        is_local=packer is not None and callee.is_callee, executor=executor, max_workers=max_workers,
        ordered=ordered, chunk_size=chunk_size, timeout=timeout, outside_transaction=outside_transaction,
    )  # fmt: skip
    return arun(order)


class Run:
    """One ``parallel_map()`` that is being consumed. Used by its consumer only; ``_ended`` is what others put into."""

    def __init__(
        self, lane: Lane, source: Iterator[list[Any]], window: Window, label: str, timeout: float | None
    ) -> None:
        self._lane, self._source, self._window, self._label = lane, source, window, label
        self._clock = real_clock()
        self._timeout = timeout
        self._deadline = None if timeout is None else self._clock.monotonic() + timeout
        self._pulled: list[Any] | None = None  # for which there was no room yet
        # Simple: its put() may come while this very thread is in one, from a destructor.
        self._ended: SimpleQueue[Piece | None] = SimpleQueue()  # None: stop

    def stop_from_outside(self) -> None:
        """Stop it because the call that it is a part of is stopped. In any thread."""
        self._ended.put(None)

    def results(self) -> Generator[Any, None, None]:
        """Yield what comes of it."""
        _refuse_on_a_loop(self._label)
        parent: Any = current_member()  # of a group, which is to know of this as of one of its own
        if parent is not None:
            parent.adopt(self)
        try:
            while self._advance():
                piece = self._window.take()
                yield from piece.results
                piece.raise_error()
        finally:
            for left in self._window.abandon():
                self._lane.stop(left)
                left.future = None  # which holds it, by a callback
            if parent is not None:
                parent.release(self)

    def _advance(self) -> bool:
        """Start what there is room for, and wait until something can be given; False at the end.

        While something can be given, only one piece is started: a slow iterable must not hold back what is there.
        """
        window, has_started = self._window, False
        while True:
            self._note_ends()
            is_ready = window.is_ready()
            is_full = False
            if window.has_room() and not (has_started and is_ready):
                has_started = self._start_next()
                is_full = not has_started
                if has_started:
                    continue
            if is_ready:
                return True
            if window.is_empty() and window.takes_no_more:
                return False
            if not self._lane.help(window.pieces):
                self._wait(AGAIN_AFTER if is_full else None)

    def _start_next(self) -> bool:
        """Start the next piece, or note that there is none; False if there is no room for it."""
        window = self._window
        try:
            if self._pulled is None:
                self._pulled = next(self._source)
            piece = Piece()
            if not self._lane.start(piece, self._pulled):
                return False
        except StopIteration:
            window.takes_no_more = True
            return True
        except Exception as error:  # noqa: BLE001 - raised where the result would be
            window.add(Piece(error=error, is_ended=True))
            return True
        self._pulled = None
        window.add(piece)
        piece.future.add_done_callback(lambda _: self._ended.put(piece))
        return True

    def _note_ends(self) -> None:
        with suppress(Empty):
            while True:
                self._note(self._ended.get_nowait())

    def _note(self, piece: Piece | None) -> None:
        if piece is None:
            raise CancelledError(f"{self._label}: the call that it is a part of was stopped")
        self._lane.read(piece)
        self._window.note_end(piece)

    def _wait(self, at_most: float | None) -> None:
        """Wait until a piece ends. Raises ``TimeoutError`` once the time is up."""
        left = None if self._deadline is None else self._deadline - self._clock.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError(f"{self._label}: the next result was not there within {self._timeout:g} s")
        try:
            self._note(self._ended.get(timeout=min((t for t in (left, at_most) if t is not None), default=None)))
        except Empty:
            return


def _inline(
    function: Callable[[Any], Any], iterator: Iterator[Any], packer: Packer | None, label: str
) -> Generator[Any, None, None]:
    """Call it here, lazily; what could not be sent to a process is refused all the same."""
    _refuse_on_a_loop(label)
    for item in iterator:
        if packer is not None:
            packer.pack([item])
        yield outcome(function(item))


def _refuse_on_a_loop(label: str) -> None:
    """Called when the first result is asked for: to make the iterator on a loop, for a thread, waits for nothing."""
    refuse_on_a_loop(label, "async for ... in aparallel_map(...)")


def is_coroutine_function(function: Any) -> bool:
    """Whether calling it, or the function in a partial, makes a coroutine."""
    inner = function
    while hasattr(inner, "func") and hasattr(inner, "keywords"):
        inner = inner.func
    # An object whose __call__ is a coroutine function; whether it can be called is asked elsewhere.
    return iscoroutinefunction(inner) or iscoroutinefunction(getattr(inner, "__call__", None))  # noqa: B004


def _refuse_function(function: Any, label: str) -> None:
    if isinstance(function, BaseTask):
        raise NotAllowed(
            f"{label}: it is a task. To run it here, pass its function, task.func; to queue it, write "
            "task.enqueue_many([(item,), ...])."
        )
    if not callable(function):
        raise NotAllowed(f"{label}: takes a function of one argument first, and was given {type(function).__name__}.")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise NotAllowed(f"{label}: it is a generator function: calling it runs nothing. Return a list.")


def _refuse_numbers(label: str, max_workers: Any, chunk_size: Any, timeout: Any) -> None:
    for name, value in (("max_workers", max_workers), ("chunk_size", chunk_size)):
        if (name, value) == ("max_workers", None):
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InvalidOption(f"{label}: {name}={value!r}: must be a whole number from 1 on.")
    if timeout is not None and (not isinstance(timeout, int | float) or isinstance(timeout, bool) or not timeout > 0):
        raise InvalidOption(f"{label}: timeout={timeout!r}: must be a number of seconds, more than 0; or None.")
