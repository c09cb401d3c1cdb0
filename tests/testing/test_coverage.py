"""The published suite covers every behaviour of Django's own tests, and can fail."""

import unittest
from dataclasses import replace
from pathlib import Path

import pytest
from django.test import TestCase

from django_meanwhile.backends import DatabaseBackend
from django_meanwhile.compat import task_enqueued
from django_meanwhile.testing import run_jobs
from django_meanwhile.testing.conformance import BackendConformance, JobConformance, QueueConformance
from django_meanwhile.testing.conformance.coverage import BESIDES, COVERED, LEFT_OUT

DJANGOS = {
    line
    for line in (Path(__file__).parent / "django_tasks_tests.txt").read_text().splitlines()
    if line and not line.startswith("#")
}


def methods(suite):
    return {name for name in dir(suite) if name.startswith("test_")}


def test_every_test_of_django_has_its_counterpart():
    """Each of Django's tests is covered or left out with a reason, none is both, and none is made up."""
    assert len(DJANGOS) == 85
    assert set(COVERED) | set(LEFT_OUT) == DJANGOS
    assert not set(COVERED) & set(LEFT_OUT)
    assert all(len(reason) > 20 for reason in [*LEFT_OUT.values(), *BESIDES.values()])


def test_every_counterpart_exists():
    """The tests that are named are there; a test of the contract that corresponds to nothing says why."""
    named = {name for names in COVERED.values() for name in names}
    assert named | set(BESIDES) == methods(BackendConformance)
    assert not named & set(BESIDES)


def test_every_test_of_the_suites_says_what_it_proves():
    """Who sees one fail on a backend of their own reads in its docstring what is wrong."""
    for suite in (BackendConformance, QueueConformance, JobConformance):
        assert not [name for name in methods(suite) if not getattr(suite, name).__doc__]


# --- backends that are wrong ------------------------------------------------------------------


class DropsKeywords(DatabaseBackend):
    def enqueue(self, task, args, kwargs):
        return super().enqueue(task, args, {})


class ValidatesNothing(DatabaseBackend):
    def validate_task(self, task):
        """Accept everything."""


class KnowsEveryResult(DatabaseBackend):
    def get_result(self, result_id):
        if result_id == "123":
            return None
        return super().get_result(result_id)


class TellsTwice(DatabaseBackend):
    def enqueue(self, task, args, kwargs):
        result = super().enqueue(task, args, kwargs)
        task_enqueued.send(type(self), task_result=result)
        return result


class ForgetsPriorities(DatabaseBackend):
    def enqueue(self, task, args, kwargs):
        return super().enqueue(replace(task, priority=0), args, kwargs)


class WaitsForNothing(DatabaseBackend):
    def enqueue(self, task, args, kwargs):
        return super().enqueue(replace(task, run_after=None), args, kwargs)


class SwallowsArguments(DatabaseBackend):
    def enqueue(self, task, args, kwargs):
        return super().enqueue(task, [arg if isinstance(arg, int | str) else None for arg in args], kwargs)


class CannotReadLater(DatabaseBackend):
    async def aget_result(self, result_id):
        raise NotImplementedError


class ClaimsNothing(DatabaseBackend):
    supports_async_task = False

    def validate_task(self, task):
        type(self).supports_async_task = True
        try:
            super().validate_task(task)
        finally:
            type(self).supports_async_task = False


BROKEN = {
    DropsKeywords: {"test_an_enqueue_returns_a_result", "test_a_task_that_returns_is_successful"},
    ValidatesNothing: {
        "test_queues_are_those_of_the_settings",
        "test_due_times_are_aware",
        "test_the_context_needs_its_parameter",
        "test_the_task_is_validated_again_at_the_enqueue",
    },
    KnowsEveryResult: {"test_a_missing_result_is_an_error", "test_a_result_that_is_not_there_is_an_error"},
    TellsTwice: {"test_an_enqueue_is_told_and_logged"},
    ForgetsPriorities: {"test_a_higher_priority_runs_first"},
    WaitsForNothing: {"test_a_deferred_task_waits"},
    SwallowsArguments: {"test_arguments_that_cannot_be_carried_are_refused"},
    CannotReadLater: {"test_a_result_can_be_read_again_async", "test_a_result_of_another_task_is_an_error_async"},
    ClaimsNothing: {"test_coroutine_functions_need_support"},
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_the_suite_finds_what_is_wrong(settings, broken):
    """A backend with one deliberate mistake fails the tests that are about it."""
    failed = run_suite(settings, broken)
    assert failed >= BROKEN[broken]
    assert len(failed) < 20, f"one mistake, and hardly any test passes: {sorted(failed)}"


@pytest.mark.django_db(transaction=True)
def test_the_suite_passes_what_is_right(settings):
    """The same run without a mistake has no failure: it is the mistakes that are found."""
    assert run_suite(settings, DatabaseBackend) == set()


def run_suite(settings, backend):
    """Run the suites on a backend, as unittest would; return the names of the tests that failed."""
    settings.TASKS = {"default": {"BACKEND": f"{backend.__module__}.{backend.__qualname__}", "QUEUES": []}}

    class Case(BackendConformance, QueueConformance, TestCase):
        is_transactional = True

        def run_queued(self):
            run_jobs(raise_failures=False)

    suite = unittest.defaultTestLoader.loadTestsFromTestCase(Case)
    result = unittest.TestResult()
    suite.run(result)
    assert result.testsRun > 50
    return {getattr(case, "test_case", case)._testMethodName for case, _ in [*result.failures, *result.errors]}
