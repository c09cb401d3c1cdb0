"""From the head of the line to the lock itself, and back: what may wait for the database.

Called by ``lock``: directly in sync code, in a thread of its own for a coroutine
(``errand``). Whatever goes wrong here, the turn is left and nothing is held.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import warnings
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakSet

from django.db import DatabaseError

from ...core.holder import Holder
from ...logs import get_logger
from ...store.locks import Grip, Lost, make_grip
from ...tasks.refusals import annotate
from ..threads import budget
from . import line as lock_line
from .errand import start
from .keeper import keeper
from .line import Turn

logger = get_logger("concurrent")


@dataclass(frozen=True, slots=True)
class Refused:
    """The lock was not free. ``holder`` is None if nobody knows whose it is."""

    holder: Holder | None


class Hold:
    """A lock that is held. It may be ended in any thread, once.

    Where nobody refers to it any more, nobody can end it: it is ended by a thread of its own. The collector may be at
    work in any thread, in the middle of anything, so that the finalizer takes no lock and asks no database.
    """

    __slots__ = ("_grip", "_is_ended", "fence", "pid", "turn")

    def __init__(self, turn: Turn, grip: Grip) -> None:
        self.turn = turn
        self.fence = grip.fence
        self.pid = os.getpid()
        self._grip = grip
        self._is_ended = False

    def loss(self) -> str | None:
        """Say how it is known that the lock is not held any more; None if it is."""
        if self.pid != os.getpid():
            return f"it belongs to process {self.pid}, which has forked this one"
        return self._grip.loss()

    def end(self, *, patient: bool = True) -> str | None:
        """Give the lock back, and let the next one in. Returns how it is known that it was lost before, if it was.

        ``patient``: wait for others who write; not where the caller itself is in their way.
        """
        self._is_ended = True
        if self.pid != os.getpid():
            return self.loss()
        grip = self._grip
        keeper.let_go(grip)
        try:
            grip.release(patient=patient)
        except Lost as error:
            close(grip)
            _leave(self.turn)
            return str(error)
        except BaseException:
            close(grip)
            _leave(self.turn)
            raise
        _leave(self.turn, grip)
        return None

    def __del__(self) -> None:
        if self._is_ended or self.pid != os.getpid() or sys.is_finalizing():
            return
        self.turn.is_ending = True  # its owner may wait for it again
        name = self.turn.key[1]
        try:
            warnings.warn(
                f"Lock({name!r}) was dropped while it was held, and is given back now. Use `with`, or keep the object "
                "and call release()",
                ResourceWarning,
                stacklevel=1,
                source=self,
            )
        finally:
            with suppress(RuntimeError):  # no more threads: the process is at its end, and so is the lock
                start(self._end_dropped, f"meanwhile-Lock({name!r})")

    def _end_dropped(self) -> None:
        name = self.turn.key[1]
        try:
            reason = self.end()
        except Exception:
            logger.exception("lock %r was dropped while it was held, and could not be given back", name)
            return
        if reason is not None:
            logger.error("lock %r was lost while it was held: %s", name, reason)


class Bid:
    """What the first in the line does to get the lock. ``run`` once; ``abandon`` from another thread.

    ``_guard`` guards that a grip is interrupted only while this bid takes it: later it may be somebody else's.
    """

    def __init__(self, turn: Turn, *, alone: bool) -> None:
        self._turn = turn
        self._alone = alone
        self._guard = threading.Lock()
        self._grip: Grip | None = None
        self._is_abandoned = False
        self._is_over = False

    def run(self, seconds: float | None, *, ask: bool) -> Hold | Refused:
        """Wait for the lock, in the database. With ``ask``, find out who has it if we do not get it."""
        turn = self._turn
        grip: Grip | None = None
        try:
            grip = lock_line.take_spare(turn) or self._make()
            taken = self._begins(grip) and grip.take(seconds, turn.owner.name)
            is_abandoned = self._ends()
            if taken and is_abandoned:
                grip.release(patient=True)
            holder = grip.holder() if ask and not taken and not is_abandoned else None
        except BaseException as error:
            self._ends()
            if isinstance(error, DatabaseError):
                annotate(error, turn.key[0])
            if grip is not None:
                close(grip)
            _leave(turn)
            raise
        if is_abandoned:
            close(grip)
            _leave(turn)
            return Refused(None)
        if not taken:
            _leave(turn, grip)
            return Refused(holder)
        turn.since = lock_line.now()
        hold = Hold(turn, grip)
        try:
            keeper.keep(grip)
        except BaseException:
            hold.end()
            raise
        return hold

    def abandon(self) -> None:
        """Let a ``run`` end soon. Waits for that."""
        with self._guard:
            self._is_abandoned = True
            grip = None if self._is_over else self._grip
            if grip is not None:
                grip.interrupted.set()
        if grip is not None:
            grip.interrupt()

    def _begins(self, grip: Grip) -> bool:
        with self._guard:
            self._grip = grip
            return not self._is_abandoned

    def _ends(self) -> bool:
        """Return whether it was abandoned before."""
        with self._guard:
            self._is_over = True
            return self._is_abandoned

    def _make(self) -> Grip:
        alias, name = self._turn.key
        grip = AloneGrip(alias, name) if self._alone else make_grip(alias, name)
        if not self._alone:
            # Not to be waited for: all places may be held by threads that wait for this very lock.
            grip.place.enter_context(budget.hold(alias, f"Lock({name!r})", wait=False))
        _grips.add(grip)
        return grip


def holder_of(alias: str, name: str, *, alone: bool) -> Holder | None:
    """Ask who holds a lock, in this process first."""
    here = lock_line.holder((alias, name))
    if alone or (here is not None and here.since is not None):
        return here
    grip = make_grip(alias, name)
    try:
        return grip.holder()
    finally:
        grip.close()


def _leave(turn: Turn, grip: Grip | None = None) -> None:
    """Leave the line; close the grip that nobody waits for."""
    surplus = lock_line.leave(turn, grip)
    if surplus is not None:
        close(surplus)


def close(grip: Grip) -> None:
    """Close the connection, then give back its place."""
    grip.close()
    grip.place.close()


_fences = itertools.count(1)


class AloneGrip(Grip):
    """For a database that nobody else can see, and for tests inside a transaction: the line is the lock."""

    def take(self, seconds: float | None, thread: str) -> bool:  # noqa: ARG002 - nobody else has it
        """Number the holder."""
        self.fence = next(_fences)
        return True

    def interrupt(self) -> None:
        """Nothing waits."""
        self.interrupted.set()

    def loss(self) -> str | None:
        """Nothing can be lost."""
        return None

    def release(self, *, patient: bool) -> None:
        """Nothing."""

    def holder(self) -> Holder | None:
        """Whoever is the first in the line."""
        return lock_line.holder((self.alias, self.name))

    def close(self) -> None:
        """Nothing."""


# --- fork -----------------------------------------------------------------------------------

_grips: WeakSet[Grip] = WeakSet()
_inherited: list[Grip] = []
"""What belongs to the parent, kept from the garbage collector of its child, which would complain, or close it."""


def _forget() -> None:
    for grip in list(_grips):
        _inherited.append(grip)
        grip.forget()
    _grips.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
