"""The site that Sphinx makes of `docs/`: built without a warning, and with what a reader looks for."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from .pages import DOCS, PAGES, ROOT

pytest.importorskip("sphinx", reason="the generator of the documentation is not installed (group docs)")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built apart from the tree."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(target / "doctrees"), str(DOCS), str(target / "html")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr.strip(), done.stderr
    return target / "html"


def test_the_site_is_built_without_warnings(built: Path) -> None:
    """Sphinx, told to fail at a warning and to look at every reference, builds every page."""
    for page in PAGES:
        if DOCS in page.path.parents:
            assert (built / page.path.relative_to(DOCS)).with_suffix(".html").exists(), page.name


def test_the_contents_name_every_page(built: Path) -> None:
    """The list at the side of the front page has an entry for each page of the first level, under five captions."""
    front = (built / "index.html").read_text()
    side = front.partition('class="sidebar-tree"')[2].partition("</aside>")[0]
    assert re.findall(r"caption-text\">([^<]+)<", side) == [
        "Tutorial",
        "How-to",
        "Reference",
        "Explanation",
        "The project",
    ]
    linked = set(re.findall(r'href="([^"#]+)"', side))
    for page in PAGES:
        if DOCS in page.path.parents and page.path != DOCS / "index.md":
            assert str(page.path.relative_to(DOCS).with_suffix(".html")) in linked, page.name


def test_pages_of_the_root_stand_in_for_their_stubs(built: Path) -> None:
    """The changelog of the site is that of the repository, and its links lead to pages of the site."""
    assert "[Unreleased]" in (built / "project/changelog.html").read_text()
    readme = (built / "project/readme.html").read_text()
    assert 'href="../explanation/guarantees.html"' in readme
    assert not re.search(r'href="[^"]+\.md["#]', "".join(path.read_text() for path in built.rglob("*.html")))


def test_links_in_the_site_lead_somewhere(built: Path) -> None:
    """Every relative link and image of every page names a file that was built and, after #, an id in it."""
    broken = []
    texts = {path: path.read_text() for path in built.rglob("*.html")}
    for path, text in texts.items():
        for target in re.findall(r'(?:href|src)="([^"]+)"', text.partition("<article")[2].partition("</article>")[0]):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            other = (path.parent / name.partition("?")[0]).resolve() if name else path
            if not other.exists() or (anchor and f'id="{anchor}"' not in texts[other]):
                broken.append(f"{path.relative_to(built)}: {target}")
    assert not broken


def test_the_version_is_that_of_the_package(built: Path) -> None:
    """The site names the version of pyproject.toml."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    options = (built / "_static/documentation_options.js").read_text()
    assert f"VERSION: '{version}'" in options
