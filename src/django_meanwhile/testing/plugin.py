"""The pytest plugin (entry point ``pytest11``): fixtures for projects that enqueue.

``meanwhile_jobs``     what the test enqueues, and ``run()``
``meanwhile_worker``   a real worker; ``@pytest.mark.meanwhile_worker(threads=4)`` gives its options

Loaded by every pytest run of an environment that has the package: it imports no Django and nothing of ours before a
test asks for a fixture.
"""

from __future__ import annotations

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


@pytest.fixture
def meanwhile_jobs(request: pytest.FixtureRequest) -> Iterator[JobsOfATest]:
    """Record what the test enqueues; ``run()`` runs what is queued."""
    _want_database(request, "db")
    from .enqueued import capture_enqueued  # noqa: PLC0415 - see the module
    from .jobs_of_a_test import JobsOfATest  # noqa: PLC0415

    with capture_enqueued() as captured:
        yield JobsOfATest(captured)


@pytest.fixture
def meanwhile_worker(request: pytest.FixtureRequest) -> Iterator[RunningWorker]:
    """Run a real worker beside the test, on the test's database, with real transactions."""
    _want_database(request, "transactional_db")
    from .worker import running_worker  # noqa: PLC0415 - see the module

    mark = request.node.get_closest_marker(MARK)
    options: dict[str, Any] = dict(mark.kwargs) if mark else {}
    with running_worker(**options) as worker:
        yield worker


def _want_database(request: pytest.FixtureRequest, fixture: str) -> None:
    """Ask pytest-django for access to the database, unless the test has its own way to it."""
    marked = request.node.get_closest_marker("django_db") is not None
    if request.config.pluginmanager.hasplugin("django") and not marked:
        request.getfixturevalue(fixture)
