"""The measured figures of the documentation: what draws them, what they are made of, and that they can be read."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from benchmarks import facilities, leaks
from benchmarks.sides import Sides, table

from .pages import DOCS, ROOT, page

FIGURES = page("explanation/concurrency-figures")


def pictures() -> list[str]:
    """Return the names of the page's pictures."""
    return re.findall(r"\]\(\.\./images/([\w-]+\.svg)\)", FIGURES.text)


def test_every_figure_is_drawn_by_the_benchmarks() -> None:
    """Each picture of the page is one that the plots write, so that measuring again replaces it."""
    drawn = (ROOT / "benchmarks/plot.py").read_text()
    assert pictures()
    assert all(f'"{name.removesuffix(".svg")}"' in drawn for name in pictures())


@pytest.mark.parametrize("name", pictures())
def test_a_figure_can_be_read_by_day_and_by_night(name: str) -> None:
    """The picture is XML with a ground of its own, every colour has two values, and its words are text."""
    text = (DOCS / "images" / name).read_text()
    root = ET.fromstring(text)
    words = {"".join(each.itertext()).strip() for each in root.iter() if each.tag.endswith("}text")}
    assert len(words) > 5
    light, dark = (set(re.findall(r"(--c\d):", part)) for part in text.partition("</style>")[0].split("@media"))
    assert light == dark
    used = set(re.findall(r"var\((--c\d)\)", text))
    assert used <= light
    assert not re.findall(r"(?:fill|stroke): (#\w+)", text), "a colour that is the same by night"


@pytest.mark.parametrize("module", ["concurrent", "leaks"])
def test_a_benchmark_says_what_it_needs(module: str) -> None:
    """Its --help describes what is measured and what must be there, and measures nothing."""
    command = [sys.executable, "-m", f"benchmarks.{module}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Needs: PostgreSQL" in done.stdout
    assert "--json DIR" in done.stdout


def test_every_facility_is_counted() -> None:
    """The names that the command takes are those that there is a view for; none has a comma, which parts names."""
    assert (*facilities.NAIVE, *facilities.NAIVE_ASYNC) == leaks.NAIVE
    assert (*facilities.OURS, *facilities.OURS_ASYNC) == leaks.OURS
    assert not [name for name in leaks.NAIVE + leaks.OURS if "," in name]


def test_a_leak_of_ours_is_a_failure_and_a_naive_one_is_not() -> None:
    """The command fails if ours left a connection open or ended in an error; of the naive ways that is the point."""
    clean = {"facility": "parallel", "left": 0, "error": ""}
    assert not leaks.is_broken(clean)
    assert leaks.is_broken(clean | {"left": 1})
    assert leaks.is_broken(clean | {"error": "OperationalError: too many clients"})
    assert not leaks.is_broken(clean | {"facility": "threading.Thread", "left": 9})


def test_ratios_are_of_neighbours() -> None:
    """A ratio compares two numbers of one round, not two medians of different rounds."""
    sides = Sides(
        measure="a page",
        database="sqlite",
        unit="ms",
        ways={"one": (10.0, 20.0, 30.0), "ours": (10.0, 40.0, 90.0)},
        base={"ours": "one"},
        notes={},
    )
    assert sides.ratios("ours") == (1.0, 2.0, 3.0)
    assert sides.ratios("one") == ()
    assert sides.as_dict()["summary"]["ours"]["ratio"] == 2.0
    assert Sides.of(sides.as_dict()) == sides
    assert "2.00 (1.00 - 3.00)" in table([sides])
