"""What ``retry`` and ``cancel`` have in common: which jobs, are you sure, do it in batches, say what became of them."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.core.management.base import CommandError, CommandParser

from ...core.states import JobState
from ...logs import escape
from ...models import Job
from ...store import Store
from ..backends import by_database, reachable, store_on
from ..bar import Bar
from ..selection import Filter, add_filter_arguments, batches, count, filter_of, find_job
from ..wording import bounded, jobs
from .base import Subcommand

_COUNTED = 100_000
"""Above it the question says "or more"."""

_YES = {"y", "yes"}


class Changes(Subcommand):
    """A subcommand that changes the state of jobs through a verb of the store, which decides what may be changed."""

    states: ClassVar[Collection[JobState]]
    """The states that it can change."""

    default_states: ClassVar[Collection[JobState]]
    """Those that a filter without --state means."""

    default_words: ClassVar[str]
    age: ClassVar[str]
    """The column that --since is about, and how the help calls that."""

    age_words: ClassVar[str]
    verb: ClassVar[str]

    @classmethod
    def add_arguments(cls, parser: CommandParser) -> None:
        """See the base class."""
        add_filter_arguments(parser, states=cls.states, default=cls.default_words, age=cls.age_words)

    @abstractmethod
    def change(self, store: Store, ids: Collection[UUID]) -> Counter[str]:
        """Change these jobs; return what became of how many, in words (see ``report``)."""

    @abstractmethod
    def refusal(self, job: Job) -> str:
        """Say why a job that was named could not be changed."""

    def handle(self, options: Mapping[str, Any]) -> int:
        """See the base class. Status 1 if a job that was named was not changed."""
        chosen = filter_of(options, default=self.default_states, age=self.age)
        if chosen is None:
            return self._named(options["jobs"], options["backend"])
        return self._filtered(chosen, options)

    def _named(self, texts: Iterable[str], backend: str | None) -> int:
        found = [find_job(text, backend) for text in texts]  # all of them before the first is changed
        refused = 0
        for store, job in found:
            with reachable(store.alias):
                became = self.change(store, [job.pk])
                if became.total():
                    self.say(f"{job.pk}  {escape(job.task)}: {next(iter(became))}")
                    continue
                refused += 1
                now = Job.objects.using(store.alias).filter(pk=job.pk).first()
                self.stderr.write(f"{job.pk}  {escape(job.task)}: {'is gone' if now is None else self.refusal(now)}")
        return int(refused > 0)

    def _filtered(self, chosen: Filter, options: Mapping[str, Any]) -> int:
        became: Counter[str] = Counter()
        looked_at = 0
        for database in by_database(options["backend"]):
            store = store_on(database)
            with reachable(database):
                until = store.now()
                total = count(store, chosen, until, _COUNTED)
                if not total or not self._agreed(total, database, yes=options["yes"]):
                    continue
                with Bar(self.stderr, None if total == _COUNTED else total) as bar:
                    for ids in batches(store, chosen, until):
                        became += self.change(store, ids)
                        looked_at += len(ids)
                        bar.advance(len(ids))
        self._report(became, looked_at)
        return 0

    def _agreed(self, total: int, database: str, *, yes: bool) -> bool:
        if yes:
            return True
        if not sys.stdin.isatty():
            raise CommandError(
                f"{self.verb.capitalize()} {bounded(total, _COUNTED)} {'job' if total == 1 else 'jobs'} in database {database!r}? "
                "There is no terminal to ask on: add --yes."
            )
        question = f"{self.verb.capitalize()} {jobs(total, _COUNTED)} in database {database!r}? [y/N] "
        return input(question).strip().lower() in _YES

    def _report(self, became: Counter[str], looked_at: int) -> None:
        for words, number in sorted(became.items()):
            self.say(f"{jobs(number)} {words}")
        if missed := looked_at - became.total():
            self.say(f"{jobs(missed)} left alone: changed by somebody else in the meantime")
        if not looked_at:
            self.say(f"No job to {self.verb}.")
