"""Our backend passes the published suites on every database; Django's own pass what they support."""

import os
from unittest import mock

import pytest
from django.conf import settings
from django.test import SimpleTestCase, TestCase, TransactionTestCase, override_settings

from django_meanwhile.testing import run_jobs, running_worker
from django_meanwhile.testing.conformance import BackendConformance, JobConformance, QueueConformance
from django_meanwhile.testing.conformance.dialect import DIALECT
from django_meanwhile.testing.conformance.running import RunningConformance
from tests import watchdog


class Ours(BackendConformance, QueueConformance, JobConformance):
    """Our backend, run in the test's own transaction."""

    is_transactional = True

    def run_queued(self):
        run_jobs(backend=self.backend, raise_failures=False)


@pytest.mark.skipif("sqlite" not in settings.VENDORS, reason="MEANWHILE_TEST_DATABASE leaves SQLite out")
class TestOnSQLite(Ours, TestCase):
    """SQLite."""


@pytest.mark.skipif("postgresql" not in settings.DATABASES, reason="there is no PostgreSQL")
@pytest.mark.usefixtures("postgresql_server")
class TestOnPostgreSQL(Ours, TestCase):
    """PostgreSQL, as a second backend of the project."""

    backend = database = "postgresql"
    databases = {"postgresql"}


@pytest.mark.skipif("sqlite" not in settings.VENDORS, reason="MEANWHILE_TEST_DATABASE leaves SQLite out")
class TestWithRealTransactions(Ours, TransactionTestCase):
    """SQLite, every statement committed."""


@pytest.mark.slow
@pytest.mark.skipif("sqlite" not in settings.VENDORS, reason="MEANWHILE_TEST_DATABASE leaves SQLite out")
class TestWithARealWorker(RunningConformance, TransactionTestCase):
    """SQLite, run by a worker's own processes: what is promised of runs holds there as well."""

    runs_in_process = False

    def setUp(self):
        environment = {"DJANGO_SETTINGS_MODULE": "tests.testing.worker_base", **watchdog.run_mark()}
        self.enterContext(mock.patch.dict(os.environ, environment))
        self.worker = self.enterContext(running_worker(threads=1, coroutines=1, processes=0))

    def run_queued(self):
        self.worker.wait_until_idle()


@override_settings(TASKS={"default": {"BACKEND": f"{DIALECT}.backends.immediate.ImmediateBackend"}})
class TestDjangosImmediateBackend(BackendConformance, SimpleTestCase):
    """The suite demands nothing that Django's own backend does not do."""

    runs_at_enqueue = True


@override_settings(TASKS={"default": {"BACKEND": f"{DIALECT}.backends.dummy.DummyBackend"}})
class TestDjangosDummyBackend(BackendConformance, SimpleTestCase):
    """The same for the double that runs nothing."""

    can_run = False
    can_read = True
