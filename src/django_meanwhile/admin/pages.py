"""Values as HTML, for the pages of jobs and workers. Everything that comes from a row is escaped here, or by
``format_html``.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from uuid import UUID

from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..core.states import JobState
from ..core.text import clip
from ..fields import naive_utc
from ..logs import escape
from ..management.wording import duration, pretty_json
from ..models import Attempt, Job

NOTHING = "-"
_SHOWN = 64 * 1024
_MESSAGE_IN_LIST = 60


def badge(state: int) -> SafeString:
    """Show a state; the colour comes with the stylesheet."""
    name = JobState(state).name
    return format_html('<span class="meanwhile-state meanwhile-{}">{}</span>', name.lower(), name)


def block(text: str | None) -> SafeString | str:
    """Show text of many lines as it is, control characters made visible, the middle of very long ones left out."""
    if text is None:
        return NOTHING
    lines = (escape(line) for line in clip(text, _SHOWN).split("\n"))
    return format_html('<pre class="meanwhile-block">{}</pre>', "\n".join(lines))


def stored_json(text: str | None) -> SafeString | str:
    """Show stored JSON, indented."""
    return NOTHING if text is None else block(pretty_json(text))


def moment(value: dt.datetime | None) -> SafeString | str:
    """Show a time to the second in the current time zone, and how long ago that is."""
    if value is None:
        return NOTHING
    ago = seconds_since(value)
    relative = _("%s ago") % duration(ago) if ago >= 0 else _("in %s") % duration(-ago)
    local = timezone.localtime(value) if timezone.is_aware(value) else value
    return format_html(
        '<time datetime="{}Z">{}</time> <span class="meanwhile-aside">({})</span>',
        naive_utc(value).isoformat(),
        f"{local:%Y-%m-%d %H:%M:%S}",
        relative,
    )


def seconds_since(value: dt.datetime, until: dt.datetime | None = None) -> float:
    """Return the seconds from a row's time to another, or to now by this host's clock: for people to read."""
    end = naive_utc(timezone.now() if until is None else until)
    return (end - naive_utc(value)).total_seconds()


def phase(job: Job) -> str:
    """Say how long a job has waited, run or taken."""
    state = JobState(job.state)
    if state is JobState.SCHEDULED:
        left = -seconds_since(job.due_at)
        return _("due in %s") % duration(left) if left > 0 else _("overdue by %s") % duration(-left)
    if state is JobState.READY:
        return _("waits %s") % duration(max(0.0, seconds_since(job.due_at or job.enqueued_at)))
    if state is JobState.RUNNING:
        return _("runs %s") % duration(max(0.0, seconds_since(job.attempted_at or job.enqueued_at)))
    ended = duration(max(0.0, seconds_since(job.finished_at)))
    if job.attempted_at is None or state is JobState.CANCELLED:
        return _("ended %s ago") % ended
    took = duration(max(0.0, seconds_since(job.attempted_at, job.finished_at)))
    return _("took %(took)s, %(ended)s ago") % {"took": took, "ended": ended}


def progress(text: str | None, *, whole: bool = False) -> SafeString | str:
    """Show ``{"n": …, "total": …, "message": …}`` as a bar and words; a long message is cut unless ``whole``."""
    if not text:
        return NOTHING
    try:
        stored = json.loads(text)
        number, total, message = stored["n"], stored.get("total"), escape(str(stored.get("message") or ""))
        words = f"{number:g}" if total is None else f"{number:g} / {total:g}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return block(text)
    if not whole and len(message) > _MESSAGE_IN_LIST:
        message = f"{message[:_MESSAGE_IN_LIST]}…"
    bar = (
        format_html('<progress value="{}" max="{}"></progress> ', max(0.0, float(number)), float(total))
        if total and total > 0
        else ""
    )
    return format_html("{}{} {}", bar, words, message)


def whole_progress(text: str | None) -> SafeString | str:
    """Show the progress with the whole of its message."""
    return progress(text, whole=True)


def attempts(rows: Iterable[Attempt]) -> SafeString | str:
    """Show runs that did not succeed, each with its traceback."""
    parts = [
        (
            row.epoch,
            escape(row.kind),
            escape(row.exception),
            moment(row.started_at),
            duration(max(0.0, seconds_since(row.started_at, row.ended_at))),
            link_to_worker(row.worker_id, str(row.worker_id)),
            block(row.detail),
        )
        for row in rows
    ]
    text = (
        '<details class="meanwhile-attempt" open><summary>Run {} · {} · <b>{}</b></summary>'
        "<p>{} · lasted {} · worker {}</p>{}</details>"
    )
    return format_html_join("", text, parts) or NOTHING


def link_to_worker(worker_id: UUID, label: str) -> SafeString:
    """Link to a worker's page; ``label`` is escaped."""
    return format_html('<a href="{}">{}</a>', reverse("admin:meanwhile_worker_change", args=[worker_id]), label)


def link_to_job(job: Job) -> SafeString:
    """Link to a job's page by its id."""
    return format_html('<a href="{}">{}</a>', reverse("admin:meanwhile_job_change", args=[job.pk]), job.pk)
