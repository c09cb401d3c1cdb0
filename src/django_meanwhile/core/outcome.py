"""Outcome of a run, and the decision that follows from it.

A run ends in one :class:`Outcome`. :func:`decide` turns it, purely, into a
:class:`Decision`; the store writes decisions, many in one statement, each
fenced by its run. Nothing else ends a run.

Charges, never mixed (``design``: three counters): the claim has already raised
``attempts``; an ending that was not the job's own fault takes that back and
raises one of the others instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from .job import ClaimedJob, Run
from .states import AttemptKind, Executor, JobState

MAX_CRASHES = 3
"""Deaths while running alone before a job is quarantined."""

MAX_SHARED_DEATHS = 2
"""Deaths in company before a job becomes a suspect and runs alone."""

MAX_DEATHS = 10
"""Deaths in company before a job is quarantined all the same.

A suspect has company only in the death of a whole worker or host, which says
little about the job: a deploy that goes wrong kills workers, too. Ten of them do.
"""


class End(Enum):
    """How a run ended."""

    SUCCEEDED = "the body returned"
    FAILED = "the body raised, or overran its timeout"
    CANCELLED = "the body was stopped by a cancel"
    INTERRUPTED = "the worker took the run away: deploy, self-fence, recycled child"
    SHARED_DEATH = "the process died while other jobs ran in it, or a host died"
    CRASHED = "the process died while this job ran alone in it"
    NOT_BEGUN = "claimed, but the body was never called"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one run ended, with what is worth keeping of it.

    ``result`` and ``progress`` are encoded texts. ``retry_in`` is the delay that
    the task's retry policy grants a failure, in seconds; ``None`` grants none.
    ``executor`` and ``queue`` re-route a run that was not begun. ``begun`` is
    false only where the body was certainly never called.
    """

    end: End
    result: str | None = None
    progress: str | None = None
    exception: str = ""
    detail: str = ""
    retry_in: float | None = None
    executor: Executor | None = None
    queue: str | None = None
    begun: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the store writes for one run, if the run still owns the job.

    ``delay`` makes the job SCHEDULED that many seconds from the database's now. A
    job whose cancel was requested never goes back to READY or SCHEDULED: the
    statement makes it CANCELLED.
    """

    run: Run
    state: JobState
    delay: float | None = None
    result: str | None = None
    progress: str | None = None
    kind: AttemptKind | None = None
    exception: str = ""
    detail: str = ""
    attempts: int = 0
    crashes: int = 0
    interruptions: int = 0
    deaths: int = 0
    suspect: bool = False
    executor: Executor | None = None
    queue: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """The counters of a running job that a decision depends on."""

    run: Run
    crashes: int
    deaths: int
    suspect: bool
    retry_on_crash: bool
    #: For log lines.
    task: str = field(default="", compare=False)

    @classmethod
    def of(cls, job: ClaimedJob) -> Charged:
        """Take them from a claimed job."""
        return cls(
            run=job.run,
            crashes=job.crashes,
            deaths=job.deaths,
            suspect=job.suspect,
            retry_on_crash=job.retry_on_crash,
            task=job.task,
        )


CANCELLED_PATH = "django_meanwhile.core.errors.Cancelled"
CRASHED_PATH = "django_meanwhile.core.errors.Crashed"
INTERRUPTED_PATH = "django_meanwhile.core.errors.Interrupted"


def decide(job: Charged, outcome: Outcome) -> Decision:
    """Return what to write for ``outcome``. Pure: same input, same decision."""
    match outcome.end:
        case End.SUCCEEDED:
            return Decision(
                run=job.run,
                state=JobState.SUCCESSFUL,
                result=outcome.result,
                progress=outcome.progress,
            )
        case End.FAILED:
            return _failed(job, outcome)
        case End.CANCELLED:
            return Decision(
                run=job.run,
                state=JobState.CANCELLED,
                progress=outcome.progress,
                kind=AttemptKind.FAILED,
                exception=outcome.exception or CANCELLED_PATH,
                detail=outcome.detail,
                suspect=job.suspect,
            )
        case End.NOT_BEGUN:
            return Decision(
                run=job.run,
                state=_back(outcome.retry_in),
                delay=outcome.retry_in or None,
                attempts=-1,
                suspect=job.suspect,
                executor=outcome.executor,
                queue=outcome.queue,
            )
        case End.INTERRUPTED | End.SHARED_DEATH | End.CRASHED:
            return _taken_away(job, outcome)


def _back(delay: float | None) -> JobState:
    return JobState.SCHEDULED if delay else JobState.READY


def _failed(job: Charged, outcome: Outcome) -> Decision:
    again = outcome.retry_in is not None
    return Decision(
        run=job.run,
        state=_back(outcome.retry_in) if again else JobState.FAILED,
        delay=outcome.retry_in or None,
        progress=outcome.progress,
        kind=AttemptKind.FAILED,
        exception=outcome.exception,
        detail=outcome.detail,
        suspect=job.suspect and again,
    )


def _taken_away(job: Charged, outcome: Outcome) -> Decision:
    """Decide on a begun run that ended without an outcome of its own.

    ``on_crash="fail"`` covers all of them. Otherwise the job runs again, unless it
    has now died alone for the third time, or a tenth worker died with it.
    """
    alone = outcome.end is End.CRASHED
    shared = outcome.end is End.SHARED_DEATH
    crashes, deaths = job.crashes + alone, job.deaths + shared
    if not job.retry_on_crash:
        state = JobState.FAILED
    elif crashes >= MAX_CRASHES or deaths >= MAX_DEATHS:
        state = JobState.QUARANTINED
    else:
        state = JobState.READY
    back = state is JobState.READY
    return Decision(
        run=job.run,
        state=state,
        progress=outcome.progress,
        kind=AttemptKind.CRASH if alone else AttemptKind.INTERRUPTED,
        exception=outcome.exception or (CRASHED_PATH if alone or shared else INTERRUPTED_PATH),
        detail=outcome.detail if job.retry_on_crash else _with_reason(outcome.detail),
        attempts=-1,
        crashes=int(alone),
        interruptions=int(not alone),
        deaths=int(shared),
        suspect=back and (job.suspect or deaths >= MAX_SHARED_DEATHS),
    )


def _with_reason(detail: str) -> str:
    return "\n".join(filter(None, (detail, 'on_crash="fail": it is not run again.')))
