"""Fixtures: Chromium, a page in it, and where pictures go.

Chromium is the system's. Where it or Playwright is missing, the tests are skipped with that reason, or fail if
MEANWHILE_TEST_REQUIRE_SERVERS=1. Pictures go to docs/images if MEANWHILE_SCREENSHOTS=1, else to the test's directory.
Before they are committed, reduce them to a palette with a PNG optimiser: that saves two thirds.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from example.tour.server import Server
from tests.example import site

FLAGS = [
    "--no-sandbox",  # as root there is none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
IMAGES = Path(__file__).resolve().parent.parent.parent / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test of this directory its mark."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


def _missing(reason: str) -> None:
    if os.environ.get("MEANWHILE_TEST_REQUIRE_SERVERS") == "1":
        pytest.fail(f"MEANWHILE_TEST_REQUIRE_SERVERS=1, and {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The site, served."""
    with site.running(tmp_path_factory.mktemp("example")) as server:
        yield server


# Not for the session: while Playwright is started, its event loop counts as running, which other tests would notice.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("Playwright is not installed (it is in the dependency group dev)")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        _missing(f"there is no Chromium on this machine: none of {', '.join(BROWSERS)} is on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(server: Server, chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open a page as a new visitor: `visit(color_scheme="dark")`. What its scripts complain of fails the test."""
    contexts, complaints = [], []

    def open_page(**options: Any) -> Any:
        options = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light", **options}
        context = chromium.new_context(base_url=server.url, **options)
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., None]:
    """Keep a picture of a page, for the documentation or only for this run."""
    directory = IMAGES if os.environ.get("MEANWHILE_SCREENSHOTS") == "1" else tmp_path

    def take(page: Any, name: str, **options: Any) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        page.mouse.move(0, 0)
        page.screenshot(path=directory / f"{name}.png", animations="disabled", **options)

    return take
