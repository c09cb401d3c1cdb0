"""The scripts of "What threads can and cannot do in Django": each proves what is said beside it by assertions."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import page

PAGE = page("explanation/threads")
SCRIPTS = {name.removeprefix("proofs/"): text for name, text in PAGE.files().items()}
PARTS = {"project.py", "views.py"}  # imported by the others
ALONE = {"two_cores.py"}  # needs two cores to itself
NAMES = [
    pytest.param(name, marks=pytest.mark.alone if name in ALONE else ()) for name in sorted(SCRIPTS.keys() - PARTS)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts as a reader has them: in one folder."""
    path = tmp_path_factory.mktemp("proofs")
    for name, text in SCRIPTS.items():
        (path / name).write_text(text)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_proof_holds(folder: Path, name: str) -> None:
    """The script ends well, and so the claim beside it is true on this Python and this Django."""
    environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, name], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_proof_asserts_something() -> None:
    """A script that proves anything has an assertion, and each is used by the page or by another script."""
    for name in SCRIPTS.keys() - PARTS:
        assert re.search(r"^ *assert ", SCRIPTS[name], re.MULTILINE), name


def test_every_claim_has_its_section() -> None:
    """The table of verdicts leads to the sections, in order, and no claim is left out of it."""
    table = PAGE.table("What threads can and cannot do in Django", "it is said that", "verdict")
    targets = [re.findall(r"\(#([^)]+)\)", verdict) for verdict in table.column("verdict")]
    assert all(len(found) == 1 for found in targets)
    headings = re.findall(r"^## (.+)$", PAGE.text, re.MULTILINE)
    said = re.findall(r"^## [^\n]+\n\n\*Said: ", PAGE.text, re.MULTILINE)
    assert len(said) == len(headings) - 2, "all but the conclusion and the scripts' project begin with what is said"
    assert {found[0] for found in targets} <= PAGE.anchors()
    assert len({found[0] for found in targets}) == len(said)


def test_a_remedy_that_is_not_there_yet_is_called_so() -> None:
    """The page promises nothing: where a remedy is not in the package, it says "not a part of this package yet"."""
    import django_meanwhile

    text = " ".join(PAGE.text.split())
    for words, module in (
        ("Pushing the result to the browser", "live"),
        ("A server that reads its numbers from `settings.py`", "serve"),
        ("Handing jobs of this package over to Celery", "celery"),
    ):
        missing = not (Path(django_meanwhile.__file__).parent / module).exists()
        assert bool(re.search(rf"{re.escape(words)} is not a part of (this package|it) yet", text)) == missing, words
