"""What the tests of the testing tools have in common."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_meanwhile.models import Job, Worker
from django_meanwhile.store import get_store
from django_meanwhile.tasks.unworked import watch
from tests.testing import sample


@pytest.fixture(autouse=True)
def _sample_is_listed(settings):
    settings.MEANWHILE = {"TASK_MODULES": ["tests.testing.sample"]}


@pytest.fixture(autouse=True)
def _nobody_was_asked_before():
    watch.forget()


@pytest.fixture
def bodies() -> Iterator[dict[str, Callable[..., Any]]]:
    """What the sample tasks run, by key."""
    yield sample.BODIES
    sample.BODIES.clear()


@pytest.fixture
def on(database):
    """Return a task as it is enqueued to the database under test."""
    return lambda task: task.using(backend=database)


@pytest.fixture
def run(database):
    """Call ``run_jobs`` for the database under test, and see that it leaves nothing behind."""
    from django_meanwhile.testing import run_jobs

    def run_it(**options):
        try:
            return run_jobs(backend=database, **options)
        finally:
            assert not Worker.objects.using(database).exists()
            assert not Job.objects.using(database).filter(worker_id__isnull=False).exists()
            assert get_store(database).offset == pytest.approx(0.0, abs=1e-6)

    return run_it
