"""``meanwhile show``: everything about one job."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...core.states import JobState
from ...fields import naive_utc
from ...logs import escape
from ...models import Attempt, Job, Worker
from ...store import Store
from ..backends import reachable
from ..selection import find_job
from ..wording import duration, indented, pretty_json, utc
from .base import Subcommand

_TIMES = ("enqueued_at", "due_at", "started_at", "attempted_at", "finished_at", "cancel_requested_at")
_COUNTERS = {
    "attempts": "runs begun, without crashes and interruptions",
    "crashes": "deaths of its process while it ran alone",
    "interruptions": "runs taken away by a deploy, a lost lease or a dead host; charged nothing",
    "deaths": "deaths of its process in company; at the second it runs alone",
}


class Show(Subcommand):
    """See the module."""

    name = "show"
    summary = "show everything about one job"
    description = """\
Shows a job: state, times, arguments, result, progress, its counters, and every attempt that did not
succeed with its traceback. Arguments and results may hold personal data: mind where you paste them.
"""
    epilog = """\
examples:
  manage.py meanwhile show 0190d2a4-7c1e-7b3a-9d55-0242ac120002
  manage.py meanwhile show 0190d2a47c1e              the beginning of an id will do, if only one job has it
  manage.py meanwhile show 0190d2a47c1e --json       for programs

exit status: 0 found, 1 not found or not the only one, 2 the database cannot be asked
"""

    @classmethod
    def add_arguments(cls, parser: CommandParser) -> None:
        """See the base class."""
        parser.add_argument("job", metavar="JOB", help="its id, or the first 8 digits or more")
        parser.add_argument("--attempts", type=int, default=100, metavar="N", help="the last N attempts (default: 100)")
        parser.add_argument("--backend", metavar="ALIAS", help="look in the database of this backend of TASKS only")
        parser.add_argument("--json", action="store_true", help="as JSON, for programs")

    def handle(self, options: Mapping[str, Any]) -> int:
        """See the base class."""
        if options["attempts"] < 0:
            raise CommandError(f"--attempts {options['attempts']}: must be 0 or more.")
        store, job = find_job(options["job"], options["backend"])
        with reachable(store.alias):
            newest = Attempt.objects.using(store.alias).filter(job_id=job.pk).order_by("-epoch")[: options["attempts"]]
            attempts = list(newest)[::-1]
            worker_id = job.worker_id or job.last_worker_id
            worker = None if worker_id is None else Worker.objects.using(store.alias).filter(pk=worker_id).first()
            now = naive_utc(store.now())
        if options["json"]:
            self.say_json(as_json(job, attempts, worker, store.alias))
            return 0
        self._head(job, worker, store)
        self._times(job, now)
        self._counters(job)
        self._texts(job)
        self._attempts(attempts)
        return 0

    def _head(self, job: Job, worker: Worker | None, store: Store) -> None:
        state = JobState(job.state)
        paint = {
            JobState.SUCCESSFUL: self.style.SUCCESS,
            JobState.FAILED: self.style.ERROR,
            JobState.QUARANTINED: self.style.ERROR,
        }
        self.heading(f"Job {job.pk}")
        self._line("task", job.task)
        self.say(f"  {'state':14}{paint.get(state, str)(state.name)}{'  (suspect: runs alone)' if job.suspect else ''}")
        self._line("queue", f"{job.queue}, executor {job.executor}, priority {job.priority}")
        self._line("backend", f"{job.backend}, in database {store.alias}")
        if worker_id := job.worker_id or job.last_worker_id:
            known = (
                "its row is gone"
                if worker is None
                else f"{worker}, {'dead' if worker.dead_at else 'not known to be dead'}"
            )
            self._line("worker" if job.worker_id else "last worker", f"{worker_id} ({known})")

    def _times(self, job: Job, now: Any) -> None:
        for name in _TIMES:
            value = getattr(job, name)
            if value is not None:
                ago = (now - naive_utc(value)).total_seconds()
                when = f"{duration(ago)} ago" if ago >= 0 else f"in {duration(-ago)}"
                self._line(name.removesuffix("_at").replace("_", " "), f"{utc(value)}  ({when})")

    def _counters(self, job: Job) -> None:
        for name, meaning in _COUNTERS.items():
            told = _uncounted(job) or meaning if name == "attempts" else meaning
            self._line(name, f"{getattr(job, name):<5} {told}")
        self._line("on_crash", "retry" if job.retry_on_crash else "fail")

    def _texts(self, job: Job) -> None:
        for name in ("arguments", "overrides", "context", "progress", "result"):
            text = getattr(job, name)
            if text is not None and text != "{}":
                self.heading(name.capitalize())
                self.say(indented(pretty_json(text), "  "))

    def _attempts(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            lasted = (naive_utc(attempt.ended_at) - naive_utc(attempt.started_at)).total_seconds()
            self.heading(f"Attempt: run {attempt.epoch}, {attempt.kind}")
            self._line("exception", attempt.exception)
            self._line("started", f"{utc(attempt.started_at)}, lasted {duration(max(0.0, lasted))}")
            self._line("worker", str(attempt.worker_id))
            self.say(indented(attempt.detail))

    def _line(self, name: str, value: str) -> None:
        self.say(f"  {name:13} {escape(value)}")


def _uncounted(job: Job) -> str:
    """Say beside the attempts which runs are none: a job that killed its worker five times has begun 0."""
    runs = [(job.crashes, "crash", "crashes"), (job.interruptions, "interruption", "interruptions")]
    told = " and ".join(f"{number} {one if number == 1 else many}" for number, one, many in runs if number)
    company = f" ({job.deaths} of them by deaths in company)" if job.deaths and job.interruptions else ""
    return f"runs begun, without {told}{company}" if told else ""


def as_json(job: Job, attempts: Iterable[Attempt], worker: Worker | None, database: str) -> dict[str, Any]:
    """Return a job as JSON values. Arguments and result in their stored form: ``{"$datetime": …}`` and so on."""
    plain = ("task", "backend", "queue", "executor", "priority", "suspect", "epoch", *_COUNTERS, "retry_on_crash")
    return {
        "id": str(job.pk),
        "database": database,
        "state": JobState(job.state).name,
        **{name: getattr(job, name) for name in plain},
        **{name: utc(getattr(job, name)) for name in _TIMES},
        "worker_id": _text(job.worker_id),
        "last_worker_id": _text(job.last_worker_id),
        "worker": None if worker is None else str(worker),
        **{name: _parsed(getattr(job, name)) for name in ("arguments", "overrides", "context", "progress", "result")},
        "attempt_rows": [
            {
                "epoch": attempt.epoch,
                "kind": attempt.kind,
                "started_at": utc(attempt.started_at),
                "ended_at": utc(attempt.ended_at),
                "worker_id": str(attempt.worker_id),
                "exception": attempt.exception,
                "detail": attempt.detail,
            }
            for attempt in attempts
        ],
    }


def _parsed(text: str | None) -> Any:
    """Parse stored JSON; what is none (a damaged row) comes as its text."""
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text


def _text(value: object) -> str | None:
    return None if value is None else str(value)
