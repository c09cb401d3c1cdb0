"""Where a map's calls run: threads of the shared pool, the event loop, the pool of processes, interpreters.

Called by ``mapping`` and ``amapping``, which know when; a lane knows how to start the calls of a piece, to read what
came of them, and to stop them. ``start`` never waits: it returns False where there is no room just now.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from typing import Any, Protocol

from ...conf import get_settings
from ...core.errors import InvalidOption, NotAllowed, QueueFull
from ..admission import outcome
from ..context import capture
from ..threads.executor import default_executor
from ..threads.lending import in_a_thread_of_its_own
from .parcel import Packer, unpack
from .window import Piece

AGAIN_AFTER = 0.01
"""Seconds after which a pool whose queue is full is tried again."""

DEFAULT_COROUTINES = 100
"""Coroutines at a time without ``max_workers``: as many as a worker's."""


class Lane(Protocol):
    """See the module. ``max_workers`` is how many pieces it is worth having under way."""

    max_workers: int

    def start(self, piece: Piece, items: list[Any]) -> bool:
        """Have the function called for each item, as the piece's future; whether there was room for that."""

    def read(self, piece: Piece) -> None:
        """Put into the piece what has come of it, and let go of its future, which has ended."""

    def stop(self, piece: Piece) -> None:
        """Have it end, without waiting for that."""

    def help(self, pieces: Iterable[Piece]) -> bool:
        """Run one that has not begun here and now, if nobody else may be free to; whether that was done."""


def call_each(function: Callable[[Any], Any], items: Iterable[Any], results: list[Any]) -> None:
    """Call ``function`` for each item; add to ``results`` up to the first error, and raise that.

    Raise, not return: a future that holds its own frames through a result is freed by the garbage collector only.
    """
    for item in items:
        results.append(outcome(function(item)))  # noqa: PERF401 - those before an error are wanted


class ThreadLane:
    """Threads of ``default_executor()``."""

    def __init__(self, function: Callable[[Any], Any], label: str) -> None:
        self._function = function
        self._executor = default_executor(outside_transaction=True)  # whoever called us has looked
        self._pool = self._executor._pool  # noqa: SLF001 - whether it has room is nobody else's business
        self._surroundings = capture(label)
        self.max_workers = self._pool.max_workers

    def start(self, piece: Piece, items: list[Any]) -> bool:
        """See ``Lane``."""
        waits = self._pool.when_full == "wait" and not self._executor.is_mine()
        if waits and self._pool.is_full():
            return False
        arguments = self._function, items, piece.results
        try:
            piece.future = self._executor.start(call_each, arguments, {}, surroundings=self._surroundings)
        except QueueFull:
            if waits:  # on an event loop, and full since we asked
                return False
            raise
        return True

    def read(self, piece: Piece) -> None:
        """See ``Lane``."""
        future, piece.future = piece.future, None
        try:
            piece.error = future.exception()
        except CancelledError as error:
            piece.error = error

    def stop(self, piece: Piece) -> None:
        """See ``Lane``. Nobody asks what it ends with, even if it has ended by now: that is not logged as lost."""
        future = piece.future
        future.stop()
        if future.done() and not future.cancelled():
            future.exception()

    def help(self, pieces: Iterable[Piece]) -> bool:
        """See ``Lane``."""
        return self._executor.is_mine() and any(piece.future.run_here() for piece in pieces if not piece.is_ended)


class CoroutineLane:
    """Tasks on the running loop; the ORM calls of each run in a thread of its own."""

    max_workers = DEFAULT_COROUTINES

    def __init__(self, function: Callable[[Any], Any], label: str) -> None:
        self._function, self._label = function, label

    def start(self, piece: Piece, items: list[Any]) -> bool:
        """See ``Lane``."""
        call = in_a_thread_of_its_own(lambda: self._call_each(items, piece.results))
        piece.future = asyncio.get_running_loop().create_task(call, name=self._label)
        return True

    async def _call_each(self, items: list[Any], results: list[Any]) -> None:
        for item in items:
            results.append(await self._function(item))  # noqa: PERF401 - those before an error are wanted

    def read(self, piece: Piece) -> None:
        """See ``Lane``."""
        task, piece.future = piece.future, None
        piece.error = asyncio.CancelledError() if task.cancelled() else task.exception()

    def stop(self, piece: Piece) -> None:
        """See ``Lane``."""
        piece.future.cancel()

    def help(self, pieces: Any) -> bool:  # noqa: ARG002 - as ``Lane`` has it
        """See ``Lane``. A loop's thread is never one of the pool's."""
        return False


class RemoteLane:
    """Processes or interpreters: what goes there and back is pickled."""

    def __init__(self, packer: Packer, submit: Callable[[bytes, str], Any]) -> None:
        self._packer, self._submit = packer, submit
        self.max_workers = get_settings().concurrent.processes

    def start(self, piece: Piece, items: list[Any]) -> bool:
        """See ``Lane``."""
        piece.future = self._submit(self._packer.pack(items), self._packer.label)
        return True

    def read(self, piece: Piece) -> None:
        """See ``Lane``."""
        future, piece.future = piece.future, None
        try:
            piece.error = future.exception()
            if piece.error is None:
                piece.results, piece.error = unpack(future.result(), self._packer.label)
        except CancelledError as error:
            piece.error = error
        except Exception as error:  # noqa: BLE001 - a class of the user's that cannot be read back
            piece.error = error

    def stop(self, piece: Piece) -> None:
        """See ``Lane``."""
        getattr(piece.future, "stop", piece.future.cancel)()

    def help(self, pieces: Iterable[Piece]) -> bool:  # noqa: ARG002 - as ``Lane`` has it
        """See ``Lane``. Nobody here is needed."""
        return False


def lane_for(executor: str, function: Callable[[Any], Any], label: str, packer: Packer | None) -> Lane:
    """Return the lane of that name. ``NotAllowed`` if there cannot be one."""
    if packer is None:
        return ThreadLane(function, label)
    from .processes import settings_module, shared_pool  # noqa: PLC0415 - only where it is used

    settings_module()
    if executor == "process":
        return RemoteLane(packer, lambda job, label: shared_pool().submit(job, label))
    from .interpreters import submit  # noqa: PLC0415 - only where it is used

    return RemoteLane(packer, submit)


def refuse_unknown(executor: str, label: str) -> None:
    """Raise ``NotAllowed`` for an executor that does not exist, here or at all."""
    if executor not in {"thread", "process", "interpreter"}:
        raise InvalidOption(f"{label}: executor={executor!r}: must be 'thread', 'process' or 'interpreter'.")
    if executor == "interpreter" and sys.version_info < (3, 14):
        version = ".".join(map(str, sys.version_info[:2]))
        raise NotAllowed(
            f'{label}: executor="interpreter" needs Python 3.14, and this is {version}. '
            'Write executor="process", which uses every core as well.'
        )
