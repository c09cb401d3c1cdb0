"""The code on the pages is the code that runs; the data is what its program makes; a trend is found."""

import re
import runpy
from datetime import date, timedelta
from html import unescape
from pathlib import Path

import pytest

from example.reports import climate
from example.tour.visitor import Visitor

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "example"
INSIDE = ("inside/calls.py", "inside/ways.py")
WRITTEN = "\n\n".join(
    (EXAMPLE / name).read_text() for name in ("reports/tasks.py", "reports/views.py", "naive/views.py", *INSIDE)
)
SHOWN = {
    "/report/": ["def start_report(", "def write_report("],
    "/query/": ["def start_query(", "def find_twins("],
    "/endings/": [
        "def start_retry(",
        "def fetch_forecast(",
        "timeout=2",
        "def watch_the_sky(",
        "os._exit(13)",
        "async def",
    ],
    "/naive/": [
        "def blocking_view(",
        "def thread_view(",
        "def background_task(",
        "def write_report(",
        "def start_report(",
    ],
    "/inside/": [
        "def one_after_the_other(",
        "ThreadPoolExecutor(",
        "return parallel(",
        "def closest_days(",
        "def ask_station(",
    ],
}


@pytest.mark.parametrize("page", SHOWN)
def test_the_code_shown_is_the_code_that_runs(visitor: Visitor, page: str) -> None:
    """Every function on a page stands in the source word for word, and the page shows those it is about."""
    blocks = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", visitor.get(page).text, re.DOTALL)
    texts = [unescape(re.sub(r"</?span[^>]*>", "", block)) for block in blocks]
    functions = [function for text in texts for function in text.split("\n\n\n") if "def " in function]
    for function in functions:
        python = function.split("\n\nSELECT")[0].strip()
        assert python in WRITTEN
    for part in SHOWN[page]:
        assert any(part in text for text in texts), part


def test_the_data_is_what_its_program_makes() -> None:
    """The bundled file is the output of the program beside it, so nobody else's rights are in it."""
    made = runpy.run_path(str(EXAMPLE / "reports/data/generate.py"))["lines"]()
    assert (EXAMPLE / "reports/data/weather.csv").read_text() == "\n".join(made) + "\n"
    assert (EXAMPLE / "reports/data/weather.csv").stat().st_size <= 300_000


def test_the_pictures_are_small() -> None:
    """No picture of the documentation has more than 200 KB."""
    large = [path.name for path in (EXAMPLE.parent / "docs/images").glob("*.png") if path.stat().st_size > 200_000]
    assert not large, f"reduce them to a palette with a PNG optimiser: {large}"


def test_the_trend_is_found() -> None:
    """Weather that warms by three degrees in a decade, and else repeats itself, has exactly that trend."""
    first = date(2020, 1, 1)
    days = []
    for n in range(6 * 366):
        day = first + timedelta(days=n)
        if day.year < 2026:
            months = (day.year - 2020) * 12 + day.month - 1
            middle = 10 * (day.month in {6, 7, 8}) + months * 3 / 120
            days.append(climate.Day(day, middle - 5, middle + 5, 0.0))
    told = []
    found = climate.study("Nowhere", days, 1000, lambda n, of, what: told.append((n, of)))
    # A month's own average rises within its calendar month by whole years: the trend between years is all there is.
    assert found.trend == pytest.approx(3.0, rel=0.05)
    assert found.trend_low <= found.trend <= found.trend_high
    assert told == [(n, climate.STEPS) for n in range(1, climate.STEPS + 1)]
    assert found.drought == climate.Spell(first, len(days))
    assert found == climate.study("Nowhere", days, 1000, lambda *_: None)
