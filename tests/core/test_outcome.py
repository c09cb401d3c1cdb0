"""From an outcome to a decision: the charges, for every ending and every counter."""

from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_meanwhile.core.errors import Cancelled, Crashed, Interrupted
from django_meanwhile.core.job import Run
from django_meanwhile.core.outcome import (
    CANCELLED_PATH,
    CRASHED_PATH,
    INTERRUPTED_PATH,
    MAX_CRASHES,
    MAX_DEATHS,
    MAX_SHARED_DEATHS,
    Charged,
    Decision,
    End,
    Outcome,
    decide,
)
from django_meanwhile.core.states import TERMINAL, TRANSITIONS, AttemptKind, Executor, JobState
from django_meanwhile.core.text import class_path
from tests.run.jobs import claimed

DEATHS = {End.SHARED_DEATH, End.CRASHED}
WITHOUT_AN_OUTCOME = DEATHS | {End.INTERRUPTED}

counters = st.integers(min_value=0, max_value=MAX_CRASHES + 1)
texts = st.text(max_size=5)
optional_texts = st.none() | texts

jobs = st.builds(
    Charged,
    run=st.builds(Run, job_id=st.uuids(), epoch=st.integers(1, 2**40)),
    crashes=counters,
    deaths=counters,
    suspect=st.booleans(),
    retry_on_crash=st.booleans(),
)


def outcomes_of(ends):
    """Outcomes of these endings, with every field that any ending may carry."""
    return st.builds(
        Outcome,
        end=st.sampled_from(sorted(ends, key=lambda end: end.name)),
        result=optional_texts,
        progress=optional_texts,
        exception=texts,
        detail=texts,
        retry_in=st.none() | st.floats(min_value=0, max_value=1e9),
        executor=st.none() | st.sampled_from(Executor),
        queue=optional_texts,
        begun=st.booleans(),
    )


outcomes = outcomes_of(End)


def charged(*, crashes=0, deaths=0, suspect=False, retry_on_crash=True):
    return Charged(run=Run(uuid4(), 7), crashes=crashes, deaths=deaths, suspect=suspect, retry_on_crash=retry_on_crash)


def after(job: Charged, decision: Decision) -> Charged:
    """The job as its next claim finds it, once ``decision`` is written."""
    return replace(
        job,
        run=Run(job.run.job_id, job.run.epoch + 1),
        crashes=job.crashes + decision.crashes,
        deaths=job.deaths + decision.deaths,
        suspect=decision.suspect,
    )


@given(jobs, outcomes)
def test_every_decision_is_a_legal_transition_of_that_run(job, outcome):
    """Whatever happened, the decision leads from RUNNING to a state of the table, and names the same run."""
    decision = decide(job, outcome)
    assert decision.state in TRANSITIONS[JobState.RUNNING]
    assert decision.run == job.run


@given(jobs, outcomes)
def test_the_same_input_gives_the_same_decision(job, outcome):
    """Deciding is pure: two supervisors that see the same write the same."""
    assert decide(job, outcome) == decide(job, outcome)


@given(jobs, outcomes)
def test_a_delay_belongs_to_scheduled_and_to_nothing_else(job, outcome):
    """SCHEDULED has a delay above zero; no other state has one."""
    decision = decide(job, outcome)
    assert (decision.delay is not None) == (decision.state is JobState.SCHEDULED)
    assert decision.delay is None or decision.delay > 0


@given(jobs, outcomes)
def test_the_counters_are_never_mixed(job, outcome):
    """A run is charged to exactly one account: its attempt stays, or is taken back and raises one other at most."""
    decision = decide(job, outcome)
    assert decision.attempts in {0, -1}
    assert min(decision.crashes, decision.interruptions, decision.deaths) >= 0
    kept = decision.attempts == 0
    assert decision.crashes + decision.interruptions == (not kept and outcome.end is not End.NOT_BEGUN)
    assert decision.crashes == (outcome.end is End.CRASHED)
    assert decision.deaths == (outcome.end is End.SHARED_DEATH)
    assert decision.deaths <= decision.interruptions
    assert kept == (outcome.end in {End.SUCCEEDED, End.FAILED, End.CANCELLED})


@given(jobs, outcomes_of({End.NOT_BEGUN}))
def test_a_run_that_never_began_is_never_charged(job, outcome):
    """It costs no attempt, leaves no attempt row, loses no suspicion, and goes back to wait, wherever it is sent."""
    decision = decide(job, outcome)
    assert decision.state in {JobState.READY, JobState.SCHEDULED}
    assert decision.attempts == -1
    assert (decision.crashes, decision.interruptions, decision.deaths) == (0, 0, 0)
    assert decision.kind is None
    assert decision.suspect == job.suspect
    assert (decision.executor, decision.queue) == (outcome.executor, outcome.queue)


@given(jobs, outcomes_of(set(End) - {End.NOT_BEGUN}))
def test_only_a_run_that_never_began_is_rerouted(job, outcome):
    """A begun run keeps the queue and the executor it was begun with."""
    decision = decide(job, outcome)
    assert decision.executor is None
    assert decision.queue is None


@given(jobs, outcomes_of(WITHOUT_AN_OUTCOME))
def test_on_crash_fail_covers_every_begun_run_without_an_outcome(job, outcome):
    """A card is never charged twice: crash, deploy, self-fence and dead host all end such a job as FAILED."""
    decision = decide(replace(job, retry_on_crash=False), outcome)
    assert decision.state is JobState.FAILED
    assert decision.kind is not None
    assert decision.exception


@given(jobs, outcomes_of(WITHOUT_AN_OUTCOME))
def test_on_crash_fail_says_why_the_job_is_not_repeated(job, outcome):
    """After what was seen of the death stands the rule; a job that may run again has the first only."""
    reason = 'on_crash="fail": it is not run again.'
    told = decide(replace(job, retry_on_crash=False), outcome).detail
    assert told == (f"{outcome.detail}\n{reason}" if outcome.detail else reason)
    assert decide(replace(job, retry_on_crash=True), outcome).detail == outcome.detail


@given(jobs, outcomes_of(WITHOUT_AN_OUTCOME))
def test_what_was_taken_away_runs_again_or_is_quarantined(job, outcome):
    """With on_crash=retry the job goes back at once, until it has died alone MAX_CRASHES times."""
    decision = decide(replace(job, retry_on_crash=True), outcome)
    spent = job.crashes + (outcome.end is End.CRASHED) >= MAX_CRASHES
    assert decision.state is (JobState.QUARANTINED if spent else JobState.READY)


@given(jobs, outcomes)
def test_an_attempt_row_is_written_exactly_for_begun_runs_that_did_not_succeed(job, outcome):
    """Success and a run that never began leave no attempt row; everything else leaves one, with an exception."""
    decision = decide(job, outcome)
    assert (decision.kind is None) == (outcome.end in {End.SUCCEEDED, End.NOT_BEGUN})
    if outcome.end is not End.FAILED:
        assert (decision.kind is None) == (not decision.exception)
    kinds = {End.CRASHED: AttemptKind.CRASH, End.FAILED: AttemptKind.FAILED, End.CANCELLED: AttemptKind.FAILED}
    if decision.kind is not None:
        assert decision.kind is kinds.get(outcome.end, AttemptKind.INTERRUPTED)


@given(jobs, outcomes_of({End.FAILED}))
def test_a_failure_follows_the_granted_delay(job, outcome):
    """No delay: FAILED. Zero: READY at once. More: SCHEDULED with it."""
    decision = decide(job, outcome)
    expected = {None: JobState.FAILED, 0.0: JobState.READY}.get(outcome.retry_in, JobState.SCHEDULED)
    assert decision.state is expected
    assert decision.delay == (outcome.retry_in or None)


@given(jobs, outcomes_of({End.SUCCEEDED}))
def test_a_success_keeps_result_and_progress(job, outcome):
    """What the body returned and last reported is written with the state, under one fence."""
    decision = decide(job, outcome)
    assert decision.state is JobState.SUCCESSFUL
    assert (decision.result, decision.progress) == (outcome.result, outcome.progress)
    assert not decision.suspect


@given(jobs, outcomes_of(set(End) - {End.SUCCEEDED}))
def test_only_a_success_has_a_result(job, outcome):
    """A result in the row means that the body returned it."""
    assert decide(job, outcome).result is None


@given(jobs, outcomes)
def test_a_job_that_waits_again_stays_a_suspect(job, outcome):
    """Suspicion ends with the job: a retry, a release or an interruption never lets it back into company."""
    decision = decide(job, outcome)
    if decision.state not in TERMINAL:
        assert decision.suspect >= job.suspect


@given(
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(sorted(End, key=lambda end: end.name)), st.none() | st.just(0.0)), max_size=40),
)
def test_poison_is_contained(retry_on_crash, history):
    """In any history, a job dies at most MAX_CRASHES times alone and MAX_SHARED_DEATHS times in company.

    The supervisor's part of the bargain: a suspect has no company, so it cannot share a death.
    """
    job = charged(retry_on_crash=retry_on_crash)
    alone = shared = 0
    for end, retry_in in history:
        if end is End.SHARED_DEATH and job.suspect:
            continue
        decision = decide(job, Outcome(end=end, retry_in=retry_in))
        alone += end is End.CRASHED
        shared += end is End.SHARED_DEATH
        if decision.state in TERMINAL:
            break
        job = after(job, decision)
    assert alone <= MAX_CRASHES
    assert shared <= MAX_SHARED_DEATHS
    assert (job.crashes, job.deaths) <= (alone, shared)


def test_the_longest_way_into_quarantine_is_five_deaths():
    """Two shared deaths make a suspect, and the third death alone makes QUARANTINED: no sooner, no later."""
    assert (MAX_SHARED_DEATHS, MAX_CRASHES) == (2, 3)
    job, states = charged(), []
    for end in (End.SHARED_DEATH, End.SHARED_DEATH, End.CRASHED, End.CRASHED, End.CRASHED):
        decision = decide(job, Outcome(end=end))
        states.append((decision.state.name, decision.suspect))
        job = after(job, decision)
    assert states == [
        ("READY", False),
        ("READY", True),
        ("READY", True),
        ("READY", True),
        ("QUARANTINED", False),
    ]


def test_a_job_with_which_ten_workers_died_is_quarantined():
    """Deaths of whole workers prove little, but there is an end to it: the tenth, not the ninth."""
    job, states = charged(), []
    for _ in range(MAX_DEATHS):
        decision = decide(job, Outcome(end=End.SHARED_DEATH))
        states.append(decision.state)
        job = after(job, decision)
    assert states == [JobState.READY] * 9 + [JobState.QUARANTINED]


@pytest.mark.parametrize("end", [End.INTERRUPTED, End.NOT_BEGUN])
def test_deploys_quarantine_nothing(end):
    """Taken away a hundred times by deploys, a job is as innocent as on the first day."""
    job = charged(crashes=MAX_CRASHES - 1, deaths=MAX_SHARED_DEATHS - 1)
    for _ in range(100):
        decision = decide(job, Outcome(end=end))
        assert decision.state is JobState.READY
        assert not decision.suspect
        job = after(job, decision)
    assert (job.crashes, job.deaths) == (MAX_CRASHES - 1, MAX_SHARED_DEATHS - 1)


@pytest.mark.parametrize(
    ("end", "path"),
    [
        (End.CANCELLED, CANCELLED_PATH),
        (End.CRASHED, CRASHED_PATH),
        (End.SHARED_DEATH, CRASHED_PATH),
        (End.INTERRUPTED, INTERRUPTED_PATH),
    ],
)
def test_an_ending_without_an_exception_gets_the_one_that_names_it(end, path):
    """An attempt always says why: the given class, or the class of ours that names such an ending."""
    assert decide(charged(), Outcome(end=end)).exception == path
    assert decide(charged(), Outcome(end=end, exception="a.B")).exception == "a.B"


def test_the_named_paths_are_real_classes():
    """The three paths lead to the classes that a reader of an attempt can import."""
    assert [class_path(error) for error in (Cancelled, Crashed, Interrupted)] == [
        CANCELLED_PATH,
        CRASHED_PATH,
        INTERRUPTED_PATH,
    ]


def test_a_decision_takes_the_counters_of_the_claimed_job():
    """What a child decides with is what its claim has returned."""
    job = claimed(crashes=1, deaths=2, suspect=True, retry_on_crash=False)
    assert Charged.of(job) == Charged(run=job.run, crashes=1, deaths=2, suspect=True, retry_on_crash=False)
