"""Jobs by state, in words that the partial indexes understand. Used wherever a surface asks for jobs of some states.

An index serves a query only if the query implies the index's condition. PostgreSQL proves that from constants;
SQLite wants the condition word for word. So states are literals, and each state brings the whole condition of its
index along (``models``).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import or_

from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL

from ..core.states import TERMINAL, JobState
from ..models import Job


def in_states(jobs: QuerySet[Job], states: Iterable[JobState]) -> QuerySet[Job]:
    """Keep the jobs of these states, of which there is at least one."""
    wanted = set(states)
    arms = [arm for state in sorted(wanted - TERMINAL) for arm in _live(state)]
    if ended := wanted & TERMINAL:
        one = Q(state=_literals(ended)) if len(ended) == 1 else Q(state__in=_literals(ended))
        arms.append(one & Q(state__in=_literals(TERMINAL)))
    return jobs.filter(reduce(or_, arms))


def by_index(jobs: QuerySet[Job], states: Iterable[JobState]) -> list[QuerySet[Job]]:
    """Return the jobs of these states as one query for each stretch of an index: none is in two of them.

    Together they find what ``in_states`` finds. Each can be cut and, if its jobs have ended, ordered by
    ``finished_at`` from the index alone; a condition with OR in it cannot, and SQLite reads the table for one.
    """
    queries = []
    for state in sorted(set(states)):
        arms = [in_states(jobs, [state])] if state.is_terminal else [jobs.filter(arm) for arm in _live(state)]
        queries += arms
    return queries


def claimable(jobs: QuerySet[Job]) -> QuerySet[Job]:
    """Keep the READY jobs that are no suspects: the index of claims."""
    return jobs.filter(state=_literals([JobState.READY]), suspect=False)


def _live(state: JobState) -> list[Q]:
    if state is JobState.READY:  # two indexes: claims skip suspects
        return [Q(state=_literals([state]), suspect=suspect) for suspect in (False, True)]
    return [Q(state=_literals([state]))]


def _literals(states: Iterable[JobState]) -> RawSQL:
    return RawSQL(", ".join(str(int(state)) for state in sorted(states)), ())  # noqa: S611 - numbers of an enum
