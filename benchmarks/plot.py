"""`make bench-plots`: draws the figures of the documentation from what the other benchmarks have written.

    make bench-concurrent ARGS="--json figures"
    make bench-leaks ARGS="--json figures"
    make bench-plots ARGS="figures"

Reads ``concurrent.json``, ``leaks.json`` and ``servers.json`` of a folder, whichever are there; writes SVGs into
``docs/images``, or where ``--to`` says. Needs matplotlib (the dependency group ``bench``) and no database. The pictures
have a ground of their own and follow the reader's colour scheme by themselves.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

try:
    import matplotlib as mpl
except ImportError:
    sys.exit("matplotlib is not installed: pip install --group bench")

mpl.use("svg")
from matplotlib import pyplot as plt

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"

# What stands in a figure for a colour of the page: replaced by a variable, which has two values.
INK, SOFT, PAPER, LINE, OURS, NAIVE = "#010203", "#010204", "#010205", "#010206", "#010207", "#010208"
SCHEMES = {
    INK: ("#1b2430", "#e9e6de"),
    SOFT: ("#545f70", "#a5afbb"),
    PAPER: ("#ffffff", "#182029"),
    LINE: ("#e3dfd4", "#2c3743"),
    OURS: ("#0a6665", "#62cdc5"),
    NAIVE: ("#c8744a", "#ffa575"),
}
OUR_WAYS = {"parallel", "aparallel", "parallel_map"}
PLAIN = {"one query", "one query, async", "one after the other"}
DATABASES = {"postgresql": "PostgreSQL", "pool": "PostgreSQL, pool of 10", "sqlite": "SQLite"}


def main() -> int:
    """Draw what there is."""
    parser = argparse.ArgumentParser(
        prog="make bench-plots", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the benchmarks have written their JSON")
    parser.add_argument("--to", type=Path, default=IMAGES, metavar="DIR", help="(docs/images)")
    args = parser.parse_args()
    drawn = 0
    plt.rcParams.update(STYLE)
    for name, draw in DRAWINGS.items():
        file = args.folder / f"{name}.json"
        if file.exists():
            found = json.loads(file.read_text())
            for target, figure in draw(found["figures"]):
                write(figure, args.to / f"{target}.svg", found["about"][0].partition(", load")[0])
                drawn += 1
    if not drawn:
        parser.error(f"{args.folder} has none of {', '.join(f'{name}.json' for name in DRAWINGS)}")
    return 0


STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "meanwhile",
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "figure.facecolor": PAPER,
    "xtick.color": SOFT,
    "ytick.color": INK,
    "ytick.major.size": 0,
    "grid.color": LINE,
}


def draw_concurrent(figures: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Return the page in every way, and what empty calls cost."""
    drawings = []
    for prefix, target, label in (
        ("a page with", "concurrent-page", "milliseconds from request to response (median, with minimum and maximum)"),
        ("calls that do nothing", "concurrent-overhead", "microseconds (median, with minimum and maximum)"),
        ("calls that compute", "concurrent-computing", "milliseconds (median, with minimum and maximum)"),
    ):
        if chosen := sorted((each for each in figures if prefix in each["measure"]), key=_order):
            drawings.append((target, _bars(chosen, label)))
    return drawings


def draw_servers(figures: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Return requests a second of each server, a panel for each page and number of processes."""
    return [("servers", _bars(figures, "requests a second (median, with minimum and maximum)"))]


def _order(figure: dict[str, Any]) -> int:
    return list(DATABASES).index(figure["database"])


def _bars(figures: list[dict[str, Any]], label: str) -> Any:
    """Draw a panel of bars for each measure, the first one's scale its own."""
    heights = [len(each["ways"]) for each in figures]
    figure, axes = plt.subplots(
        len(figures), 1, figsize=(8.4, 0.34 * sum(heights) + 0.75 * len(figures) + 0.4), height_ratios=heights
    )
    for axis, each in zip([axes] if len(figures) == 1 else axes, figures, strict=True):
        names = list(each["ways"])
        found = [each["summary"][name] for name in names]
        middles = [summary["median"] for summary in found]
        spread = [
            [summary["median"] - summary["min"] for summary in found],
            [summary["max"] - summary["median"] for summary in found],
        ]
        bars = axis.barh(names, middles, color=[_colour(name) for name in names], height=0.66)
        axis.errorbar(middles, names, xerr=spread, fmt="none", color=SOFT, ecolor=SOFT, elinewidth=1, capsize=2)
        for bar, summary in zip(bars, found, strict=True):
            ratio = "" if summary["ratio"] is None else f" ({summary['ratio']:.2f} times)"
            axis.text(
                summary["max"] + max(s["max"] for s in found) * 0.012,
                bar.get_y() + bar.get_height() / 2,
                f"{summary['median']:,.0f}{ratio}",
                va="center",
                fontsize=9,
            )
        title = each["measure"]
        _finish(axis, f"{title}, {DATABASES[each['database']]}" if title.startswith("a page with 8") else title)
        axis.set_xlim(0, max(s["max"] for s in found) * 1.16)
    figure.axes[-1].set_xlabel(label)
    figure.tight_layout()
    return figure


def draw_leaks(figures: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Return a panel for each database: the most at once, and what is left."""
    databases = list(dict.fromkeys(each["database"] for each in figures))
    names = list(dict.fromkeys(each["facility"] for each in figures))
    figure, axes = plt.subplots(
        1, len(databases), figsize=(2.6 + 2.5 * len(databases), 0.34 * len(names) + 1.2), sharey=True
    )
    for axis, database in zip([axes] if len(databases) == 1 else axes, databases, strict=True):
        found = {each["facility"]: each for each in figures if each["database"] == database}
        most = [found[name]["most"] if name in found else 0 for name in names]
        left = [found[name]["left"] if name in found else 0 for name in names]
        colours = [_colour(name, naive=found.get(name, {}).get("naive", False)) for name in names]
        axis.barh(names, most, color=LINE, height=0.66, label="most at once")
        axis.barh(names, left, color=colours, height=0.66, label="left at the end")
        for place, name in enumerate(names):
            if name in found:
                lost = found[name]["error"] and f", failed after {found[name]['requests']}"
                axis.text(max(most) * 0.03 + most[place], place, f"{left[place]}{lost}", va="center", fontsize=9)
        _finish(axis, DATABASES[database])
        axis.set_xlim(0, max(most) * (2.2 if any(each["error"] for each in found.values()) else 1.3) or 1)
        ours = {each["facility"] for each in figures if not each["naive"]}
        axis.set_yticks(range(len(names)), [f"ours: {name}" if name in ours else name for name in names])
    figure.supxlabel(
        "connections: pale, the most at once; full, and the number, left at the end", fontsize=9, color=SOFT
    )
    figure.tight_layout()
    return [("concurrent-leaks", figure)]


def _colour(name: str, *, naive: bool | None = None) -> str:
    if name in PLAIN or name.startswith("ideal"):
        return SOFT
    is_ours = (name in OUR_WAYS or name.startswith(("serve", "workers="))) if naive is None else not naive
    return OURS if is_ours else NAIVE


def _finish(axis: Any, title: str) -> None:
    axis.set_title(title)
    axis.invert_yaxis()
    axis.grid(axis="x", linewidth=0.8)
    axis.set_axisbelow(True)


def write(figure: Any, file: Path, about: str) -> None:
    """Write the SVG, its colours as variables of the reader's colour scheme."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Title": about})
    plt.close(figure)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_in_both_schemes(text.getvalue()))
    print(file)


def _in_both_schemes(svg: str) -> str:
    for number, colour in enumerate(SCHEMES):
        svg = svg.replace(colour, f"var(--c{number})")
    light, dark = (
        "".join(f"--c{number}:{colours[which]};" for number, colours in enumerate(SCHEMES.values())) for which in (0, 1)
    )
    style = f"<style>svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    svg = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", svg)
    return re.sub(r"(<svg [^>]*>)", rf"\1{style}", svg, count=1)


DRAWINGS: dict[str, Callable[[list[dict[str, Any]]], Sequence[tuple[str, Any]]]] = {
    "concurrent": draw_concurrent,
    "leaks": draw_leaks,
    "servers": draw_servers,
}


if __name__ == "__main__":
    sys.exit(main())
