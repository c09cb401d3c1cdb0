"""The page: made in three ways, one after the other, each measured. Works without JavaScript."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import translation

from reports import source

from . import left, ways
from .calls import CALLS, ask_station, closest_days

LANGUAGES = (("de", "German"), ("fr", "French"), ("pl", "Polish"), ("el", "Greek"), ("tr", "Turkish"))


class LanguageForm(forms.Form):
    language = forms.ChoiceField(choices=LANGUAGES, label="Language of this request")


@dataclass(frozen=True)
class Seen:
    """One call, as it was seen: seconds since the way began."""

    name: str
    began: float
    ended: float
    language: str
    said: str


@dataclass(frozen=True)
class Way:
    """One way to make the page, and what came of it."""

    slug: str
    title: str
    text: str
    make: Callable[[list[Callable[[], Seen]]], list[Seen]]

    @property
    def code(self) -> str:
        """Its source."""
        return source.of(self.make)


WAYS = (
    Way(
        "sequential", "One after the other",
        "How a view is usually written. Each call waits until the one before it is done, and the visitor waits for the "
        "sum.",
        ways.one_after_the_other,
    ),
    Way(
        "naive", "In naive threads",
        "Quicker, but the threads are outside of the request. They do not know its language, and each opens a database "
        "connection that nobody closes when the thread ends.",
        ways.in_naive_threads,
    ),
    Way(
        "parallel", "In parallel",
        "As quick. Language, time zone and context variables are those of the request, connections are looked after, "
        "the answers come in order, and the first error stops the rest.",
        ways.in_parallel,
    ),
)  # fmt: skip


def show(request: HttpRequest) -> HttpResponse:
    """Show the ways and their code; if the button was pressed, what each did."""
    form = LanguageForm(request.POST if request.method == "POST" else None)
    made = [_make(way, form.cleaned_data["language"]) for way in WAYS] if form.is_bound and form.is_valid() else None
    if made and not request.accepts("text/html"):
        return JsonResponse({"ways": made, "left_now": left.count(), "cores": os.cpu_count()})
    longest = max(each["seconds"] for each in made) if made else 0
    context = {
        "form": form,
        "ways": [{"way": way, "made": _drawn(made[n], longest) if made else None} for n, way in enumerate(WAYS)],
        "calls": source.of(closest_days, ask_station),
        "cores": os.cpu_count(),
        "left_now": left.count(),
    }
    return render(request, "inside.html", context, status=422 if form.is_bound and not form.is_valid() else 200)


def _make(way: Way, language: str) -> dict[str, Any]:
    """Make the page in one way, in that language."""
    before = left.now()
    begun = time.perf_counter()

    def watched(name: str, call: Callable[[], str]) -> Callable[[], Seen]:
        def run() -> Seen:
            began = time.perf_counter() - begun
            said = call()
            return Seen(name, began, time.perf_counter() - begun, translation.get_language() or "", said)

        return run

    with translation.override(language):
        seen = way.make([watched(name, call) for name, call in CALLS.items()])
    seconds = time.perf_counter() - begun
    return {
        "name": way.slug,
        "seconds": seconds,
        "calls": [asdict(each) for each in seen],
        "lost_language": sum(each.language != language for each in seen),
        "left": left.count(since=before),
    }


def _drawn(made: dict[str, Any], longest: float) -> dict[str, Any]:
    """Add where each call's bar stands, in percent of the longest way."""
    for call in made["calls"]:
        call["from"] = f"{call['began'] / longest * 100:.2f}"
        call["width"] = f"{max(0.4, (call['ended'] - call['began']) / longest * 100):.2f}"
    return made | {"milliseconds": made["seconds"] * 1000, "times": longest / made["seconds"]}
