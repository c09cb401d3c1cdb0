"""Fixtures of the conformance suite: each test runs once per vendor, in autocommit, as a worker does."""

import pytest

from django_meanwhile.store import Store
from tests.store.scene import Scene


@pytest.fixture
def scene(database: str, transactional_db: None) -> Scene:
    """A database without jobs and workers, its store, and what tests do with them."""
    return Scene(database)


@pytest.fixture
def store(scene: Scene) -> Store:
    """The scene's store."""
    return scene.store
