"""``meanwhile list``: which jobs are there. Those that ended badly and those that have not ended, unless told else."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...core.states import LIVE, JobState
from ...logs import escape
from ...store import Store
from ..backends import by_database, reachable, store_on
from ..listing import MORE_LIMIT, ListedJob, Listing, ended, live, newest, seconds_since
from ..reasons import printed_class
from ..selection import Filter, add_narrowing_arguments
from ..snapshot import DAY
from ..spelling import unknown_task
from ..wording import duration, states, table, utc
from .base import Subcommand

MOST = 500
"""The largest --limit."""

_BAD = (JobState.FAILED, JobState.QUARANTINED)


class List(Subcommand):
    """See the module."""

    name = "list"
    summary = "list jobs: what failed, what runs, what waits"
    description = f"""\
Lists jobs, the newest first, with their ids as "show", "retry" and "cancel" take them. Without options:
what failed or was quarantined in the last day, and what has not ended, 20 of each. A job whose last run
did not succeed has a line with the exception and the beginning of its message.

Jobs that have ended are sorted, and chosen by --since, by when they ended; others by when they were
enqueued. Of the history only as many rows are read as are shown, and the count of the others stops at
{MORE_LIMIT}. With --task or --queue rows are passed over until enough fit: in a long history, give --since
as well.
"""
    epilog = """\
examples:
  manage.py meanwhile list                                      what failed today, and what has not ended
  manage.py meanwhile list --state failed,quarantined --since 1h
  manage.py meanwhile list --state running --queue reports
  manage.py meanwhile list --task shop.tasks.charge --state successful --limit 5
  manage.py meanwhile list --state failed --json | jq -r '.databases[].jobs[].id'

exit status: 0 listed, whatever there is, 2 the database cannot be asked
"""

    @classmethod
    def add_arguments(cls, parser: CommandParser) -> None:
        """See the base class."""
        names = ", ".join(state.name.lower() for state in JobState)
        parser.add_argument(
            "--state",
            type=states,
            metavar="STATES",
            help=f"jobs in one of these states, as in failed,quarantined; there is {names} "
            "(without it: failed and quarantined ones of the last day, and all that have not ended)",
        )
        add_narrowing_arguments(parser, age="that ended, or, if they have not, were enqueued")
        parser.add_argument(
            "--limit",
            type=int,
            default=20,
            metavar="N",
            help=f"the N newest of those that have ended, and of those that have not; up to {MOST} (default: 20)",
        )
        parser.add_argument("--backend", metavar="ALIAS", help="jobs in the database of this backend of TASKS only")
        parser.add_argument("--json", action="store_true", help="as JSON, for programs")

    def handle(self, options: Mapping[str, Any]) -> int:
        """See the base class."""
        if not 1 <= options["limit"] <= MOST:
            raise CommandError(f"--limit {options['limit']}: must be 1 to {MOST}.")
        filters = filters_of(options)
        looked: list[tuple[Store, dt.datetime, list[Listing]]] = []
        for database in by_database(options["backend"]):
            store = store_on(database)
            with reachable(database):
                now = store.now()
                looked.append((store, now, [newest(store, chosen, now, options["limit"]) for chosen in filters]))
        if options["json"]:
            self.say_json({"more_limit": MORE_LIMIT, "databases": [as_json(*look) for look in looked]})
        else:
            for number, (store, now, listings) in enumerate(looked):
                self.say("\n" * (number > 0) + f"Database {store.alias!r} ({store.vendor}), at {utc(now)}")
                for listing in listings:
                    self._show(listing, now)
        nothing = not any(listing.jobs for _, _, listings in looked for listing in listings)
        if nothing and (slip := unknown_task(options["task"])):
            self.warn(slip)
        return 0

    def _show(self, listing: Listing, now: dt.datetime) -> None:
        self.say()
        self.heading(_heading(listing.chosen))
        if not listing.jobs:
            self.say("None.")
            return
        head = ("JOB", "STATE", "TASK", "QUEUE", "ATTEMPTS", "WHEN")
        lines = table(head, (_cells(job, now) for job in listing.jobs))
        self.say(lines[0])
        for job, line in zip(listing.jobs, lines[1:], strict=True):
            self.say(line)
            if job.error is not None:
                text = ": ".join(filter(None, (printed_class(job.error.exception), job.error.message)))
                self.say(f"    {self.style.WARNING(escape(text))}")
        if listing.more:
            self.say(f"... and {'at least ' if listing.more >= MORE_LIMIT else ''}{listing.more} more")


def filters_of(options: Mapping[str, Any]) -> list[Filter]:
    """Return a filter for the jobs that have ended, and one for those that have not, as far as they are wanted.

    Apart, because a thousand jobs that wait would hide the one that failed.
    """
    wanted = options["state"]
    since = options["since"]
    narrow = {"queue": options["queue"], "task": options["task"]}
    filters = []
    if of_ended := ended(wanted or _BAD):
        within = DAY if wanted is None and since is None else since
        filters.append(Filter(states=of_ended, age="finished_at", since=within, **narrow))
    if of_live := live(wanted or LIVE):
        filters.append(Filter(states=of_live, age="enqueued_at", since=since, **narrow))
    return filters


def _heading(chosen: Filter) -> str:
    *names, last = [state.name.lower() for state in chosen.states]
    words = f"{', '.join(names)} or {last}" if names else last
    verb = "ended" if chosen.age == "finished_at" else "enqueued"
    within = "" if chosen.since is None else f", {verb} within the last {duration(chosen.since)}"
    return f"{words.capitalize()}{within}:"


def _cells(job: ListedJob, now: dt.datetime) -> tuple[str, ...]:
    row = job.row
    begun = [str(row["attempts"])]
    begun += [f"{row[name]} {name}" for name in ("crashes", "deaths") if row[name]]  # no attempts, but begun as well
    return (str(job.id), job.state.name, row["task"], row["queue"], ", ".join(begun), ", ".join(_when(job, now)))


def _when(job: ListedJob, now: dt.datetime) -> Iterable[str]:
    """Say when, in the words of the state."""
    row = job.row
    if job.state.is_terminal:
        yield f"ended {_ago(row['finished_at'], now)}"
        return
    yield f"enqueued {_ago(row['enqueued_at'], now)}"
    if job.state is JobState.RUNNING and row["attempted_at"] is not None:
        yield f"runs for {duration(round(max(0.0, seconds_since(row['attempted_at'], now))))}"
    if job.state is JobState.SCHEDULED:
        left = -seconds_since(row["due_at"], now)
        yield f"due in {duration(round(left))}" if left > 0 else f"due {duration(round(-left))} ago"
    if job.state is JobState.READY and row["suspect"]:
        yield "suspect"
    if row["cancel_requested_at"] is not None:
        yield "cancel requested"


def _ago(moment: dt.datetime, now: dt.datetime) -> str:
    return f"{duration(round(max(0.0, seconds_since(moment, now))))} ago"


def as_json(store: Store, now: dt.datetime, listings: Iterable[Listing]) -> dict[str, Any]:
    """Return what ``list --json`` prints of one database. Keys are added in later versions, not removed or renamed."""
    listings = list(listings)
    return {
        "database": store.alias,
        "vendor": store.vendor,
        "time": utc(now),
        "jobs": [_job(job) for listing in listings for job in listing.jobs],
        "more": sum(listing.more for listing in listings),
    }


def _job(job: ListedJob) -> dict[str, Any]:
    row = job.row
    plain = ("task", "backend", "queue", "executor", "suspect", "attempts", "crashes", "interruptions", "deaths")
    times = ("enqueued_at", "due_at", "attempted_at", "finished_at", "cancel_requested_at")
    return {
        "id": str(job.id),
        "state": job.state.name,
        **{name: row[name] for name in plain},
        **{name: utc(row[name]) for name in times},
        "last_error": None if job.error is None else {"exception": job.error.exception, "message": job.error.message},
    }
