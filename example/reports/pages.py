"""The pages to read: the first one, and one for each group of exhibits, with the code that its buttons run."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from . import jobs, source
from .exhibits import EXHIBITS

PAGES = (
    ("home", "Start"),
    ("report", "Report"),
    ("query", "Query"),
    ("endings", "Endings"),
    ("naive", "Naive way"),
    ("inside", "Inside a request"),
)


def navigation(request: HttpRequest) -> dict[str, Any]:
    """Give every template the pages (a context processor)."""
    here = request.resolver_match.url_name if request.resolver_match else ""
    return {"pages": [{"name": name, "title": title, "here": name == here} for name, title in PAGES]}


def home(request: HttpRequest) -> HttpResponse:
    """Say what there is, and how the visitor's jobs are."""
    return render(request, "home.html", {"jobs": jobs.newest_of(request, 8)})


def show(request: HttpRequest, page: str) -> HttpResponse:
    """Show a page of exhibits."""
    return _render(request, page, {})


def show_again(request: HttpRequest, exhibit: str, form: forms.Form) -> HttpResponse:
    """Show the page of an exhibit whose form was filled in wrongly."""
    return _render(request, EXHIBITS[exhibit].page, {exhibit: form}, status=422)


def _render(request: HttpRequest, page: str, filled: dict[str, forms.Form], status: int = 200) -> HttpResponse:
    from . import views  # they lead back here

    exhibits = [
        {
            "exhibit": exhibit,
            "form": filled.get(exhibit.slug) or (exhibit.form and exhibit.form()),
            "view": source.of(getattr(views, exhibit.view)),
            "task": source.of_task(exhibit),
        }
        for exhibit in EXHIBITS.values()
        if exhibit.page == page
    ]
    return render(request, "exhibits.html", {"exhibits": exhibits, "alone": len(exhibits) == 1}, status=status)


def ping(request: HttpRequest) -> JsonResponse:
    """Do nothing: what takes long here is waiting for others."""
    return JsonResponse({"pong": True})
