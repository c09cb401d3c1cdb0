"""Jobs by state: the right ones, along the partial indexes, on every vendor."""

from itertools import combinations

import pytest
from django.db import connections

from django_meanwhile.core.identifiers import uuid7
from django_meanwhile.core.states import JobState
from django_meanwhile.management.narrowing import claimable, in_states
from django_meanwhile.models import Job

from .rows import TASK, ago

INDEXES = {
    (JobState.SCHEDULED,): ("due_at", {"meanwhile_due"}),
    (JobState.RUNNING,): ("attempted_at", {"meanwhile_running"}),
    (JobState.FAILED,): ("-finished_at", {"meanwhile_prune"}),
    (JobState.FAILED, JobState.QUARANTINED): ("finished_at", {"meanwhile_prune"}),
}


@pytest.mark.parametrize("suspect", [False, True])
@pytest.mark.parametrize(
    "states", [[state] for state in JobState] + [list(JobState), [JobState.READY, JobState.FAILED]]
)
def test_it_keeps_the_jobs_of_these_states(rows, states, suspect):
    """Exactly these, suspects included."""
    jobs = {state: rows.job(state, suspect=suspect) for state in JobState}
    found = in_states(Job.objects.using(rows.alias), states)
    assert {job.pk for job in found} == {jobs[state].pk for state in states}


@pytest.mark.parametrize("filters", [{}, {"queue": "mail"}, {"queue": "mail", "task": TASK}])
def test_any_states_can_be_counted_and_listed_in_a_queue(rows, filters):
    """No parameter says whether a job is a suspect: SQLite 3.53 fails where that has chosen the indexes of an OR."""
    jobs = Job.objects.using(rows.alias).filter(**filters)
    for count in range(1, 4):
        for states in combinations(JobState, count):
            found = in_states(jobs, states)
            assert (found.count(), found.values("pk")[:9].count(), list(found.order_by("-pk")[:9])) == (0, 0, [])
            assert not any(isinstance(value, bool) for value in found.query.sql_with_params()[1])


@pytest.fixture
def history(rows):
    """Fill a history of three thousand successes with a few jobs of every other state."""
    Job.objects.using(rows.alias).bulk_create(
        Job(id=uuid7(), task=TASK, backend="default", queue="default", executor="thread", state=4, enqueued_at=ago(60),
            finished_at=ago(40), arguments="{}") for _ in range(3000)
    )  # fmt: skip
    for state in JobState:
        rows.job(state)
    with connections[rows.alias].cursor() as cursor:
        cursor.execute("ANALYZE")
    return rows.alias


def test_the_partial_indexes_serve(history):
    """No query for a few states reads the history: the plan names the index of each state.

    READY has two indexes, one for suspects; PostgreSQL combines them, SQLite reads the table.
    """
    jobs = Job.objects.using(history)
    for states, (order, indexes) in INDEXES.items():
        plan = in_states(jobs, states).order_by(order)[:50].explain()
        assert all(index in plan for index in indexes), plan
        assert "Seq Scan" not in plan
        assert "SCAN meanwhile_job\n" not in f"{plan}\n"
    assert "meanwhile_claim" in claimable(jobs)[:50].explain()
    plan = in_states(jobs, [JobState.READY]).order_by("-enqueued_at")[:50].explain()
    assert ("Seq Scan" in plan or "SCAN" in plan) == (connections[history].vendor == "sqlite"), plan
