"""One site for all tests of the documentation, once for each vendor: it only grows."""

from collections.abc import Iterator

import pytest
from django.conf import settings

from tests.playground import Playground

from .site import Site, make_site


@pytest.fixture(params=settings.VENDORS, scope="module")
def _vendor_of_project(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def site(playground: Playground, _vendor_of_project: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The README's project, migrated."""
    path = tmp_path_factory.mktemp("site")
    with playground.project(_vendor_of_project, path, migrated=False) as project:
        site = make_site(project)
        yield site
        site.kill_everything()
