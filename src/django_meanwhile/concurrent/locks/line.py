"""The line in front of each named lock: threads and coroutines of this process, first come, first served.

Called by ``lock``. Only the first in a line deals with the database, so that a hundred who
wait cost one connection; the line alone is the whole lock where nobody else can see the
database. It knows nothing of databases, and waits for nothing: who joins brings what wakes
it up.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from ...core.errors import WouldDeadlock
from ...core.holder import Holder
from ...store.locks import host_name

if TYPE_CHECKING:
    from ...store.locks import Grip

Key: TypeAlias = tuple[str, str]
"""Alias and name."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who stands in a line: a thread, or a task in a thread's event loop."""

    thread: threading.Thread  # not its identifier: that is another one's after its end
    name: str
    task: asyncio.Task[Any] | None

    @classmethod
    def current(cls) -> Owner:
        """Return who calls."""
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        thread = threading.current_thread()
        return cls(thread, thread.name if task is None else f"{thread.name} {task.get_name()}", task)

    def blocks(self, other: Owner) -> bool:
        """Whether ``other`` would wait for itself: the same task, or a loop in a thread whose frames below hold it."""
        return self.thread is other.thread and (self.task is None or self.task is other.task)


@dataclass(eq=False, slots=True)
class Turn:
    """One place in a line."""

    key: Key
    owner: Owner
    #: Called in any thread; returns whether there still is somebody to wake.
    wake: Callable[[], bool]
    #: When it got the lock, by this host's clock.
    since: datetime | None = None
    #: Its owner is done with it, and what remains is another's work: the owner may wait for that.
    is_ending: bool = False


@dataclass(slots=True)
class _Line:
    turns: deque[Turn] = field(default_factory=deque)
    #: A grip that the last holder has left behind for the next one, connected.
    spare: Grip | None = None


_guard = threading.Lock()
_lines: dict[Key, _Line] = {}  # guarded by _guard, and so is all in them


def join(key: Key, owner: Owner, wake: Callable[[], bool], *, wait: bool) -> Turn | None:
    """Stand in line; ``is_first`` tells whether it is the turn already, ``wake`` is called when it comes to be.

    Without ``wait``: None, unless the line is empty. Raises ``WouldDeadlock`` if ``owner`` is the first.
    """
    turn = Turn(key, owner, wake)
    with _guard:
        line = _lines.setdefault(key, _Line())
        if line.turns:
            first = line.turns[0].owner
            if first.blocks(owner) and not line.turns[0].is_ending:
                raise WouldDeadlock(
                    f"Lock({key[1]!r}) is held by {_named(first)} already, which would wait for itself: a named lock "
                    "cannot be taken twice. Take it once, in the outermost function that needs it."
                )
            if not wait:
                return None
        line.turns.append(turn)
    return turn


def is_first(turn: Turn) -> bool:
    """Whether its turn has come."""
    with _guard:
        line = _lines.get(turn.key)
        return line is not None and bool(line.turns) and line.turns[0] is turn


def leave(turn: Turn, spare: Grip | None = None) -> Grip | None:
    """Leave the line, wherever in it; the next one is woken if the first leaves.

    ``spare``, a grip that is connected and holds nothing, is left to the next one. Returns a grip
    that nobody needs any more, to be closed.
    """
    with _guard:
        line = _lines.get(turn.key)
        if line is None or turn not in line.turns:
            return spare  # it had left, or belongs to the parent of a fork
        was_first = line.turns[0] is turn
        line.turns.remove(turn)
        if not line.turns:
            del _lines[turn.key]
            return spare or line.spare
        following = line.turns[0]
        line.spare = line.spare or spare
    if was_first and not following.wake():
        return leave(following)
    return None


def take_spare(turn: Turn) -> Grip | None:
    """Return the grip that the last holder left behind, if any."""
    with _guard:
        line = _lines[turn.key]
        spare, line.spare = line.spare, None
        return spare


def holder(key: Key) -> Holder | None:
    """Return who has the lock, or its turn, in this process."""
    with _guard:
        line = _lines.get(key)
        first = line.turns[0] if line is not None and line.turns else None
    if first is None:
        return None
    return Holder(host=host_name(), pid=os.getpid(), thread=first.owner.name, since=first.since)


def now() -> datetime:
    """Return this host's time, for people."""
    return datetime.now(UTC)


def _named(owner: Owner) -> str:
    return f"thread {owner.name!r}" if owner.task is None else f"task {owner.task.get_name()!r}"


# --- fork -----------------------------------------------------------------------------------


def _forget() -> None:
    """In the child: the lines are the parent's. A fork while another thread held the guard leaves it taken."""
    global _guard  # noqa: PLW0603 - the module's one lock
    _guard = threading.Lock()
    _lines.clear()  # the grips in them are kept by ``hold``


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
