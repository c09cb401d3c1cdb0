"""Bodies of the sample tasks live as long as one test."""

from collections.abc import Callable, Iterator

import pytest

from tests.run import sample


@pytest.fixture
def bodies() -> Iterator[dict[str, Callable]]:
    """What the sample tasks run, by key."""
    yield sample.BODIES
    sample.BODIES.clear()
