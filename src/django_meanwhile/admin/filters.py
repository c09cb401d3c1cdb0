"""Filters whose choices cost no query over jobs: states are known, queues and tasks come from the code.

A queue or a task that no code mentions any more is found by the search.
"""

# ruff: noqa: ARG002 - the signatures are Django's

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..core.states import JobState
from ..logs import get_logger
from ..management.backends import our_backends
from ..management.narrowing import in_states
from ..tasks.registry import autodiscover, known_names
from .listing import databases, newest

logger = get_logger("admin")

MOST_TASKS = 50

NARROW = {state.name.lower() for state in JobState if state is not JobState.SUCCESSFUL}
"""States whose jobs are few enough to be read through."""


def bounded(request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
    """Keep the newest jobs only, unless the chosen state narrows them down along its own index."""
    return queryset if request.GET.get("state") in NARROW else newest(queryset)


class DatabaseFilter(admin.SimpleListFilter):
    """Shown if backends have several databases. ``ReadOnlyAdmin.get_queryset`` does the choosing."""

    title = _("database")
    parameter_name = "database"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """Name the databases by their aliases."""
        found = list(databases())
        return [(alias, alias) for alias in found] if len(found) > 1 else []

    def choices(self, changelist: Any) -> Any:
        """Leave out "all": a list is about one database, the first by default."""
        for choice, (alias, _label) in zip(list(super().choices(changelist))[1:], self.lookup_choices, strict=True):
            yield {**choice, "selected": alias == (self.value() or self.lookup_choices[0][0])}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Change nothing."""
        return queryset


class StateFilter(admin.SimpleListFilter):
    """By state, along the partial indexes."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """Return all states."""
        return [(state.name.lower(), state.name) for state in JobState]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filter."""
        value = (self.value() or "").upper()
        if value not in JobState.__members__:
            return queryset
        return in_states(queryset, [JobState[value]])


class _NameFilter(admin.SimpleListFilter):
    """By a column without an index: among the newest jobs, unless the state narrows it down."""

    column: str

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filter."""
        if self.value() is None:
            return queryset
        return bounded(request, queryset.filter(Q(**{self.column: self.value()})))


class QueueFilter(_NameFilter):
    """By queue: those of the settings, and those of the registered tasks."""

    title = _("queue")
    parameter_name = column = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """Return the queues that the settings declare."""
        names = {queue for served in our_backends() for queue in served.queues}
        if chosen := request.GET.get(self.parameter_name):
            names.add(chosen)
        return [(name, name) for name in sorted(names)]


class TaskFilter(_NameFilter):
    """By task; not offered where there are more tasks than one wants to see in a column."""

    title = _("task")
    parameter_name = column = "task"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        """Return the registered tasks."""
        names = set(_task_names())
        chosen = request.GET.get(self.parameter_name)
        if len(names) > MOST_TASKS:
            names = set()
        if chosen:
            names.add(chosen)
        return [(name, name) for name in sorted(names)]


def _task_names() -> frozenset[str]:
    """Return the names of all tasks; of those found so far where a module does not import."""
    try:
        autodiscover()
    except Exception as error:  # noqa: BLE001 - the project's code, and a filter is not worth a broken page
        logger.warning("not all tasks are offered in the filter: %s: %s", type(error).__name__, error)
    return known_names()


class LivingFilter(admin.SimpleListFilter):
    """Workers: living or not, by the local clock."""

    title = _("life")
    parameter_name = "life"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Any]]:
        """Return both."""
        return [("living", _("not dead")), ("dead", _("dead"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filter."""
        if self.value() not in {"living", "dead"}:
            return queryset
        return queryset.filter(dead_at__isnull=self.value() == "living")
