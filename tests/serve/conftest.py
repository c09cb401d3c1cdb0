"""A migrated project on SQLite to serve. What is tested depends on the server, not on the database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.playground import Playground, Project


@pytest.fixture
def site(playground: Playground, tmp_path: Path) -> Iterator[Project]:
    with playground.project("sqlite", tmp_path, migrated=True) as project:
        project.meanwhile = {"EMBEDDED": False}
        yield project
