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
from django.utils.translation import gettext_lazy, ngettext

from ..core.states import TERMINAL, JobState
from ..logs import escape
from ..management import verbs
from ..management.selection import id_range
from ..models import Attempt, Job, Worker
from ..store import Store, get_store
from . import pages
from .filters import DatabaseFilter, QueueFilter, StateFilter, TaskFilter, bounded
from .listing import COUNTED, WINDOW, ReadOnlyAdmin, column, database_of, fields_of

_HEAVY = ("arguments", "result", "context", "overrides")
_BATCH = 500
_ATTEMPTS_SHOWN = 50

_SEARCH_HELP = gettext_lazy(
    "An id, or its first 8 digits or more, is found at once. A part of a task's name, or the name of a queue, is "
    "looked for among the newest %(window)d jobs, unless a state other than SUCCESSFUL is chosen; so it is with the "
    "filters by queue and by task. The list ends after %(counted)d jobs."
)
_COUNTERS_HELP = gettext_lazy(
    "Attempts: runs begun, without crashes and interruptions. Crashes: deaths of its process while it ran alone; "
    "after the third it is quarantined. Interruptions: runs taken away by a deploy, a lost lease or a dead host, "
    "charged nothing. Deaths: deaths of its process in company; after the second it is a suspect, and runs alone. "
    "Epoch: claims so far; only the newest may write."
)

Change = Callable[[Store, Collection[UUID]], Counter[str]]


def _retry(store: Store, ids: Collection[UUID]) -> Counter[str]:
    number = len(verbs.retry(store, ids))
    return Counter({_("ready to run again"): number} if number else {})


def _cancel(store: Store, ids: Collection[UUID]) -> Counter[str]:
    states = verbs.cancel(store, ids).values()
    return Counter(_("cancelled") if state.is_terminal else _("asked to stop") for state in states)


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """See the module."""

    list_display = ("task_name", "state_badge", "in_queue", "in_executor", "priority", "attempts", "phase", "how_far")
    list_filter = (DatabaseFilter, StateFilter, QueueFilter, TaskFilter)
    search_fields = ("id", "task", "queue")
    search_help_text = _SEARCH_HELP % {"window": WINDOW, "counted": COUNTED}
    actions = ("retry_jobs", "cancel_jobs")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "id",
                    "task_name",
                    "state_badge",
                    "in_queue",
                    "in_executor",
                    "priority",
                    "of_backend",
                    "worker",
                )
            },
        ),
        (
            gettext_lazy("Times"),
            {
                "fields": (
                    "phase",
                    "when_enqueued",
                    "when_due",
                    "when_started",
                    "when_attempted",
                    "when_finished",
                    "when_cancel_requested",
                )
            },
        ),
        (
            gettext_lazy("Counters"),
            {
                "fields": ("attempts", "crashes", "interruptions", "deaths", "suspect", "retry_on_crash", "epoch"),
                "description": _COUNTERS_HELP,
            },
        ),
        (
            gettext_lazy("Data"),
            {"fields": ("shown_arguments", "shown_overrides", "shown_context", "shown_progress", "shown_result")},
        ),
        (gettext_lazy("Runs that did not succeed"), {"fields": ("shown_attempts",)}),
    )
    readonly_fields = fields_of(fieldsets)

    # --- the list -----------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        """Leave out what may be long: the arguments of fifty jobs could be megabytes."""
        return super().get_queryset(request).defer(*_HEAVY)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Along an index, the newest first: jobs of one state by their end or their enqueue, others by their id."""
        name = (request.GET.get("state") or "").upper()
        state = JobState.__members__.get(name)
        if state is None:
            return ("-id",)
        if state is JobState.SUCCESSFUL:
            named = any(request.GET.get(key) for key in ("queue", "task", "q"))
            return ("-id",) if named else ("-finished_at",)
        return ("-finished_at",) if state.is_terminal else ("-enqueued_at",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Job], search_term: str
    ) -> tuple[QuerySet[Job], bool]:
        """Find by id along the primary key, by words among the newest jobs."""
        term = search_term.strip()
        if not term:
            return queryset, False
        ids = id_range(term)
        if ids is not None:
            return queryset.filter(pk__gte=ids[0], pk__lte=ids[1]), False
        for word in term.split():
            queryset = queryset.filter(Q(task__icontains=word) | Q(queue=word))
        return bounded(request, queryset), False

    task_name = column("task", gettext_lazy("task"), escape)
    state_badge = column("state", gettext_lazy("state"), pages.badge)
    in_queue = column("queue", gettext_lazy("queue"), escape)
    in_executor = column("executor", gettext_lazy("executor"), escape)
    of_backend = column("backend", gettext_lazy("backend"), escape)
    how_far = column("progress", gettext_lazy("progress"), pages.progress)

    @admin.display(description=gettext_lazy("since"))
    def phase(self, job: Job) -> str:
        """Return how long it has waited, run or taken."""
        return pages.phase(job)

    # --- the page -----------------------------------------------------------------------

    when_enqueued = column("enqueued_at", gettext_lazy("enqueued"), pages.moment)
    when_due = column("due_at", gettext_lazy("due"), pages.moment)
    when_started = column("started_at", gettext_lazy("first started"), pages.moment)
    when_attempted = column("attempted_at", gettext_lazy("last started"), pages.moment)
    when_finished = column("finished_at", gettext_lazy("ended"), pages.moment)
    when_cancel_requested = column("cancel_requested_at", gettext_lazy("cancel requested"), pages.moment)
    shown_arguments = column("arguments", gettext_lazy("arguments"), pages.stored_json)
    shown_overrides = column("overrides", gettext_lazy("options given by using()"), pages.stored_json)
    shown_context = column("context", gettext_lazy("language and time zone"), pages.stored_json)
    shown_progress = column("progress", gettext_lazy("progress"), pages.whole_progress)
    shown_result = column("result", gettext_lazy("result"), pages.stored_json)

    @admin.display(description=gettext_lazy("worker"))
    def worker(self, job: Job) -> SafeString | str:
        """Link to the worker that runs it, or ran it last, if its row is still there."""
        worker_id = job.worker_id or job.last_worker_id
        if worker_id is None:
            return pages.NOTHING
        row = Worker.objects.using(database_of(job)).filter(pk=worker_id).first()
        return str(worker_id) if row is None else pages.link_to_worker(worker_id, str(row))

    @admin.display(description=gettext_lazy("attempts"))
    def shown_attempts(self, job: Job) -> SafeString | str:
        """Show the newest runs that did not succeed, the last one first."""
        return pages.attempts(
            Attempt.objects.using(database_of(job)).filter(job_id=job.pk).order_by("-epoch")[:_ATTEMPTS_SHOWN]
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Offer the actions that the job's state allows."""
        job = self.get_object(request, unquote(object_id))
        buttons = []
        if job is not None and self.has_change_permission(request):
            verb, label = ("retry", _("Retry")) if JobState(job.state) in TERMINAL else ("cancel", _("Cancel"))
            buttons.append((reverse(f"admin:meanwhile_job_{verb}", args=[quote(job.pk)]), label))
        return super().change_view(
            request, object_id, form_url, {**(extra_context or {}), "meanwhile_buttons": buttons}
        )

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
        found = list(queryset.order_by("-pk").only("pk", "task", "state")[: COUNTED + 1])
        chosen = found[:COUNTED]
        became: Counter[str] = Counter()
        for start in range(0, len(chosen), _BATCH):
            became += change(store, [job.pk for job in chosen[start : start + _BATCH]])
        LogEntry.objects.log_actions(request.user.pk or 0, chosen, CHANGE, note)
        for words, number in sorted(became.items()):
            text = ngettext("%(number)d job: %(words)s.", "%(number)d jobs: %(words)s.", number)
            self.message_user(request, text % {"number": number, "words": words}, messages.SUCCESS)
        if missed := len(chosen) - became.total():
            states = Counter(JobState(job.state).name for job in chosen)
            listed = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
            text = ngettext(
                "%(number)d job was left alone: %(rule)s. Chosen: %(listed)s.",
                "%(number)d jobs were left alone: %(rule)s. Chosen: %(listed)s.",
                missed,
            )
            self.message_user(request, text % {"number": missed, "rule": rule, "listed": listed}, messages.WARNING)
        if len(found) > len(chosen):
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
            action(request, Job.objects.using(database_of(job)).filter(pk=job.pk))
            return HttpResponseRedirect(reverse("admin:meanwhile_job_change", args=[quote(job.pk)]))

        return press
