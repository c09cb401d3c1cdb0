"""The part inside a request: one page made one after the other, in naive threads, and in parallel."""

from __future__ import annotations

import json
from typing import Any

from .told import Told, milliseconds
from .visitor import Visitor

LANGUAGE = "de"
NAMES = {"sequential": "one after the other", "naive": "in naive threads", "parallel": "in parallel"}


def three_ways(told: Told, visitor: Visitor) -> None:
    """Have the page made in all three ways, and look at what each did."""
    told.chapter("Inside a request: a page that waits for four queries on SQLite and four stations")
    answer = visitor.post("/inside/", {"language": LANGUAGE}, "application/json")
    if answer.status != 200:
        raise RuntimeError(f"POST /inside/: expected 200, got {answer.status}: {answer.beginning}")
    seen: dict[str, Any] = json.loads(answer.body)
    ways = {way["name"]: way for way in seen["ways"]}
    for name, words in NAMES.items():
        way = ways[name]
        told.say(
            f"    {words:<22}{milliseconds(way['seconds']):>10}   lost the language: {way['lost_language']} of 8   "
            f"connections left behind: {way['left']}"
        )
    ours, naive = ways["parallel"], ways["naive"]
    told.hold(
        "parallel gives the answers of the loop, in order",
        [call["said"] for call in ours["calls"]] == [call["said"] for call in ways["sequential"]["calls"]],
        f"{len(ours['calls'])} answers, {at_once(ours['calls'])} calls at once",
    )
    told.hold("its calls run at the same time", at_once(ours["calls"]) > 1,
              f"{milliseconds(ours['seconds'])} instead of {milliseconds(ways['sequential']['seconds'])}")  # fmt: skip
    told.hold("they keep the request's language", not ours["lost_language"],
              f"{ours['calls'][0]['said'].partition(',')[0]}; in a naive thread: "
              f"{naive['calls'][0]['said'].partition(',')[0]}")  # fmt: skip
    told.hold("and leave no connection behind", not ours["left"], f"{ours['left']}; naive threads: {naive['left']}")


def at_once(calls: list[dict[str, Any]]) -> int:
    """Return how many calls ran at the same time, at most."""
    return max(sum(other["began"] <= call["began"] < other["ended"] for other in calls) for call in calls)
