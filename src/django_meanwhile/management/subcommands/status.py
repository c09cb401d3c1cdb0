"""``meanwhile status``: queues, workers, and what is wrong. Its exit status serves probes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...conf import read_settings
from ...core.errors import UnknownTask
from ...logs import escape
from ...tasks.registry import resolve
from ..backends import UNREACHABLE, by_database, reachable, store_on
from ..diagnosis import Finding, diagnose
from ..snapshot import LIMIT, RunningJob, Snapshot, WorkerView, take
from ..wording import bounded, duration, one_of, or_more, parse_duration, table, utc
from .base import Subcommand

_RUNNING_SHOWN = 10


class Status(Subcommand):
    """See the module."""

    name = "status"
    summary = "show queues, workers, and what is wrong"
    description = f"""\
Shows the queues, the living workers with what they run, and a list of what is wrong. Cheap enough
to be run every few seconds: counts stop at {LIMIT}, and of the history only what failed in the
last day is looked at.

What counts as wrong: due work that no living worker takes; jobs RUNNING on a worker that is gone; a
queue whose oldest ready job is older than --max-age; due jobs that nobody made ready; jobs of a
task that this code does not have; suspects; and jobs that were quarantined in the last day. Jobs that
failed are counted, and are not wrong: the exit status is about the queue.
"""
    epilog = """\
examples:
  manage.py meanwhile status
  manage.py meanwhile status --max-age 2m || page-somebody
  manage.py meanwhile status --json | jq '.databases[].problems'

exit status: 0 all right
             1 something is wrong; the list says what
             2 the database cannot be asked (no server, no tables, no such backend)
"""

    @classmethod
    def add_arguments(cls, parser: CommandParser) -> None:
        """See the base class."""
        parser.add_argument("--json", action="store_true", help="as JSON, for programs")
        parser.add_argument("--backend", metavar="ALIAS", help="only the database of this backend of TASKS")
        parser.add_argument(
            "--max-age",
            type=parse_duration,
            default=300.0,
            metavar="AGE",
            help="a ready job older than this is wrong (default: 5m)",
        )

    def handle(self, options: Mapping[str, Any]) -> int:
        """See the base class. Status 1 is kept for findings: what keeps the command from looking is 2."""
        try:
            looked = self._look(options)
        except CommandError as error:
            error.returncode = UNREACHABLE
            raise
        if options["json"]:
            self.say_json(as_json(looked))
        else:
            for snapshot, findings in looked:
                self._show(snapshot, findings)
        return int(any(findings for _, findings in looked))

    def _look(self, options: Mapping[str, Any]) -> list[tuple[Snapshot, list[Finding]]]:
        settings, _ = read_settings()
        overdue_after = settings.sweep + 2 * settings.beat + 1
        looked: list[tuple[Snapshot, list[Finding]]] = []
        for database, backends in by_database(options["backend"]).items():
            store = store_on(database)
            with reachable(database):
                snapshot = take(store, backends, overdue_after=overdue_after)
            unknown = unknown_tasks(snapshot.waiting_tasks)
            findings = diagnose(
                snapshot, unknown_tasks=unknown, max_age=options["max_age"], overdue_after=overdue_after
            )
            looked.append((snapshot, findings))
        return looked

    def _show(self, snapshot: Snapshot, findings: Collection[Finding]) -> None:
        backends = one_of(served.backend for served in snapshot.backends)
        self.heading(f"Database {snapshot.database!r} ({snapshot.vendor}), backend {backends}, at {utc(snapshot.now)}")
        self._queues(snapshot)
        self._workers(snapshot)
        self.say()
        self.say(_failures(snapshot))
        self.say()
        if not findings:
            self.say(self.style.SUCCESS(_all_right(snapshot)))
            return
        self.say(self.style.ERROR("Wrong:"))
        for finding in findings:
            self.say(f"- {self.style.WARNING(finding.message)}")
            self.say(f"  {finding.advice}")

    def _queues(self, snapshot: Snapshot) -> None:
        self.say()
        if not snapshot.depths:
            self.say("No job waits or runs.")
            return
        rows = [
            (
                depth.queue,
                depth.executor.value,
                *(bounded(number, LIMIT) for number in (depth.ready, depth.scheduled, depth.running, depth.suspects)),
                "-" if depth.oldest_ready_seconds is None else duration(depth.oldest_ready_seconds),
            )
            for depth in snapshot.depths
        ]
        head = ("QUEUE", "EXECUTOR", "READY", "SCHEDULED", "RUNNING", "SUSPECTS", "OLDEST READY")
        for line in table(head, rows, right=range(2, 7)):
            self.say(line)

    def _workers(self, snapshot: Snapshot) -> None:
        self.say()
        living = [worker for worker in snapshot.workers if worker.living]
        if not living:
            self.say("No worker lives.")
            return
        head = ("WORKER", "HOST", "PID", "QUEUES", "EXECUTORS", "SLOTS", "BUSY", "LEASE LEFT")
        rows = [
            (
                worker.kind,
                worker.host,
                str(worker.pid),
                ",".join(worker.queues) or "all",
                ",".join(worker.executors),
                str(worker.slots),
                str(len(snapshot.running_on(worker.id))),
                duration(round(worker.lease_left)),
            )
            for worker in living
        ]
        lines = table(head, rows, right=(2, 5, 6, 7))
        self.say(lines[0])
        for worker, line in zip(living, lines[1:], strict=True):
            self.say(line)
            running = snapshot.running_on(worker.id)
            for job in running[:_RUNNING_SHOWN]:
                self.say(
                    f"    {job.id}  {escape(job.task)}  "
                    f"{duration(round(job.seconds))}{'  cancel requested' if job.cancel_requested else ''}"
                )
            if len(running) > _RUNNING_SHOWN:
                self.say(f"    ... and {len(running) - _RUNNING_SHOWN} more")


def _failures(snapshot: Snapshot) -> str:
    """Say what ended badly in the last day, and how to look at it."""
    counts = {"failed": snapshot.failed, "quarantined": snapshot.quarantined}
    some = {name: number for name, number in counts.items() if number or name == "failed"}
    said = ", ".join(f"{name} in the last day: {or_more(number, LIMIT)}" for name, number in some.items())
    names = ",".join(name for name, number in some.items() if number)
    advice = f" (manage.py meanwhile list --state {names} --since 1d)" if names else ""
    return f"{said.capitalize()}{advice}"


def _all_right(snapshot: Snapshot) -> str:
    if any(worker.living for worker in snapshot.workers):
        return "Nothing is wrong."
    if not snapshot.depths:
        return "Nothing is wrong: there is no job that needs a worker."
    return "Nothing is wrong yet, but the jobs above will need a worker."


def unknown_tasks(names: Iterable[str]) -> dict[str, str]:
    """Return the names that this code has no task for, with the reason."""
    unknown = {}
    for name in names:
        try:
            resolve(name)
        except UnknownTask as error:
            unknown[name] = str(error)
    return unknown


def as_json(looked: Collection[tuple[Snapshot, Collection[Finding]]]) -> dict[str, Any]:
    """Return what ``status --json`` prints. Keys are added in later versions, not removed or renamed."""
    return {
        "healthy": not any(findings for _, findings in looked),
        "count_limit": LIMIT,
        "databases": [
            {
                "database": snapshot.database,
                "vendor": snapshot.vendor,
                "time": utc(snapshot.now),
                "backends": [served.backend for served in snapshot.backends],
                "queues": [
                    {
                        "queue": depth.queue,
                        "executor": depth.executor.value,
                        "ready": depth.ready,
                        "scheduled": depth.scheduled,
                        "running": depth.running,
                        "suspects": depth.suspects,
                        "oldest_ready_seconds": depth.oldest_ready_seconds,
                    }
                    for depth in snapshot.depths
                ],
                "failed_last_day": snapshot.failed,
                "quarantined_last_day": snapshot.quarantined,
                "workers": [_worker(snapshot, worker) for worker in snapshot.workers if worker.living],
                "problems": [
                    {"code": finding.code, "message": finding.message, "advice": finding.advice, **finding.details}
                    for finding in findings
                ],
            }
            for snapshot, findings in looked
        ],
    }


def _worker(snapshot: Snapshot, worker: WorkerView) -> dict[str, Any]:
    return {
        "id": str(worker.id),
        "parent_id": str(worker.parent_id),
        "kind": worker.kind,
        "host": worker.host,
        "pid": worker.pid,
        "queues": list(worker.queues),
        "executors": list(worker.executors),
        "slots": worker.slots,
        "lease_left_seconds": round(worker.lease_left, 3),
        "running": [_job(job) for job in snapshot.running_on(worker.id)],
    }


def _job(job: RunningJob) -> dict[str, Any]:
    return {
        "id": str(job.id),
        "task": job.task,
        "queue": job.queue,
        "seconds": round(job.seconds, 3),
        "cancel_requested": job.cancel_requested,
    }
