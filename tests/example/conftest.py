"""Fixtures: the running site, and somebody who visits it."""

from collections.abc import Iterator

import pytest

from example.tour.server import Server
from example.tour.visitor import Visitor
from tests.example import site


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The site, served; the same for all tests."""
    with site.running(tmp_path_factory.mktemp("example")) as server:
        yield server


@pytest.fixture
def visitor(server: Server) -> Visitor:
    """Somebody who has not been here before."""
    return Visitor(server.port)
