"""The pytest plugin (entry point ``pytest11``): fixtures for projects that enqueue.

``meanwhile_jobs``     what the test enqueues, and ``run()``
``meanwhile_worker``   a real worker; ``@pytest.mark.meanwhile_worker(threads=4)`` gives its options

Loaded by every pytest run of an environment that has the package: it imports no Django and nothing of ours before a
test asks for a fixture.
"""

from __future__ import annotations

import unittest
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .jobs_of_a_test import JobsOfATest
    from .worker import RunningWorker

MARK = "meanwhile_worker"


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, for projects with --strict-markers."""
    config.addinivalue_line("markers", f"{MARK}(**options): options of running_worker() for the fixture {MARK}")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give tests that use the fixtures pytest-django's access to the database, unless they say themselves which.

    A mark, not a fixture asked for later: pytest-django sorts the tests and opens the transaction by it.
    """
    names = getattr(item, "fixturenames", ())
    wanted = next((name for name in ("meanwhile_worker", "meanwhile_jobs") if name in names), None)
    if wanted is None or item.get_closest_marker("django_db") is not None or not _has_pytest_django(item.config):
        return
    cls = getattr(item, "cls", None)
    if cls is None or not issubclass(cls, unittest.TestCase):
        item.add_marker(pytest.mark.django_db(transaction=wanted == "meanwhile_worker"))


def _has_pytest_django(config: pytest.Config) -> bool:
    plugins = config.pluginmanager.get_plugins()
    return any(getattr(plugin, "__name__", "") == "pytest_django.plugin" for plugin in plugins)


@pytest.fixture
def meanwhile_jobs() -> Iterator[JobsOfATest]:
    """Record what the test enqueues; ``run()`` runs what is queued."""
    from .enqueued import capture_enqueued  # noqa: PLC0415 - see the module
    from .jobs_of_a_test import JobsOfATest  # noqa: PLC0415

    with capture_enqueued() as captured:
        yield JobsOfATest(captured)


@pytest.fixture
def meanwhile_worker(request: pytest.FixtureRequest) -> Iterator[RunningWorker]:
    """Run a real worker beside the test, on the test's database, with real transactions."""
    from .worker import running_worker  # noqa: PLC0415 - see the module

    mark = request.node.get_closest_marker(MARK)
    options: dict[str, Any] = dict(mark.kwargs) if mark else {}
    with running_worker(**options) as worker:
        yield worker
