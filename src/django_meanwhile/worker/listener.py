"""The supervisor's ear: turns the store's wake-ups into pokes of its children.

An accelerator, never a condition: every child polls anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..store.wake import CANCEL, ANYTHING, make_listener
from .part import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .offspring import Offspring
    from .plan import WorkerPlan
    from .upkeep import Upkeep

WAIT = 5.0
"""Seconds of one wait; ``stop`` interrupts it."""


class Listener(Part):
    """See the module."""

    name = "listener"

    def __init__(self, plan: WorkerPlan, upkeep: Upkeep, children: Callable[[], Iterable[Offspring]]) -> None:
        super().__init__()
        self._plan = plan
        self._upkeep = upkeep
        self._children = children
        self._source = make_listener(plan.database)

    def wake(self) -> None:
        """See ``Part``."""
        self._source.close()

    def run(self) -> None:
        """Listen until stopped."""
        while not self.is_stopping:
            announced = self._source.wait(WAIT)
            if not announced or self.is_stopping:
                continue
            if announced & {CANCEL, ANYTHING}:
                self._upkeep.look_for_cancels()
            if not self._plan.queues or announced & {ANYTHING, *self._plan.queues}:
                for child in self._children():
                    child.send({"op": "wake"})
