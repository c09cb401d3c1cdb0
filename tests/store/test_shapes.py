"""The states: no statement makes an illegal transition, and no row has the wrong shape for its state."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from django.db import IntegrityError

from django_meanwhile.core.job import Run
from django_meanwhile.core.outcome import Decision
from django_meanwhile.core.states import TERMINAL, TRANSITIONS, JobState
from tests.store.scene import Scene

LIVE_ENDS = [JobState.READY, JobState.SCHEDULED, *sorted(TERMINAL)]


def _claim(scene: Scene, run: Run) -> None:
    scene.claim(scene.worker())


def _claim_suspects(scene: Scene, run: Run) -> None:
    scene.claim(scene.worker(), suspects=True)


def _promote(scene: Scene, run: Run) -> None:
    scene.at(1_000_000).promote()


def _cancel(scene: Scene, run: Run) -> None:
    scene.store.cancel([run.job_id])


def _retry(scene: Scene, run: Run) -> None:
    scene.store.retry([run.job_id])


def _finish(state: JobState):
    def finish(scene: Scene, run: Run) -> None:
        scene.store.finish([Decision(run=run, state=state, delay=5.0)])

    finish.__name__ = f"finish-{state.name}"
    return finish


def _finish_cancelled(scene: Scene, run: Run) -> None:
    scene.store.cancel([run.job_id])
    scene.store.finish([Decision(run=run, state=JobState.READY)])


def _prune(scene: Scene, run: Run) -> None:
    for state in TERMINAL:
        scene.at(10).prune(state, 100)


VERBS = [_claim, _claim_suspects, _promote, _cancel, _retry, _finish_cancelled, _prune, *map(_finish, LIVE_ENDS)]


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__.strip("_"))
@pytest.mark.parametrize("state", sorted(JobState), ids=lambda state: state.name)
def test_no_verb_makes_an_illegal_transition(scene, state, verb):
    """From every state, every verb: what the row becomes is in the table of ``core.states``, or nothing happens."""
    job_id = scene.in_state(state)
    before = scene.row(job_id)
    verb(scene, Run(job_id, before.epoch))
    after = scene.row(job_id)
    if after.state != before.state:
        path = TRANSITIONS[state]
        assert JobState(after.state) in path, f"{state.name} became {JobState(after.state).name}"
    claimed = state is JobState.READY and verb is _claim
    assert after.epoch == before.epoch + claimed


def test_every_legal_transition_has_a_verb(scene):
    """The table holds nothing that no statement can do."""
    done = set()
    for state in JobState:
        for verb in VERBS:
            job_id = scene.in_state(state)
            verb(scene, Run(job_id, scene.row(job_id).epoch))
            after = scene.state(job_id)
            if after is not state:
                done.add((state, after))
            scene.set(job_id, state=JobState.FAILED, worker_id=None, finished_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert done == {(state, after) for state, path in TRANSITIONS.items() for after in path}


def test_the_terminal_states_are_the_highest_numbers():
    """The constraints say "ended" as "from 4 on"."""
    assert sorted(JobState) == list(range(1, 8))
    assert min(TERMINAL) > max(set(JobState) - TERMINAL)


NOW = datetime(2026, 1, 1, tzinfo=UTC)

WRONG = {
    "running without a worker": {"state": 3, "worker_id": None, "finished_at": None},
    "a worker without running": {"state": 2, "worker_id": uuid4(), "finished_at": None},
    "ended and still held": {"state": 4, "worker_id": uuid4(), "finished_at": NOW},
    "ended without a time": {"state": 4, "worker_id": None, "finished_at": None},
    "a time without an end": {"state": 2, "worker_id": None, "finished_at": NOW},
    "scheduled for never": {"state": 1, "worker_id": None, "finished_at": None, "due_at": None},
    "a state that is none": {"state": 8, "worker_id": None, "finished_at": None},
    "no state": {"state": 0, "worker_id": None, "finished_at": None},
}


@pytest.mark.parametrize("columns", WRONG.values(), ids=WRONG)
def test_the_database_refuses_a_row_of_the_wrong_shape(scene, columns):
    """Whoever writes: the constraints hold for other programs too."""
    (job_id,) = scene.enqueue()
    with pytest.raises(IntegrityError):
        scene.set(job_id, **columns)
    assert scene.state(job_id) is JobState.READY
