"""What the tests of ``tasks`` have in common."""

import pytest

from django_meanwhile.tasks.unworked import watch


@pytest.fixture(autouse=True)
def _sample_is_listed(settings):
    """Let workers, if there were any, find the sample tasks."""
    settings.MEANWHILE = {"TASK_MODULES": ["tests.tasks.sample"]}


@pytest.fixture(autouse=True)
def _nobody_was_asked_before():
    """Start each test as a process would, having asked about no queue yet."""
    watch.forget()
