"""Lists that stay fast with ten million rows, and never a form that saves. The base of both admins.

A list reads one page by an index and counts to ``COUNTED`` at most. What has no index (a queue's or a task's jobs
of all states) is looked for among the newest ``WINDOW`` jobs only: ids are time-ordered, so those are a range of
the primary key.
"""

# ruff: noqa: ARG002 - the signatures are Django's

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar
from uuid import UUID

from django.contrib import admin
from django.core.paginator import Paginator
from django.db import models, router
from django.db.models import QuerySet
from django.http import HttpRequest

from ..management.backends import our_backends

COUNTED = 10_000
WINDOW = 100_000

M = TypeVar("M", bound=models.Model)


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # not generic at run time
    """Counts no further than ``COUNTED`` rows; filters reach what lies behind the last page."""

    @cached_property
    def count(self) -> int:
        """Return the number of rows, or ``COUNTED`` if there are more."""
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows.order_by().values("pk")[:COUNTED].count()


def newest(rows: QuerySet[M], window: int = WINDOW) -> QuerySet[M]:
    """Keep the newest rows by id. One query, along the primary key."""
    last = rows.model._default_manager.using(rows.db).order_by("-pk").values_list("pk", flat=True)[window : window + 1]  # noqa: SLF001
    floor = next(iter(last), None)
    return rows if floor is None else rows.filter(pk__gt=floor)


def databases() -> dict[str, str]:
    """Return database alias → a backend on it, for the databases that hold our tables."""
    found: dict[str, str] = {}
    for served in our_backends():
        found.setdefault(served.database, served.backend)
    return found


def database_of(row: models.Model) -> str | None:
    """Return the alias of the database that a row was read from."""
    return row._state.db  # noqa: SLF001 - documented


def fields_of(fieldsets: Any) -> tuple[str, ...]:
    """Return the names of all fields of a page."""
    return tuple(name for _, options in fieldsets for name in options["fields"])


def column(name: str, label: Any, show: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """Make the display of one column of a row, in a list or on a page: ``show`` turns the value into safe text or
    HTML.
    """

    @admin.display(description=label)
    def display(_admin: Any, row: Any) -> Any:
        return show(getattr(row, name))

    return display


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # likewise
    """Nothing can be added, changed or deleted by hand: a row written around the store would break its fence.

    The permission "change" allows the actions, "view" to look.
    """

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    list_max_show_all = 0
    list_per_page = 50

    class Media:
        """The colours of states."""

        css = {"all": ("meanwhile/admin.css",)}  # noqa: RUF012

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Jobs are enqueued, workers started."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Retention deletes, and ``manage.py meanwhile prune``."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allow actions, no form."""
        return obj is None and super().has_change_permission(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Read from the database that the filter of that name chose."""
        chosen = request.GET.get("database")
        known = databases()
        alias = chosen if chosen in known else next(iter(known), router.db_for_read(self.model))
        rows: QuerySet[Any] = self.model._default_manager.using(alias)  # noqa: SLF001 - documented
        return rows

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Find the row in whichever of our databases has it."""
        try:
            key = UUID(object_id)
        except ValueError:
            return None
        for alias in databases() or [router.db_for_read(self.model)]:
            found = self.model._default_manager.using(alias).filter(pk=key).first()  # noqa: SLF001
            if found is not None:
                return found
        return None

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        """Never write a row: only the store may."""
        raise NotImplementedError("Rows of django_meanwhile are written by its store alone.")
