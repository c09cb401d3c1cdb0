"""The supervisor's ear: turns the store's wake-ups into pokes of its children.

An accelerator, never a condition: every child polls anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..store import wake
from ..store.wake import ANYTHING, CANCEL
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
        self._source: wake.Listener | None = None  # of this start; a closed one hears nothing again

    def wake(self) -> None:
        """See ``Part``."""
        if self._source is not None:
            self._source.close()

    def run(self) -> None:
        """Listen until stopped."""
        source = self._source = wake.make_listener(self._plan.database)
        try:
            while not self.is_stopping:
                announced = source.wait(WAIT)
                if announced and not self.is_stopping:
                    self._pass_on(announced)
        finally:
            source.close()

    def _pass_on(self, announced: set[str]) -> None:
        if announced & {CANCEL, ANYTHING}:
            self._upkeep.look_for_cancels()
        if not self._plan.queues or announced & {ANYTHING, *self._plan.queues}:
            for child in self._children():
                child.send({"op": "wake"})
