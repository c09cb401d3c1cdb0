"""The states of a job and the legal transitions between them.

::

    SCHEDULED ──due──▶ READY ──claim──▶ RUNNING ──▶ SUCCESSFUL
        ▲                ▲                 │    ├─▶ FAILED
        │                └─retry, release──┤    ├─▶ CANCELLED
        └──────────retry with a delay──────┘    └─▶ QUARANTINED

SCHEDULED and READY go to CANCELLED at once; an operator's ``retry`` brings any
terminal job back to READY. The guards live in the statements of ``store``; this
table is what they are tested against.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class JobState(IntEnum):
    """A job's state; as text it is its name. The numbers are stored and stand as literals in partial indexes.

    SQL takes ``.value`` or ``int()``, never the text.
    """

    SCHEDULED = 1
    READY = 2
    RUNNING = 3
    SUCCESSFUL = 4
    FAILED = 5
    CANCELLED = 6
    QUARANTINED = 7

    @property
    def is_terminal(self) -> bool:
        """Whether nothing but an operator's ``retry`` leads out of this state."""
        return self in TERMINAL

    def __str__(self) -> str:
        return self.name

    def __format__(self, spec: str, /) -> str:
        """Format the name: the number is what an ``IntEnum`` would give."""
        return format(self.name, spec)


LIVE = frozenset({JobState.SCHEDULED, JobState.READY, JobState.RUNNING})
TERMINAL = frozenset(JobState) - LIVE

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.SCHEDULED: frozenset({JobState.READY, JobState.CANCELLED}),
    JobState.READY: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.SCHEDULED, JobState.READY}) | TERMINAL,
    **dict.fromkeys(sorted(TERMINAL), frozenset({JobState.READY})),
}


class AttemptKind(StrEnum):
    """Why a begun run did not succeed. One ``attempt`` row each; successes write none."""

    FAILED = "failed"
    CRASH = "crash"
    INTERRUPTED = "interrupted"


class Executor(StrEnum):
    """Where a body runs. The row stores the effective one."""

    THREAD = "thread"
    ASYNCIO = "asyncio"
    PROCESS = "process"
