"""What ``retry`` and ``cancel`` have in common: which jobs, are you sure, do it in batches, say what became of them."""

from __future__ import annotations

import logging
import sys
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, ClassVar
from uuid import UUID

from django.core.management.base import CommandError, CommandParser

from ...compat import DIALECT
from ...core.states import JobState
from ...logs import escape
from ...models import Job
from ...store import Store
from ..backends import by_database, reachable, store_on
from ..bar import Bar
from ..selection import Filter, add_filter_arguments, batches, count, filter_of, find_job
from ..spelling import unknown_task
from ..wording import jobs
from .base import Subcommand

_COUNTED = 100_000
"""Above it the question says "or more"."""

_YES = {"y", "yes"}
_INTERRUPTED = 130
"""What shells make of Ctrl-C."""


TALKATIVE = 2


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out Django's own log record of each ended task: it says FAILED, at level ERROR, of what was cancelled
    on purpose; this command says what it did, once for all.
    """
    logger = logging.getLogger(DIALECT)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


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

    # What was done so far, for the report: at the end, or at Ctrl-C.
    _found: bool
    _became: Counter[str]
    _looked_at: int

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
        with _quiet() if options["verbosity"] < TALKATIVE else nullcontext():
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
        self._found = False
        self._became = Counter()
        self._looked_at = 0
        try:
            for database in by_database(options["backend"]):
                left = None if chosen.limit is None else chosen.limit - self._looked_at
                if left != 0:
                    self._change_all(store_on(database), replace(chosen, limit=left), yes=options["yes"])
        except KeyboardInterrupt:
            self._report()
            raise CommandError("Stopped; what was done stays done.", returncode=_INTERRUPTED) from None
        self._report()
        if not self._found and (slip := unknown_task(chosen.task)):
            self.warn(slip)
        return 0

    def _change_all(self, store: Store, chosen: Filter, *, yes: bool) -> None:
        with reachable(store.alias):
            until = store.now()
            total = count(store, chosen, until, _COUNTED)
            self._found = self._found or total > 0
            if not total or not self._agreed(total, store.alias, yes=yes):
                return
            with Bar(self.stderr, None if total == _COUNTED else total) as bar:
                for ids in batches(store, chosen, until):
                    self._became += self.change(store, ids)
                    self._looked_at += len(ids)
                    bar.advance(len(ids))

    def _agreed(self, total: int, database: str, *, yes: bool) -> bool:
        if yes:
            return True
        what = f"{self.verb.capitalize()} {jobs(total, _COUNTED)} in database {database!r}?"
        if not sys.stdin.isatty():
            raise CommandError(f"{what} There is no terminal to ask on: add --yes.")
        return input(f"{what} [y/N] ").strip().lower() in _YES

    def _report(self) -> None:
        for words, number in sorted(self._became.items()):
            self.say(f"{jobs(number)} {words}")
        if missed := self._looked_at - self._became.total():
            self.say(f"{jobs(missed)} left alone: changed by somebody else in the meantime")
        if not self._looked_at:
            self.say("Nothing was changed." if self._found else f"No job to {self.verb}.")
