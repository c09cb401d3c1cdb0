"""Four tables: jobs, the workers that run them, the runs that did not succeed, and named locks.

Per-state row shapes are check constraints; every other rule lives in the guards
of the statements in ``store``, so that old and new workers can run side by side
during a deploy. Rows are written by ``store`` alone: the models exist for
migrations, the admin and reading.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from .core.states import TERMINAL, AttemptKind, JobState
from .fields import UTCDateTimeField
from .logs import escape

_TERMINAL = sorted(int(state) for state in TERMINAL)
_FIRST, _LAST, _FIRST_TERMINAL = min(JobState).value, max(JobState).value, _TERMINAL[0]
_RUNNING, _READY, _SCHEDULED = JobState.RUNNING.value, JobState.READY.value, JobState.SCHEDULED.value


class Job(models.Model):
    """One enqueued call."""

    id = models.UUIDField(primary_key=True, editable=False)
    task = models.CharField(max_length=255)
    backend = models.CharField(max_length=64)
    queue = models.CharField(max_length=64)
    executor = models.CharField(max_length=16)
    rank = models.SmallIntegerField(default=0, help_text=_("Minus the priority."))

    state = models.SmallIntegerField(choices=[(state.value, state.name.lower()) for state in JobState])
    suspect = models.BooleanField(default=False, help_text=_("Was in company when workers died: runs alone now."))
    epoch = models.BigIntegerField(default=0, help_text=_("Raised by each claim, by nothing else."))
    worker_id = models.UUIDField(null=True, blank=True)
    last_worker_id = models.UUIDField(null=True, blank=True)
    due_at = UTCDateTimeField(null=True, blank=True)
    enqueued_at = UTCDateTimeField()
    started_at = UTCDateTimeField(null=True, blank=True)
    attempted_at = UTCDateTimeField(null=True, blank=True)
    finished_at = UTCDateTimeField(null=True, blank=True)
    cancel_requested_at = UTCDateTimeField(null=True, blank=True)

    attempts = models.IntegerField(default=0)
    crashes = models.IntegerField(default=0)
    interruptions = models.IntegerField(default=0)
    deaths = models.IntegerField(default=0)

    retry_on_crash = models.BooleanField(default=True)
    overrides = models.TextField(default="{}")
    arguments = models.TextField()
    result = models.TextField(null=True, blank=True)  # noqa: DJ001 - NULL: no result, "null": None
    progress = models.TextField(null=True, blank=True)  # noqa: DJ001
    context = models.TextField(default="{}")

    class Meta:
        app_label = "meanwhile"
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        indexes: ClassVar = [
            models.Index(
                fields=["queue", "executor", "rank", "id"],
                name="meanwhile_claim",
                condition=Q(state=_READY, suspect=False),
            ),
            models.Index(
                fields=["queue", "rank", "id"],
                name="meanwhile_suspect",
                condition=Q(state=_READY, suspect=True),
            ),
            models.Index(fields=["due_at"], name="meanwhile_due", condition=Q(state=_SCHEDULED)),
            models.Index(fields=["worker_id"], name="meanwhile_running", condition=Q(state=_RUNNING)),
            models.Index(
                fields=["state", "finished_at"],
                name="meanwhile_prune",
                condition=Q(state__in=_TERMINAL),
            ),
        ]
        constraints: ClassVar = [
            # Ranges, not lists: Django's introspection of SQLite tables fails on "IN (1, 2, 3)" in a CHECK.
            models.CheckConstraint(
                name="meanwhile_job_state",
                condition=Q(state__gte=_FIRST, state__lte=_LAST),
            ),
            models.CheckConstraint(
                name="meanwhile_running_has_worker",
                condition=Q(state=_RUNNING, worker_id__isnull=False) | (~Q(state=_RUNNING) & Q(worker_id__isnull=True)),
            ),
            models.CheckConstraint(
                name="meanwhile_ended_has_time",
                condition=Q(state__gte=_FIRST_TERMINAL, finished_at__isnull=False)
                | Q(state__lt=_FIRST_TERMINAL, finished_at__isnull=True),
            ),
            models.CheckConstraint(
                name="meanwhile_scheduled_is_due",
                condition=~Q(state=_SCHEDULED) | Q(due_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return escape(f"{self.task} {self.id}")

    @property
    def priority(self) -> int:
        """Django's priority, -100 to 100; higher runs first."""
        return -self.rank


class Worker(models.Model):
    """A child process that runs jobs. Its row carries the lease of all its jobs."""

    id = models.UUIDField(primary_key=True, editable=False)
    parent_id = models.UUIDField(help_text=_("The supervisor that beats for it."))
    kind = models.CharField(max_length=16)
    host = models.CharField(max_length=255)
    pid = models.IntegerField()
    queues = models.TextField(help_text=_("Comma-separated."))
    executors = models.CharField(max_length=64, help_text=_("Comma-separated."))
    slots = models.IntegerField()
    started_at = UTCDateTimeField()
    lease_until = UTCDateTimeField()
    dead_at = UTCDateTimeField(null=True, blank=True)

    class Meta:
        app_label = "meanwhile"
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        indexes: ClassVar = [
            models.Index(fields=["lease_until"], name="meanwhile_lease", condition=Q(dead_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return escape(f"{self.kind} {self.host}:{self.pid}")


class Attempt(models.Model):
    """A begun run that did not succeed. Successes write no row."""

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(Job, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="attempt_set")
    epoch = models.BigIntegerField()
    worker_id = models.UUIDField()
    kind = models.CharField(max_length=16, choices=[(kind.value, kind.value) for kind in AttemptKind])
    started_at = UTCDateTimeField()
    ended_at = UTCDateTimeField()
    exception = models.CharField(max_length=255, help_text=_("Dotted path of the class."))
    detail = models.TextField(help_text=_("Traceback without locals, or what was seen of a death."))

    class Meta:
        app_label = "meanwhile"
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = (F("epoch").asc(),)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "epoch"], name="meanwhile_attempt_once"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} run {self.epoch} of {self.job_id}"


class Lock(models.Model):
    """A named lock: who holds it, or held it last. Empty on PostgreSQL, whose locks are in the server's memory."""

    name = models.CharField(max_length=200, primary_key=True)
    fence = models.BigIntegerField(help_text=_("Raised by each holder, by nothing else."))
    host = models.CharField(max_length=255)
    pid = models.IntegerField()
    thread = models.CharField(max_length=255)
    since = UTCDateTimeField()
    until = UTCDateTimeField(null=True, blank=True, help_text=_("Null: nobody holds it."))
    doubted_at = UTCDateTimeField(null=True, blank=True, help_text=_("Since then somebody waits for a renewal."))

    class Meta:
        app_label = "meanwhile"
        verbose_name = _("lock")
        verbose_name_plural = _("locks")

    def __str__(self) -> str:
        return escape(self.name)
