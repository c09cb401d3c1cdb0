"""What a thread of a pool waits for at the end of a scope, as ``deadlock`` sees it. Made by ``scope`` for each wait."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from ..threads.thread import Thread

if TYPE_CHECKING:
    from .scope import Member, Scope


class Ends:
    """The ends of all members of a scope: ``deadlock.Awaited``.

    All, also where the end of any is waited for: without each of them the scope itself never ends.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.stuck: list[Member] = []  # those that would never end; of use once the wait was refused

    def can_come(self, blocked: AbstractSet[Thread]) -> bool:
        """See ``deadlock.Awaited``. Takes no lock of the scope, whose members may come and go meanwhile."""
        self.stuck = [member for member in list(self._scope.alive) if not self._scope.can_end(member, blocked)]
        return not self.stuck

    def describe_wait(self) -> str:
        """See ``deadlock.Awaited``."""
        member = self.stuck[0]
        future = member.future  # another thread may have ended it by now
        return f"a call of {self._scope.what}: {member.label if future is None else future.describe_wait()}"

    def runner(self) -> Thread | None:
        """Return the thread that is stuck in the first call; None if that has not begun, and so none of them."""
        future = self.stuck[0].future
        return None if future is None else future.thread

    def wake(self) -> None:
        """Wake whoever waits: its wait was refused."""
        with self._scope.lock:
            self._scope.wake()
