"""How many connections, and who keeps them: the settings, and with ``--database`` the server. Called by ``checks``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections

from ..conf import read_settings
from ..management.backends import our_backends
from ..management.budget import is_counted, kept_under_asgi, make_budget, pool_too_small, too_many
from ..management.capacity import capacity_of


def check() -> Iterator[CheckMessage]:
    """Yield W013, W014."""
    settings, _ = read_settings()
    for alias in connections:
        try:
            yield from [*pool_too_small(alias, settings), *kept_under_asgi(alias, settings)]
        except ImproperlyConfigured:  # no such backend of Django: its own checks say so
            continue


def check_budget(aliases: Iterable[str]) -> Iterator[CheckMessage]:
    """Yield W012."""
    settings, _ = read_settings()
    for alias in aliases:
        try:
            if is_counted(alias):
                yield from too_many(make_budget(alias, settings, our_backends()), capacity_of(alias))
        except DatabaseError:
            continue  # it does not answer: Django says so
