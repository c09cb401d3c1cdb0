"""A named lock across threads, processes and hosts, on the project's database. Not durable: it ends with its holder.

::

    acquire ─▶ line ─▶ hold ─▶ store.locks ─┬─ locks_postgresql   an advisory lock
          (process) (blocks)                └─ locks_sqlite       a row, renewed by keeper
    aacquire ─┘ └─▶ errand ─▶ hold, in a thread of its own

This module has the words for users; it waits for nothing itself but its turn in the line.
"""

from __future__ import annotations

import asyncio
import os
import threading
from types import TracebackType
from typing import Final, Self

from asgiref.sync import sync_to_async
from django.db import connections, router
from django.utils.asyncio import async_unsafe

from ...conf import real_clock
from ...core.errors import InsideTransaction, LockLost, LockTimeout
from ...core.holder import Holder
from ...logs import get_logger
from ...models import Lock as Row
from ...store.locks import is_of_this_process
from ...tasks.transactions import is_inside
from ..threads.daemons import daemon
from ..transactions import Words, refuse_inside_transaction, runs_inline
from . import line as lock_line
from .errand import Errand
from .hold import Bid, Hold, Refused, close, holder_of
from .line import Key, Owner, Turn

logger = get_logger("concurrent")

LONGEST_NAME = 200
"""Characters."""

UNSET: Final = object()

_clock = real_clock()

_IN_A_LOOP = (
    "A Lock that waits would stop the event loop of this thread: write `async with Lock(...)`, or await its "
    "aacquire() and arelease()."
)
_TOO_EARLY: Final = Words(
    "the lock would be free before the transaction commits, and the next holder would not see what this one has "
    "written",
    "Take the lock outside of the atomic() block, and begin the transaction inside it",
    "if nothing that the lock protects needs the transaction, pass outside_transaction=True",
)


class Lock:
    """A lock that one thread or task holds, of all on a database. Not durable: for work that must survive, use @task.

    ``with Lock("printer", timeout=5):`` and ``async with``. ``timeout``: seconds to wait for it; None: for ever; 0:
    try once. ``using``: the alias of the database. One object may be shared by threads and tasks.
    ``outside_transaction``: take it inside ``atomic()``, though it ends before that commits.

    Raises ``LockTimeout``, which names the holder; ``InsideTransaction``; ``WouldDeadlock`` where the caller holds it
    already; and at the end of the block ``LockLost``, if it was somebody else's meanwhile.
    """

    def __init__(
        self,
        name: str,
        timeout: float | None = None,
        *,
        using: str | None = None,
        outside_transaction: bool = False,
    ) -> None:
        self.name = _checked_name(name)
        self.timeout = _checked_timeout(timeout)
        self.using = using
        self.outside_transaction = outside_transaction
        self._guard = threading.Lock()  # guards _hold
        self._hold: Hold | None = None

    def __repr__(self) -> str:
        return f"Lock({self.name!r})"

    # --- what is known of it --------------------------------------------------------------

    @property
    def held(self) -> bool:
        """Whether this object holds the lock, in this process. Asks nobody: see ``raise_if_lost``."""
        hold = self._hold
        return hold is not None and hold.pid == os.getpid()

    @property
    def fence(self) -> int:
        """A number that is larger than that of every earlier holder of this name. RuntimeError if it is not held."""
        return self._held("fence").fence

    def raise_if_lost(self) -> None:
        """Raise ``LockLost`` if the lock is somebody else's by now, or may be. Call it before what cannot be undone.

        Waits for nobody; RuntimeError if it is not held.
        """
        if reason := self._held("raise_if_lost()").loss():
            raise self._lost(reason)

    def holder(self) -> Holder | None:
        """Ask the database who holds it, anywhere. None: nobody."""
        alias, alone = self._where()
        return holder_of(alias, self.name, alone=alone)

    async def aholder(self) -> Holder | None:
        """See ``holder``."""
        return await sync_to_async(self.holder)()

    # --- sync -----------------------------------------------------------------------------

    @async_unsafe(_IN_A_LOOP)
    def acquire(self, blocking: bool = True, timeout: object = UNSET) -> bool:  # noqa: FBT001, FBT002 - threading.Lock's
        """Take it; return whether it is held, as ``threading.Lock.acquire`` does: look at the answer.

        ``timeout``: instead of the constructor's; None or -1: for ever. ``blocking=False``: try once.
        """
        return not isinstance(self._take(self._seconds(blocking, timeout), ask=False), Refused)

    @async_unsafe(_IN_A_LOOP)
    def release(self) -> None:
        """Give it back, from any thread. Raises ``LockLost`` if it was lost; RuntimeError if it is not held."""
        self._end(self._pop(), None)

    def __enter__(self) -> Self:
        began = _clock.monotonic()
        taken = self._checked_take()
        if isinstance(taken, Refused):
            raise self._timed_out(_clock.monotonic() - began, taken)
        return self

    @async_unsafe(_IN_A_LOOP)
    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._end(self._pop(), error)

    # --- async ----------------------------------------------------------------------------

    async def aacquire(self, blocking: bool = True, timeout: object = UNSET) -> bool:  # noqa: FBT001, FBT002, ASYNC109
        """See ``acquire``. Never blocks the loop; nothing stays held if it is cancelled."""
        return not isinstance(await self._atake(self._seconds(blocking, timeout), ask=False), Refused)

    async def arelease(self) -> None:
        """See ``release``. It is given back even if this is cancelled."""
        self._complain(await self._aend(self._pop()), None)

    async def __aenter__(self) -> Self:
        began = _clock.monotonic()
        taken = await self._atake(self.timeout, ask=True)
        if isinstance(taken, Refused):
            raise self._timed_out(_clock.monotonic() - began, taken)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._complain(await self._aend(self._pop()), error)

    # --- taking ---------------------------------------------------------------------------

    @async_unsafe(_IN_A_LOOP)
    def _checked_take(self) -> Hold | Refused:
        return self._take(self.timeout, ask=True)

    def _take(self, seconds: float | None, *, ask: bool) -> Hold | Refused:
        began = _clock.monotonic()
        key, alone = self._enter()
        came = threading.Event()

        def wake() -> bool:
            came.set()
            return True

        turn = lock_line.join(key, Owner.current(), wake, wait=seconds != 0)
        if turn is None:
            return Refused(lock_line.holder(key))
        try:
            if not lock_line.is_first(turn) and not came.wait(_left(seconds, began)):
                here = lock_line.holder(key)
                if not lock_line.is_first(turn):
                    lock_line.leave(turn)
                    return Refused(here)
        except BaseException:
            _abandon(turn)
            raise
        return self._got(Bid(turn, alone=alone).run(_left(seconds, began), ask=ask))

    async def _atake(self, seconds: float | None, *, ask: bool) -> Hold | Refused:
        began = _clock.monotonic()
        # In the thread of the ORM: there are the transactions.
        key, alone = await sync_to_async(self._enter)()
        loop = asyncio.get_running_loop()
        came: asyncio.Future[None] = loop.create_future()

        def wake() -> bool:
            try:
                loop.call_soon_threadsafe(_set, came)
            except RuntimeError:  # closed
                return False
            return True

        turn = lock_line.join(key, Owner.current(), wake, wait=seconds != 0)
        if turn is None:
            return Refused(lock_line.holder(key))
        try:
            if not lock_line.is_first(turn):
                await asyncio.wait([came], timeout=_left(seconds, began))
                here = lock_line.holder(key)
                if not lock_line.is_first(turn):
                    lock_line.leave(turn)
                    return Refused(here)
        except BaseException:
            _start_abandoning(turn)
            raise
        bid = Bid(turn, alone=alone)
        errand = Errand(lambda: bid.run(_left(seconds, began), ask=ask), stop=bid.abandon, undo=_undo)
        try:
            return self._got(await errand.run(f"meanwhile-{self!r}"))
        except BaseException:
            turn.is_ending = True
            raise

    def _enter(self) -> tuple[Key, bool]:
        """Say which lock it is and whether this process is alone with it; refuse where it would be wrong."""
        refuse_inside_transaction(repr(self), outside_transaction=self.outside_transaction, words=_TOO_EARLY)
        alias, alone = self._where()
        connection = connections[alias]
        if not alone and connection.vendor == "sqlite" and is_inside(connection):
            raise InsideTransaction(
                f"{self!r} inside atomic() on the SQLite database {alias!r}: there is one writer at a time, so the "
                "lock's row cannot be written while this transaction may. Take the lock outside of the atomic() block."
            )
        return (alias, self.name), alone

    def _where(self) -> tuple[str, bool]:
        alias = self.using or router.db_for_write(Row)
        return alias, runs_inline() or is_of_this_process(alias)

    def _got(self, taken: Hold | Refused) -> Hold | Refused:
        if isinstance(taken, Hold):
            with self._guard:
                self._hold = taken
        return taken

    def _seconds(self, blocking: bool, timeout: object) -> float | None:  # noqa: FBT001
        if not blocking:
            if timeout not in {UNSET, -1}:
                raise ValueError(f"{self!r}: timeout={timeout!r} with blocking=False: a single try does not wait.")
            return 0
        if timeout is UNSET:
            return self.timeout
        return None if timeout == -1 else _checked_timeout(timeout)

    # --- giving back ----------------------------------------------------------------------

    def _held(self, what: str) -> Hold:
        hold = self._hold
        if hold is None:
            raise RuntimeError(f"{what} of {self!r}, which is not held")
        return hold

    def _pop(self) -> Hold:
        with self._guard:
            hold = self._held("release")
            self._hold = None
        hold.turn.is_ending = True
        return hold

    def _end(self, hold: Hold, error: BaseException | None) -> None:
        alias = _open_transaction()
        if alias is not None and not self.outside_transaction:
            logger.error(
                "lock %r is given back while a transaction is open on database %r: its next holder will not see what "
                "was written there. End the transaction first",
                self.name,
                alias,
            )
        self._complain(hold.end(patient=alias is None), error)

    async def _aend(self, hold: Hold) -> str | None:
        return await Errand(hold.end, undo=self._say_lost).run(f"meanwhile-{self!r}")

    def _complain(self, reason: str | None, error: BaseException | None) -> None:
        """Raise ``LockLost``; where an error is on its way already, that goes on, with a note."""
        if reason is None:
            return
        if error is None:
            raise self._lost(reason)
        error.add_note(str(self._lost(reason)))
        self._say_lost(reason)

    def _say_lost(self, reason: str | None) -> None:
        if reason is not None:
            logger.error("lock %r was lost while it was held: %s", self.name, reason)

    def _lost(self, reason: str) -> LockLost:
        return LockLost(
            f"{self!r} was lost while it was held: {reason}. Somebody else may have worked at the same time: look at "
            "what was done, and let the resource refuse an old holder by the lock's fence."
        )

    def _timed_out(self, waited: float, refused: Refused) -> LockTimeout:
        what = "is not free" if self.timeout == 0 else f"was not free within {self.timeout:g} s (waited {waited:.1f} s)"
        whose = f"it is held by {refused.holder}" if refused.holder else "its holder is not known, or has just ended"
        return LockTimeout(f"{self!r} {what}: {whose}.")


def _undo(taken: Hold | Refused) -> None:
    """Give back what came for a coroutine that was cancelled."""
    if isinstance(taken, Hold) and (reason := taken.end()):
        logger.debug("nobody waits any more for the end of this: %s", reason)


def _abandon(turn: Turn) -> None:
    """Leave the line, with whatever the last holder left there."""
    if (surplus := lock_line.leave(turn)) is not None:
        close(surplus)


def _start_abandoning(turn: Turn) -> None:
    """Leave the line at once; what is to be closed is closed by a thread, not by the loop's."""
    if (surplus := lock_line.leave(turn)) is not None:
        daemon(close, surplus, name="meanwhile-lock-close").start()


def _left(seconds: float | None, began: float) -> float | None:
    """Return what is left of ``seconds``; 0, which is to try once, if nothing is."""
    return None if seconds is None else max(0.0, seconds - (_clock.monotonic() - began))


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _open_transaction() -> str | None:
    """Return the alias of a database on which this thread has a transaction open, other than a test's."""
    for connection in connections.all(initialized_only=True):
        is_manual = connection.connection is not None and not connection.in_atomic_block and not connection.autocommit
        if is_inside(connection) or (is_manual and connection.settings_dict["AUTOCOMMIT"]):
            return str(connection.alias)
    return None


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"Lock({name!r}): a name is a string, as in Lock('printer').")
    try:
        name.encode()
    except UnicodeEncodeError:
        is_text = False
    else:
        is_text = "\x00" not in name
    if not is_text or not 1 <= len(name) <= LONGEST_NAME:
        raise ValueError(
            f"Lock({name!r}): a name has 1 to {LONGEST_NAME} characters, without NUL and lone surrogates. Of a longer "
            "one, take a hash."
        )
    return name


def _checked_timeout(timeout: object) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout <= threading.TIMEOUT_MAX:
        raise ValueError(f"timeout={timeout!r}: seconds to wait, None for ever, 0 to try once.")
    return float(timeout)
