"""Runs that did not succeed, and the errors that name how a job ended.

Read by ``result``. A :class:`TaskError` is Django's, and knows in addition which
run it was; the two endings that no run may show (cancelled while it waited,
quarantined) get an error of their own, so that a FAILED result is never silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ..compat import TaskError as DjangoTaskError
from ..core.errors import Cancelled, Quarantined
from ..core.outcome import CRASHED_PATH, End, Outcome
from ..core.states import AttemptKind, JobState
from ..core.text import class_path

if TYPE_CHECKING:
    from ..models import Attempt

_NAMED = {
    JobState.CANCELLED: (Cancelled, "The job was cancelled."),
    JobState.QUARANTINED: (
        Quarantined,
        (
            "The job killed the process that ran it too often and is not run again by itself. "
            "The attempts before this say what was seen; result.retry() runs it once more."
        ),
    ),
}

_KINDS = {
    End.CRASHED: AttemptKind.CRASH,
    End.SHARED_DEATH: AttemptKind.INTERRUPTED,
    End.INTERRUPTED: AttemptKind.INTERRUPTED,
}


@dataclass(frozen=True, kw_only=True)
class TaskError(DjangoTaskError):  # type: ignore[misc] # the stubs forget that it is frozen
    """One run that did not succeed: Django's path and traceback, and which run it was.

    ``kind`` and ``epoch`` are None for an error that names an ending and no run.
    """

    kind: AttemptKind | None = None
    epoch: int | None = None
    worker_id: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @classmethod
    def from_row(cls, row: Attempt) -> TaskError:
        """Read an ``attempt`` row."""
        return cls(
            exception_class_path=row.exception,
            traceback=row.detail,
            kind=AttemptKind(row.kind),
            epoch=row.epoch,
            worker_id=str(row.worker_id),
            started_at=row.started_at,
            ended_at=row.ended_at,
        )

    @classmethod
    def from_outcome(
        cls,
        outcome: Outcome,
        *,
        epoch: int,
        worker_id: str,
        started_at: datetime | None,
        ended_at: datetime,
    ) -> TaskError:
        """Make what ``from_row`` will read once ``outcome`` is stored."""
        return cls(
            exception_class_path=outcome.exception or CRASHED_PATH,
            traceback=outcome.detail,
            kind=_KINDS.get(outcome.end, AttemptKind.FAILED),
            epoch=epoch,
            worker_id=worker_id,
            started_at=started_at,
            ended_at=ended_at,
        )


def errors_of(
    state: JobState, epoch: int, attempt_log: Iterable[TaskError], ended_at: datetime | None
) -> list[TaskError]:
    """Return the errors of a job: failures and crashes, and the one that names its ending.

    Interruptions are nobody's error, unless one ended the job (``on_crash="fail"``).
    """
    ended = state.is_terminal and state is not JobState.SUCCESSFUL
    errors = [
        attempt
        for attempt in attempt_log
        if attempt.kind is not AttemptKind.INTERRUPTED or (ended and attempt.epoch == epoch)
    ]
    if state in _NAMED:
        error, text = _NAMED[state]
        path = class_path(error)
        if not errors or errors[-1].exception_class_path != path:
            errors.append(TaskError(exception_class_path=path, traceback=text, ended_at=ended_at))
    return errors


def workers_of(state: JobState, attempts: int, attempt_log: Sequence[TaskError], current: str | None) -> list[str]:
    """Return the workers of the attempts that count: Django's ``attempts`` is their number.

    Crashes and interruptions are not attempts, and an operator's ``retry`` starts
    the count again, so the newest failures are taken. ``current`` runs the job, or
    ran it successfully. Where rows are not at hand, the place holds an empty text.
    """
    running = state in {JobState.RUNNING, JobState.SUCCESSFUL}
    earlier = max(attempts - running, 0)
    failed = [a.worker_id or "" for a in attempt_log if a.kind is AttemptKind.FAILED]
    failed = failed[len(failed) - earlier :] if earlier < len(failed) else failed
    workers = [""] * (earlier - len(failed)) + failed
    return [*workers, current or ""] if running and attempts else workers
