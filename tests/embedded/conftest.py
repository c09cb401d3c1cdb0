"""A project on SQLite, and one on each vendor, whose server brings a worker along."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.playground import Playground, Project

from .servers import EMBEDDED


@pytest.fixture
def site(playground: Playground, tmp_path: Path) -> Iterator[Project]:
    """A migrated project on SQLite. What depends on the server needs no second vendor."""
    with playground.project("sqlite", tmp_path, migrated=True) as project:
        project.meanwhile = dict(EMBEDDED)
        yield project
