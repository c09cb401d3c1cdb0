"""What is wrong with a queue: a snapshot judged. Pure; used by ``status`` and by ``check --deploy``.

One function for each thing that can be wrong. Each finding names what, how much, since when, and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.job import Depth
from ..logs import escape
from ..tasks.unworked import worker_line
from .snapshot import LIMIT, RunningJob, Snapshot
from .wording import duration, jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong. ``code`` is stable, for programs; ``details`` are JSON values."""

    code: str
    message: str
    advice: str
    details: dict[str, Any] = field(default_factory=dict)


def diagnose(
    snapshot: Snapshot, *, unknown_tasks: Mapping[str, str], max_age: float, overdue_after: float
) -> list[Finding]:
    """Return everything that is wrong. ``unknown_tasks``: name → why, of the waiting jobs' tasks."""
    return [
        *unserved_queues(snapshot),
        *_gone_workers(snapshot, overdue_after),
        *_suspects(snapshot.depths),
        *_old_ready(snapshot.depths, max_age),
        *_quarantined(snapshot),
        *_unknown(snapshot, unknown_tasks),
    ]


def unserved_queues(snapshot: Snapshot) -> Iterator[Finding]:
    """Find queues with due work that no living worker takes, and due jobs that nobody promotes."""
    workers, overdue = snapshot.workers, snapshot.overdue
    for depth in snapshot.depths:
        late = overdue.get((depth.queue, depth.executor), 0)
        due = depth.ready + late
        if not due or any(worker.serves(depth.queue, depth.executor) for worker in workers):
            continue
        waiting = (
            "" if depth.oldest_ready_seconds is None else f", the oldest for {duration(depth.oldest_ready_seconds)}"
        )
        yield Finding(
            code="queue-without-worker",
            message=(
                f"Nobody works queue {quoted(depth.queue)}, executor {depth.executor.value}: "
                f"{jobs(due, LIMIT)} due{waiting}, and no living worker takes them."
            ),
            advice=f"Run: {worker_line(snapshot.database, depth.queue, depth.executor)}",
            details={"queue": depth.queue, "executor": depth.executor.value, "due": due},
        )
    if overdue and any(worker.living for worker in workers):
        yield Finding(
            code="scheduled-overdue",
            message=(
                f"{jobs(sum(overdue.values()), LIMIT)} scheduled for a time that is past, "
                "and no worker has made them ready."
            ),
            advice="A living worker does that every second: look into the workers' logs for errors of the database.",
            details={"jobs": sum(overdue.values())},
        )


def gone_runs(snapshot: Snapshot, overdue_after: float) -> list[RunningJob]:
    """Return RUNNING jobs whose worker has been dead, expired or missing for longer than recovery takes."""
    workers = {worker.id: worker for worker in snapshot.workers}

    def is_gone(job: RunningJob) -> bool:
        worker = workers.get(job.worker_id)
        if worker is None:  # since when is unknown; a run that young may be a race of our own reading
            return job.seconds > overdue_after
        return worker.lease_left < -overdue_after

    return [job for job in snapshot.running if is_gone(job)]


def _gone_workers(snapshot: Snapshot, overdue_after: float) -> Iterator[Finding]:
    gone = gone_runs(snapshot, overdue_after)
    if not gone:
        return
    living = any(worker.living for worker in snapshot.workers)
    yield Finding(
        code="jobs-of-dead-workers",
        message=(
            f"{jobs(len(gone), LIMIT)} RUNNING on workers that are gone, for longer than a sweep takes; "
            f"the first is {gone[0].id}."
        ),
        advice=(
            "Look into the logs of the living workers: one of them should have taken these jobs back."
            if living
            else "No worker lives that could take them back. Run: manage.py meanwhile worker"
        ),
        details={"jobs": [str(job.id) for job in gone[:20]], "number": len(gone)},
    )


def _suspects(depths: Iterable[Depth]) -> Iterator[Finding]:
    for depth in depths:
        if depth.suspects:
            yield Finding(
                code="suspects-waiting",
                message=(
                    f"{jobs(depth.suspects, LIMIT)} of queue {quoted(depth.queue)} under suspicion: "
                    "in company when workers died, to be run alone."
                ),
                advice="A worker of this queue runs each in a process of its own; what kills that too is quarantined.",
                details={"queue": depth.queue, "executor": depth.executor.value, "suspects": depth.suspects},
            )


def _old_ready(depths: Iterable[Depth], max_age: float) -> Iterator[Finding]:
    for depth in depths:
        age = depth.oldest_ready_seconds
        if age is not None and age > max_age:
            yield Finding(
                code="ready-too-old",
                message=(
                    f"Queue {quoted(depth.queue)}, executor {depth.executor.value} is behind: "
                    f"its oldest ready job has waited {duration(age)}, more than {duration(max_age)}."
                ),
                advice="Start more workers or give them more slots, or allow more with --max-age.",
                details={"queue": depth.queue, "executor": depth.executor.value, "oldest_ready_seconds": round(age, 3)},
            )


def _quarantined(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.quarantined:
        yield Finding(
            code="quarantined",
            message=(
                f"{jobs(snapshot.quarantined, LIMIT)} quarantined in the last day: "
                "the processes that ran such a job died."
            ),
            advice=(
                "List them with: manage.py meanwhile list --state quarantined --since 1d. "
                "Once mended: manage.py meanwhile retry --state quarantined --since 1d"
            ),
            details={"jobs": snapshot.quarantined},
        )


def _unknown(snapshot: Snapshot, unknown_tasks: Mapping[str, str]) -> Iterator[Finding]:
    for task, reason in sorted(unknown_tasks.items()):
        number = snapshot.waiting_tasks.get(task, 0)
        if number:
            yield Finding(
                code="unknown-task",
                message=f"{jobs(number, LIMIT)} waiting for a task that this code does not have: {escape(reason)}",
                advice=f"If it is gone for good: manage.py meanwhile cancel --task {escape(task)}",
                details={"task": task, "jobs": number},
            )


def quoted(name: str) -> str:
    """Quote a name that comes from a row."""
    return f'"{escape(name)}"'
