"""Which jobs a command line means: by id, by the beginning of an id, or by state, queue, task and age.

Used by ``list``, ``show``, ``retry`` and ``cancel``. Reads only. Ids are time-ordered, so the beginning of
one is a range of the primary key.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser
from django.db.models import Q, QuerySet

from ..core.states import JobState
from ..logs import escape
from ..models import Job
from ..store import Store
from .backends import by_database, reachable, store_on
from .narrowing import in_states
from .wording import parse_duration

SHORTEST_PREFIX = 8
BATCH = 200
ROUND = 20_000
SHOWN = 5

_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """The jobs of one command line that names none. ``since``: seconds, by the column ``age``."""

    states: tuple[JobState, ...]
    age: str
    queue: str | None = None
    task: str | None = None
    since: float | None = None
    limit: int | None = None


def id_range(text: str) -> tuple[UUID, UUID] | None:
    """Return the first and the last id that begin with ``text`` (8 to 32 hexadecimal digits, dashes ignored)."""
    digits = text.strip().lower().replace("-", "")
    if not SHORTEST_PREFIX <= len(digits) <= 32 or not _HEX.fullmatch(digits):  # noqa: PLR2004 - a UUID's digits
        return None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


def find_job(text: str, backend: str | None) -> tuple[Store, Job]:
    """Return the one job whose id begins with ``text``, and its store; ``CommandError`` if there is none, or
    several.
    """
    found = id_range(text)
    if found is None:
        raise CommandError(
            f"{escape(text)!r} is no job id: give a whole id, as in 0190d2a4-7c1e-7b3a-9d55-0242ac120002, or its first "
            f"{SHORTEST_PREFIX} digits or more. Ids are listed by: manage.py meanwhile list, and in the admin."
        )
    matches: list[tuple[Store, Job]] = []
    databases = by_database(backend)
    for database in databases:
        store = store_on(database)
        with reachable(database):
            rows = Job.objects.using(database).filter(pk__gte=found[0], pk__lte=found[1]).order_by("pk")[: SHOWN + 1]
            matches += [(store, job) for job in rows]
    if not matches:
        where = ", ".join(repr(database) for database in databases)
        raise CommandError(
            f"No job {escape(text)} in database {where}. Either it was not committed (its transaction is open, or was "
            "rolled back), or it ended and was deleted (setting MEANWHILE['RETENTION'])."
        )
    if len(matches) > 1:
        lines = [f"  {job.pk}  {JobState(job.state).name}  {escape(job.task)}" for _, job in matches[:SHOWN]]
        more = ["  ..."] if len(matches) > SHOWN else []
        raise CommandError(
            "\n".join([f"{escape(text)} is the beginning of several jobs; give more digits:", *lines, *more])
        )
    return matches[0]


def add_filter_arguments(parser: CommandParser, *, states: Collection[JobState], default: str, age: str) -> None:
    """Add JOB and the filters; ``default`` says in the help which states are meant without --state."""
    parser.add_argument(
        "jobs", nargs="*", metavar="JOB", help=f"id of a job, or its first {SHORTEST_PREFIX} digits or more"
    )
    group = parser.add_argument_group("instead of JOB: all jobs that fit")
    names = [state.name.lower() for state in sorted(states)]
    group.add_argument("--state", choices=names, metavar="STATE", help=f"{', '.join(names)} (without it: {default})")
    add_narrowing_arguments(group, age=age)
    group.add_argument("--limit", type=int, metavar="N", help="at most N jobs, the oldest first")
    group.add_argument("--backend", metavar="ALIAS", help="jobs in the database of this backend of TASKS only")
    group.add_argument("--yes", action="store_true", help="do not ask")


def add_narrowing_arguments(group: Any, *, age: str) -> None:
    """Add the filters that mean the same to every subcommand. ``age`` says in the help what --since is about."""
    group.add_argument("--queue", metavar="NAME", help="jobs of this queue")
    group.add_argument(
        "--task", metavar="NAME", help="jobs of this task, by its full name, as in reports.tasks.send_welcome"
    )
    group.add_argument(
        "--since", type=parse_duration, metavar="AGE", help=f"jobs {age} within the last AGE, as in 90s, 15m, 2h, 7d"
    )


def filter_of(options: Mapping[str, Any], *, default: Iterable[JobState], age: str) -> Filter | None:
    """Return the filter that the options make, or None where jobs are named; ``CommandError`` for both and for
    neither.
    """
    given = [f"--{name}" for name in ("state", "queue", "task", "since", "limit") if options[name] is not None]
    if options["jobs"] and given:
        raise CommandError(
            f"Give either jobs or a filter: {escape(options['jobs'][0])} and {given[0]} contradict each other."
        )
    if options["jobs"]:
        return None
    if not given:
        raise CommandError(
            "Which jobs? Give their ids, or a filter such as --state, --queue, --task or --since; see --help."
        )
    if options["limit"] is not None and options["limit"] < 1:
        raise CommandError(f"--limit {options['limit']}: must be 1 or more.")
    states = (JobState[options["state"].upper()],) if options["state"] else tuple(default)
    return Filter(
        states=states,
        age=age,
        queue=options["queue"],
        task=options["task"],
        since=options["since"],
        limit=options["limit"],
    )


def matching(store: Store, chosen: Filter, until: dt.datetime) -> QuerySet[Job]:
    """Return the query for the filter's jobs that can be changed, as of ``until``."""
    found = narrowed(in_states(Job.objects.using(store.alias), chosen.states), chosen, until)
    if JobState.RUNNING in chosen.states:  # asked to stop once is enough
        found = found.filter(~Q(state=JobState.RUNNING.value) | Q(cancel_requested_at__isnull=True))
    return found


def narrowed(jobs: QuerySet[Job], chosen: Filter, until: dt.datetime) -> QuerySet[Job]:
    """Keep the jobs that fit the filter as of ``until``, its states left aside."""
    found = jobs.filter(**{f"{chosen.age}__lte": until})
    if chosen.queue is not None:
        found = found.filter(queue=chosen.queue)
    if chosen.task is not None:
        found = found.filter(task=chosen.task)
    if chosen.since is not None:
        found = found.filter(**{f"{chosen.age}__gte": until - dt.timedelta(seconds=chosen.since)})
    return found


def count(store: Store, chosen: Filter, until: dt.datetime, limit: int) -> int:
    """Count the filter's jobs, up to ``limit``."""
    bound = limit if chosen.limit is None else min(limit, chosen.limit)
    return matching(store, chosen, until).values("pk")[:bound].count()


def batches(store: Store, chosen: Filter, until: dt.datetime) -> Iterator[list[UUID]]:
    """Yield the ids of the filter's jobs in batches, the oldest first.

    Whoever takes them changes them, so that they fit no longer; what became a fit after ``until`` is left out. In
    rounds, because the ids of millions of jobs would fill the memory; by age, because ordering by the primary key
    would make a database walk through all of history to find the live jobs at its end.
    """
    left = chosen.limit
    earlier: set[UUID] = set()
    while left is None or left > 0:
        size = ROUND if left is None else min(ROUND, left)
        ids = list(matching(store, chosen, until).order_by(chosen.age).values_list("pk", flat=True)[:size])
        fresh = [job_id for job_id in ids if job_id not in earlier]
        if not fresh:
            return
        for start in range(0, len(fresh), BATCH):
            yield fresh[start : start + BATCH]
        earlier = set(ids)
        left = None if left is None else left - len(fresh)
