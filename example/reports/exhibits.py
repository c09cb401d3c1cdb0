"""What can be tried on this site: the words around a button, and the task behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms

from django_meanwhile import Task

from . import tasks, weather


class ReportForm(forms.Form):
    """Which report, and how much work it is."""

    place = forms.ChoiceField(choices=[(place, place) for place in weather.PLACES])
    resamples = forms.IntegerField(
        min_value=1000,
        max_value=10_000_000,
        initial=100_000,
        help_text="100000 take some seconds, 1000000 are time enough to press cancel.",
    )


class TwinsForm(forms.Form):
    """Among which days to look."""

    wet = forms.TypedChoiceField(
        label="Among",
        coerce=float,
        choices=[(0, "days with rain: a million pairs"), (-1, "all days: ten million pairs")],
    )


@dataclass(frozen=True)
class Exhibit:
    """One thing to try. `view` is the name of the view in `views.py` that its button posts to."""

    slug: str
    page: str
    title: str
    text: str
    button: str
    view: str
    task: Task[..., Any]
    form: type[forms.Form] | None = None
    also: str = ""


_ALL = (
    Exhibit(
        "report", "report", "A report that takes a while",
        "The view writes one row and answers. Meanwhile a process of its own computes on a core of its own, tells how "
        "far it is, and writes a file that only you can download.",
        "Write the report", "start_report", tasks.write_report, ReportForm,
    ),
    Exhibit(
        "query", "query", "A slow query, in the background",
        "Which two days were each other's twins? No index helps with that, so the database looks at every pair. A "
        "thread of the worker waits for it, and the rows come back as the job's result.",
        "Find the twins", "start_query", tasks.find_twins, TwinsForm, also=weather.TWINS,
    ),
    Exhibit(
        "retry", "endings", "Retry",
        "This task fails twice and asks to be run again a second later. Each attempt stays on record, with what was "
        "wrong with it.",
        "Fetch the forecast", "start_retry", tasks.fetch_forecast,
    ),
    Exhibit(
        "timeout", "endings", "Timeout",
        "This task never returns. After two seconds its process is told to stop, and would be killed if it did not.",
        "Count to infinity", "start_timeout", tasks.count_to_infinity,
    ),
    Exhibit(
        "cancel", "endings", "Cancel",
        "This task takes ten minutes. Start it, watch it, and press cancel: it ends in the middle.",
        "Watch the sky", "start_cancel", tasks.watch_the_sky,
    ),
    Exhibit(
        "poison", "endings", "Poison",
        "This task kills the process that runs it, each time. After its third crash it is put in quarantine, with the "
        "exit code on record, and everything else goes on.",
        "Touch the lightning", "start_poison", tasks.touch_the_lightning,
    ),
    Exhibit(
        "fan-out", "endings", "Fan-out",
        "This coroutine asks a hundred stations at once, each of which takes half a second to answer. The event loop "
        "waits for all of them together.",
        "Ask the stations", "start_fan_out", tasks.ask_stations,
    ),
)  # fmt: skip

EXHIBITS = {exhibit.slug: exhibit for exhibit in _ALL}
