"""Tells the log how each run ended: one record, once its outcome is accepted.

Called by ``child`` for the runs that it ended itself. What a supervisor settles or
rescues is told by ``upkeep``, a run that was lost or refused by ``completer``; a run
that was given back before its body began is no event. It decides nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .. import logs
from ..core.outcome import End
from ..core.states import JobState
from ..core.text import summary

if TYPE_CHECKING:
    from ..core.job import ClaimedJob
    from ..core.outcome import Outcome
    from ..run.handle import RunHandle

logger = logs.get_logger("jobs")


def tell(job: ClaimedJob, outcome: Outcome, state: JobState, handle: RunHandle | None, seconds: float) -> None:
    """Log the end of a run of ``job``: what it came to, and the ``state`` that was written.

    ``handle`` is None if the body was never called; ``seconds`` is how long it ran.
    """
    if state is JobState.SUCCESSFUL:
        # The fast path: at INFO, printed, a worker ran a tenth fewer empty jobs a second.
        if logger.isEnabledFor(logging.DEBUG):
            logs.for_job(logger, job.id, job.task).debug("succeeded in %.2f s", seconds)
    elif state is JobState.CANCELLED:
        logs.for_job(logger, job.id, job.task).info("cancelled")
    elif outcome.end is End.INTERRUPTED:
        _interrupted(job, state)
    elif outcome.end is End.FAILED:
        _failed(job, outcome, state, handle)


def _interrupted(job: ClaimedJob, state: JobState) -> None:
    log = logs.for_job(logger, job.id, job.task)
    if state is JobState.FAILED:
        log.error('interrupted, and FAILED: on_crash="fail", so it is not run again')
    else:
        log.warning("interrupted; it is run again")


def _failed(job: ClaimedJob, outcome: Outcome, state: JobState, handle: RunHandle | None) -> None:
    """A traceback goes with the end of a job only: attempts keep theirs in their rows."""
    why = summary(outcome.exception, outcome.detail)
    if state is not JobState.FAILED:
        log = logs.for_job(logger, job.id, job.task)
        allowed = job.attempts if handle is None else handle.task.max_attempts
        log.warning("attempt %d of %d failed: %s; again in %.1f s", job.attempts, allowed, why, outcome.retry_in or 0)
        return
    log = logs.for_job(logger, job.id, job.task, lines=outcome.detail)
    if handle is None:
        log.error("could not be begun: %s", why)
    else:
        log.error("failed at attempt %d of %d: %s", job.attempts, handle.task.max_attempts, why)
