"""Jobs by state, in words that the partial indexes understand. Used wherever a surface asks for jobs of some states.

An index serves a query only if the query implies the index's condition. PostgreSQL proves that from constants;
SQLite wants the condition word for word. So states are literals, and each state brings the whole condition of its
index along (``models``). So does ``suspect``, in no parameter: SQLite 3.53 fails with "internal query planner error"
where it has chosen the indexes of an OR by the value of one.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any

from django.db.models import F, Q, QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.lookups import Exact

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
    return jobs.filter(_Suspect(F("suspect"), False), state=_literals([JobState.READY]))


class _Suspect(Exact):
    """Whether a job is a suspect, in the words in which this Django writes the condition of an index."""

    prepare_rhs = False  # which would wrap the value

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        """Return what ``Exact`` does where that is the column itself; elsewhere its comparison, without a parameter."""
        if connection.ops.conditional_expression_supported_in_where_clause(self.lhs):
            return super().as_sql(compiler, connection)
        column, params = self.process_lhs(compiler, connection)
        return f"{column} = {int(self.rhs)}", params


def _live(state: JobState) -> list[Q]:
    if state is JobState.READY:  # two indexes: claims skip suspects
        return [Q(_Suspect(F("suspect"), suspect), state=_literals([state])) for suspect in (False, True)]
    return [Q(state=_literals([state]))]


def _literals(states: Iterable[JobState]) -> RawSQL:
    return RawSQL(", ".join(str(int(state)) for state in sorted(states)), ())  # noqa: S611 - numbers of an enum
