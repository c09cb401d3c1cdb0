"""What a child's death means for each of its jobs. Pure.

Called by the supervisor with the slot table of a child that is certainly dead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from ..core.errors import Cancelled, TaskTimeout
from ..core.outcome import End, Outcome
from ..core.text import class_path, clip
from ..ties import describe_status

if TYPE_CHECKING:
    from ..core.job import Run
    from .slots import Entry


class Cause(Enum):
    """Why a child is dead."""

    ITSELF = "it died by itself"
    HUNG = "it gave no sign of life for a whole lease and was killed"
    OVERDUE = "a job did not stop after its timeout, so its process was killed"
    CANCELLED = "a job did not stop after its cancel, so its process was killed"
    GRACE = "its grace period was over, so it was killed"
    FENCED = "its lease could not be renewed, so it stopped"
    DRAINED = "it ended in good order"


_OURS = frozenset({Cause.OVERDUE, Cause.CANCELLED, Cause.GRACE, Cause.FENCED, Cause.DRAINED})
"""Deaths that we brought about: nobody is charged but the job they were for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A dead child: its status, why, and the runs it had begun.

    ``at`` is the monotonic time at which it was found dead. ``overdue`` and ``cancelled``
    name runs that did not stop when they were told to.
    """

    cause: Cause
    status: int | None
    at: float
    entries: tuple[Entry, ...]
    stacks: str = ""
    overdue: frozenset[Run] = field(default_factory=frozenset)
    cancelled: frozenset[Run] = field(default_factory=frozenset)

    def describe(self) -> str:
        """Say what was seen, for the attempt's detail."""
        lines = [f"The process that ran this job is gone: {self.cause.value}."]
        if self.status is not None:
            lines.append(f"Exit status: {describe_status(self.status)}.")
        if self.stacks:
            lines += ["Its last stacks:", self.stacks]
        return clip("\n".join(lines))


def judge(death: Death, run: Run) -> Outcome:
    """Return the outcome of a run that the dead child held in the database.

    A TaskTimeout is returned without a retry: the caller knows the task's policy.
    """
    entry = next((entry for entry in death.entries if entry.run == run), None)
    if entry is None:
        return Outcome(end=End.NOT_BEGUN, begun=False)
    late = death.cause in _OURS and not entry.ended and entry.deadline <= death.at
    if late or run in death.overdue:
        return _named(End.FAILED, TaskTimeout, death)
    if run in death.cancelled:
        return _named(End.CANCELLED, Cancelled, death)
    if death.cause in _OURS or entry.ended:
        return Outcome(end=End.INTERRUPTED, detail=death.describe())
    going_on = [entry for entry in death.entries if not entry.ended]
    # Whoever held the GIL is not known; alone, in a process of its own, it will be.
    alone = len(going_on) == 1 and death.cause is not Cause.HUNG
    return Outcome(end=End.CRASHED if alone else End.SHARED_DEATH, detail=death.describe())


def _named(end: End, error: type[BaseException], death: Death) -> Outcome:
    return Outcome(end=end, exception=class_path(error), detail=death.describe())
