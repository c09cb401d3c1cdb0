"""``meanwhile prune``: delete jobs that ended long ago. Workers do it by themselves; this is for doing it now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...core.states import TERMINAL, JobState
from ...models import Job
from ...store import Store
from ..backends import by_database, reachable, settings_in_force, store_on
from ..bar import Bar
from ..narrowing import in_states
from ..wording import bounded, duration, jobs, parse_duration
from .base import Subcommand

_BATCH = 500
_COUNTED = 100_000


class Prune(Subcommand):
    """See the module."""

    name = "prune"
    summary = "delete jobs that ended long ago"
    description = """\
Deletes jobs that have ended, with their attempts, in small batches, each in a transaction of its
own: it can be stopped at any time, and disturbs no worker. Without options it keeps what the
setting MEANWHILE["RETENTION"] keeps, which living workers see to by themselves. Jobs that wait or
run are never deleted.
"""
    epilog = """\
examples:
  manage.py meanwhile prune --dry-run                           how many would go
  manage.py meanwhile prune                                     by the setting RETENTION
  manage.py meanwhile prune --state successful --older-than 1d  a day of successes is enough

exit status: 0 done, 2 the database cannot be asked
"""

    @classmethod
    def add_arguments(cls, parser: CommandParser) -> None:
        """See the base class."""
        names = [state.name.lower() for state in sorted(TERMINAL)]
        parser.add_argument("--state", choices=names, metavar="STATE", help=f"only this one of {', '.join(names)}")
        parser.add_argument(
            "--older-than", type=parse_duration, metavar="AGE", help="ended longer ago than AGE, as in 12h, 7d, 4w"
        )
        parser.add_argument("--backend", metavar="ALIAS", help="only in the database of this backend of TASKS")
        parser.add_argument("--dry-run", action="store_true", help="delete nothing, say how many would go")

    def handle(self, options: Mapping[str, Any]) -> int:
        """See the base class."""
        ages = _ages(options)
        if not ages:
            kept = options["state"] or "any state"
            raise CommandError(
                f'Nothing to delete: MEANWHILE["RETENTION"] keeps {kept} for ever (None). '
                "Say how old with --older-than."
            )
        for database in by_database(options["backend"]):
            store = store_on(database)
            with reachable(database):
                for state, age in ages.items():
                    self._prune(store, state, age, dry_run=options["dry_run"])
        return 0

    def _prune(self, store: Store, state: JobState, age: float, *, dry_run: bool) -> None:
        what = f"{state.name.lower()} over {duration(age)} ago, in database {store.alias!r}"
        total = _count(store, state, age)
        if dry_run:
            self.say(f"{bounded(total, _COUNTED)} would be deleted: {what}")
            return
        deleted = 0
        if total:
            with Bar(self.stderr, None if total == _COUNTED else total) as bar:
                while number := store.prune(state, age, _BATCH):
                    deleted += number
                    bar.advance(number)
        self.say(f"{jobs(deleted)} deleted: {what}")


def _ages(options: Mapping[str, Any]) -> dict[JobState, float]:
    """Return how old the jobs of each state must be to go; a state that is kept for ever is missing."""
    states = [JobState[options["state"].upper()]] if options["state"] else sorted(TERMINAL)
    if options["older_than"] is not None:
        return dict.fromkeys(states, options["older_than"])
    retention = settings_in_force().retention
    ages = {state: getattr(retention, state.name.lower()) for state in states}
    return {state: age for state, age in ages.items() if age is not None}


def _count(store: Store, state: JobState, age: float) -> int:
    before = store.now() - timedelta(seconds=age)
    found = in_states(Job.objects.using(store.alias), [state]).filter(finished_at__lt=before)
    return found.values("pk")[:_COUNTED].count()
