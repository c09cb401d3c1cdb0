"""The admin's pages of jobs: a list to search and filter, a page with everything, the actions retry and cancel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..core.states import LIVE, TERMINAL, JobState
from ..fields import naive_utc
from ..logs import escape
from ..management import verbs
from ..management.selection import id_range
from ..models import Attempt, Job, Worker
from ..store import Store, get_store
from . import pages
from .filters import DatabaseFilter, QueueFilter, StateFilter, TaskFilter
from .listing import COUNTED, WINDOW, ReadOnlyAdmin, newest

_HEAVY = ("arguments", "result", "context", "overrides")
_BATCH = 500
_ATTEMPTS_SHOWN = 50

Change = Callable[[Store, Collection[UUID]], Counter[str]]


def _retry(store: Store, ids: Collection[UUID]) -> Counter[str]:
    number = len(verbs.retry(store, ids))
    return Counter({_("ready to run again"): number} if number else {})


def _cancel(store: Store, ids: Collection[UUID]) -> Counter[str]:
    states = verbs.cancel(store, ids).values()
    return Counter(_("cancelled") if state.is_terminal else _("asked to stop") for state in states)


def _time(name: str, label: Any) -> Callable[[Any, Job], SafeString | str]:
    """Make the display of one time."""

    @admin.display(description=label)
    def show(_admin: Any, job: Job) -> SafeString | str:
        return pages.moment(getattr(job, name))

    return show


def _stored(name: str, label: Any) -> Callable[[Any, Job], SafeString | str]:
    """Make the display of one stored text."""

    @admin.display(description=label)
    def show(_admin: Any, job: Job) -> SafeString | str:
        return pages.stored_json(getattr(job, name))

    return show


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """See the module."""

    list_display = ("task_name", "state_badge", "queue", "executor", "priority", "attempts", "phase", "how_far")
    list_filter = (DatabaseFilter, StateFilter, QueueFilter, TaskFilter)
    search_fields = ("id", "task", "queue")
    search_help_text = gettext_lazy(
        "An id, or its first 8 digits or more, is found at once. A part of a task's name, or a queue's name, is looked for among the "
        "newest %(window)d jobs; so are the filters by queue and task, unless a state other than SUCCESSFUL is chosen. The list "
        "ends after %(counted)d jobs."
    ) % {"window": WINDOW, "counted": COUNTED}  # fmt: skip
    actions = ("retry_jobs", "cancel_jobs")
    fieldsets = (
        (None, {"fields": ("id", "task", "state_badge", "queue", "executor", "priority", "backend", "worker")}),
        (
            gettext_lazy("Times"),
            {"fields": ("phase", "when_enqueued", "when_due", "when_started", "when_attempted", "when_finished", "when_cancel_requested")},
        ),
        (
            gettext_lazy("Counters"),
            {
                "fields": ("attempts", "crashes", "interruptions", "deaths", "suspect", "retry_on_crash", "epoch"),
                "description": gettext_lazy(
                    "Attempts: runs begun, without crashes and interruptions. Crashes: deaths of its process while it ran alone; after "
                    "the third it is quarantined. Interruptions: runs taken away by a deploy, a lost lease or a dead host, charged "
                    "nothing. Deaths: deaths of its process in company; after the second it is a suspect, and runs alone. "
                    "Epoch: claims so far; only the newest may write."
                ),
            },
        ),
        (gettext_lazy("Data"), {"fields": ("shown_arguments", "shown_overrides", "shown_context", "shown_progress", "shown_result")}),
        (gettext_lazy("Runs that did not succeed"), {"fields": ("shown_attempts",)}),
    )
    readonly_fields = tuple(name for _, options in fieldsets for name in options["fields"])

    # --- the list -----------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        """Leave out what may be long: the arguments of fifty jobs could be megabytes."""
        return super().get_queryset(request).defer(*_HEAVY)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """By an index: jobs that have ended by their end if that is all one asks for, others by their id, the newest first."""
        name = (request.GET.get("state") or "").upper()
        state = JobState.__members__.get(name)
        if state is None:
            return ("-id",)
        if state is JobState.SUCCESSFUL:
            named = any(request.GET.get(key) for key in ("queue", "task", "q"))
            return ("-id",) if named else ("-finished_at",)
        return ("-finished_at",) if state.is_terminal else ("-enqueued_at",)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Job], search_term: str) -> tuple[QuerySet[Job], bool]:
        """Find by id along the primary key, by words among the newest jobs."""
        term = search_term.strip()
        if not term:
            return queryset, False
        ids = id_range(term)
        if ids is not None:
            return queryset.filter(pk__gte=ids[0], pk__lte=ids[1]), False
        for word in term.split():
            queryset = queryset.filter(Q(task__icontains=word) | Q(queue=word))
        return newest(queryset), False

    @admin.display(description=gettext_lazy("task"))
    def task_name(self, job: Job) -> str:
        """Return the task's name."""
        return escape(job.task)

    @admin.display(description=gettext_lazy("state"))
    def state_badge(self, job: Job) -> SafeString:
        """Return the state, coloured."""
        return pages.badge(job.state)

    @admin.display(description=gettext_lazy("since"))
    def phase(self, job: Job) -> str:
        """Return how long it has waited, run or taken."""
        return pages.phase(job)

    @admin.display(description=gettext_lazy("progress"))
    def how_far(self, job: Job) -> SafeString | str:
        """Return the progress, short."""
        return pages.progress(job.progress)

    # --- the page -----------------------------------------------------------------------

    when_enqueued = _time("enqueued_at", gettext_lazy("enqueued"))
    when_due = _time("due_at", gettext_lazy("due"))
    when_started = _time("started_at", gettext_lazy("first started"))
    when_attempted = _time("attempted_at", gettext_lazy("last started"))
    when_finished = _time("finished_at", gettext_lazy("ended"))
    when_cancel_requested = _time("cancel_requested_at", gettext_lazy("cancel requested"))
    shown_arguments = _stored("arguments", gettext_lazy("arguments"))
    shown_overrides = _stored("overrides", gettext_lazy("options given by using()"))
    shown_context = _stored("context", gettext_lazy("language and time zone"))
    shown_result = _stored("result", gettext_lazy("result"))

    @admin.display(description=gettext_lazy("worker"))
    def worker(self, job: Job) -> SafeString | str:
        """Link to the worker that runs it, or ran it last, if its row is still there."""
        worker_id = job.worker_id or job.last_worker_id
        if worker_id is None:
            return pages.NOTHING
        row = Worker.objects.using(job._state.db).filter(pk=worker_id).first()
        return str(worker_id) if row is None else pages.link_to_worker(worker_id, str(row))

    @admin.display(description=gettext_lazy("attempts"))
    def shown_attempts(self, job: Job) -> SafeString | str:
        """Show the newest runs that did not succeed, the last one first."""
        return pages.attempts(Attempt.objects.using(job._state.db).filter(job_id=job.pk).order_by("-epoch")[:_ATTEMPTS_SHOWN])

    @admin.display(description=gettext_lazy("progress"))
    def shown_progress(self, job: Job) -> SafeString | str:
        """Return the progress with the whole message."""
        return pages.progress(job.progress, whole=True)

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Offer the actions that the job's state allows."""
        job = self.get_object(request, unquote(object_id))
        buttons = []
        if job is not None and self.has_change_permission(request):
            verb, label = ("retry", _("Retry")) if JobState(job.state) in TERMINAL else ("cancel", _("Cancel"))
            buttons.append((reverse(f"admin:meanwhile_job_{verb}", args=[quote(job.pk)]), label))
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "meanwhile_buttons": buttons})

    # --- the actions --------------------------------------------------------------------

    @admin.action(permissions=["change"], description=gettext_lazy("Retry: run again (jobs that have ended)"))
    def retry_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Bring those of the chosen jobs that have ended back to READY."""
        self._act(request, queryset, _retry, _("Retried."), _("only a job that has ended can be retried"))

    @admin.action(permissions=["change"], description=gettext_lazy("Cancel (jobs that wait or run)"))
    def cancel_jobs(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Cancel those of the chosen jobs that have not ended."""
        self._act(request, queryset, _cancel, _("Cancelled."), _("only a job that has not ended can be cancelled"))

    def _act(self, request: HttpRequest, queryset: QuerySet[Job], change: Change, note: str, rule: str) -> None:
        """Change the chosen jobs in batches; say how many, and why not the others."""
        store = get_store(queryset.db)
        chosen = list(queryset.order_by("-pk").only("pk", "task", "state")[: COUNTED + 1])
        became: Counter[str] = Counter()
        for start in range(0, min(len(chosen), COUNTED), _BATCH):
            batch = chosen[start : start + _BATCH]
            became += change(store, [job.pk for job in batch])
        LogEntry.objects.log_actions(request.user.pk, chosen[:COUNTED], CHANGE, note)
        for words, number in sorted(became.items()):
            self.message_user(request, _("%(number)d jobs: %(words)s.") % {"number": number, "words": words}, messages.SUCCESS)
        if missed := min(len(chosen), COUNTED) - became.total():
            states = Counter(JobState(job.state).name for job in chosen)
            listed = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
            text = _("%(number)d jobs were left alone: %(rule)s. Chosen were: %(listed)s.")
            self.message_user(request, text % {"number": missed, "rule": rule, "listed": listed}, messages.WARNING)
        if len(chosen) > COUNTED:
            text = _("Only the newest %d of them were looked at. For more: manage.py meanwhile retry, or cancel.")
            self.message_user(request, text % COUNTED, messages.WARNING)

    def get_urls(self) -> list[URLPattern]:
        """Add the two buttons of a job's page."""
        view = self.admin_site.admin_view
        return [
            path("<path:object_id>/retry/", view(self._button(self.retry_jobs)), name="meanwhile_job_retry"),
            path("<path:object_id>/cancel/", view(self._button(self.cancel_jobs)), name="meanwhile_job_cancel"),
            *super().get_urls(),
        ]

    def _button(self, action: Callable[[HttpRequest, QuerySet[Job]], None]) -> Callable[..., HttpResponse]:
        """Make the view behind a button: the action, for one job, by POST."""

        def press(request: HttpRequest, object_id: str) -> HttpResponse:
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            if not self.has_change_permission(request):
                raise PermissionDenied
            job = self.get_object(request, unquote(object_id))
            if job is None:
                raise Http404
            action(request, Job.objects.using(job._state.db).filter(pk=job.pk))
            return HttpResponseRedirect(reverse("admin:meanwhile_job_change", args=[quote(job.pk)]))

        return press
