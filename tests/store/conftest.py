"""Fixtures of the conformance suite: each test runs once per vendor, in autocommit, as a worker does."""

from pathlib import Path

import pytest
from django.conf import settings

from django_meanwhile.store import Store
from tests.store.scene import Scene

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give the tests of this directory real transactions, and leave out those of a vendor that is not wanted.

    With our app alone, emptying the tables afterwards takes no time.
    """
    unwanted = []
    for item in items:
        if item.path.parent != _HERE or "database" not in getattr(item, "fixturenames", ()):
            continue
        item.add_marker(pytest.mark.django_db(transaction=True, available_apps=["django_meanwhile"]))
        vendor = "postgresql" if item.callspec.params["database"] == "postgresql" else "sqlite"  # type: ignore[attr-defined]
        if vendor not in settings.VENDORS:
            unwanted.append(item)
    if unwanted:
        config.hook.pytest_deselected(items=unwanted)
        items[:] = [item for item in items if item not in unwanted]


@pytest.fixture
def scene(database: str) -> Scene:
    """A database without jobs and workers, its store, and what tests do with them."""
    return Scene(database)


@pytest.fixture
def store(scene: Scene) -> Store:
    """The scene's store."""
    return scene.store
