"""The admin's pages of workers: who lives, what each runs. Read-only altogether: a worker is stopped where it was
started.
"""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..core.states import JobState
from ..logs import escape
from ..management.narrowing import in_states
from ..management.wording import duration
from ..models import Job, Worker
from . import pages
from .filters import DatabaseFilter, LivingFilter
from .listing import ReadOnlyAdmin, column, database_of, fields_of

_RUNNING_SHOWN = 200


def _running() -> QuerySet[Job]:
    return in_states(Job.objects.all(), [JobState.RUNNING])


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """See the module."""

    list_display = ("name", "of_kind", "life", "served_queues", "served_executors", "slots", "busy", "when_started")
    list_filter = (DatabaseFilter, LivingFilter)
    search_fields = ("host",)
    ordering = ("-started_at",)
    fieldsets = (
        (
            None,
            {"fields": ("id", "of_kind", "on_host", "pid", "parent_id", "served_queues", "served_executors", "slots")},
        ),
        (gettext_lazy("Lease"), {"fields": ("life", "when_started", "when_lease_ends", "when_dead")}),
        (gettext_lazy("What it runs now"), {"fields": ("running_jobs",)}),
    )
    readonly_fields = fields_of(fieldsets)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Worker]:
        """Count what each runs, by the index of running jobs."""
        running = _running().filter(worker_id=OuterRef("pk")).order_by().values("worker_id")
        number = Subquery(running.annotate(number=Count("pk")).values("number"), output_field=IntegerField())
        workers: QuerySet[Worker] = super().get_queryset(request)
        return workers.annotate(running_now=Coalesce(number, 0))

    @admin.display(description=gettext_lazy("worker"))
    def name(self, worker: Worker) -> str:
        """Return host and process."""
        return escape(f"{worker.host}:{worker.pid}")

    @admin.display(description=gettext_lazy("life"))
    def life(self, worker: Worker) -> str:
        """Say whether it lives; by this host's clock, so a second off at times."""
        if worker.dead_at is not None:
            return _("dead for %s") % duration(max(0.0, pages.seconds_since(worker.dead_at)))
        left = -pages.seconds_since(worker.lease_until)
        if left > 0:
            return _("lives, lease for another %s") % duration(round(left))
        return _("silent: its lease ran out %s ago") % duration(round(-left))

    of_kind = column("kind", gettext_lazy("kind"), escape)
    on_host = column("host", gettext_lazy("host"), escape)
    served_executors = column("executors", gettext_lazy("executors"), escape)
    served_queues = column("queues", gettext_lazy("queues"), lambda queues: escape(queues) or _("all"))
    when_started = column("started_at", gettext_lazy("started"), pages.moment)
    when_lease_ends = column("lease_until", gettext_lazy("lease until"), pages.moment)
    when_dead = column("dead_at", gettext_lazy("dead since"), pages.moment)

    @admin.display(description=gettext_lazy("busy"))
    def busy(self, worker: Worker) -> int:
        """Return how many jobs it runs."""
        return int(worker.running_now)  # type: ignore[attr-defined]

    @admin.display(description=gettext_lazy("jobs"))
    def running_jobs(self, worker: Worker) -> SafeString | str:
        """List the jobs that it runs, the longest first."""
        jobs = _running().using(database_of(worker)).filter(worker_id=worker.pk).order_by("attempted_at")
        shown = jobs.only("pk", "task", "state", "attempted_at", "enqueued_at", "progress")[:_RUNNING_SHOWN]
        parts = [
            (pages.link_to_job(job), escape(job.task), pages.phase(job), pages.progress(job.progress)) for job in shown
        ]
        return format_html_join("", "<div>{} {} ({}) {}</div>", parts) or pages.NOTHING
