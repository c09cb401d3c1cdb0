"""How many connections, and who keeps them: the settings, and with ``--database`` the server. Called by ``checks``
and by the command ``check``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django.core import checks
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections

from ..conf import Settings, read_settings
from ..management.backends import our_backends
from ..management.budget import Budget, is_asgi, is_counted, is_set, make_budget, pool_of, web_server
from ..management.capacity import Capacity, capacity_of


def check() -> Iterator[CheckMessage]:
    """Yield W013, W014."""
    settings, _ = read_settings()
    for alias in connections:
        try:
            yield from [*_pool_too_small(alias, settings), *_kept_under_asgi(alias, settings)]
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


def too_many(budget: Budget, capacity: Capacity) -> Iterator[CheckMessage]:
    """Yield W012 if the sum is more than the server allows."""
    usable = capacity.usable
    if usable is None or budget.total <= usable:
        return
    most = max(budget.rows, key=lambda row: row.connections)
    yield checks.Warning(
        f"This project may open {budget.total} connections to database {budget.database!r} on one host, and the server "
        f"allows {usable} ({capacity.arithmetic}). The largest part: {most.what}, {most.arithmetic}, "
        f"{most.connections} ({most.source}).",
        hint='"manage.py meanwhile check" shows the sum. Write smaller numbers into MEANWHILE["SERVER"], '
        'MEANWHILE["CONCURRENT"] or MEANWHILE["WORKER"], put a pooler before the server, or raise max_connections.',
        id="meanwhile.W012",
    )


def _pool_too_small(database: str, settings: Settings) -> Iterator[CheckMessage]:
    """Yield W013 if those who may ask Django's pool at once are more than it has; where the project says who asks."""
    size, server, ours = pool_of(database), web_server(settings), settings.concurrent.connections
    if size is None or not (server.is_known or is_set("CONCURRENT")):
        return
    threads = (server.threads or 1) if server.is_known else 1
    if size >= threads + ours:
        return
    yield checks.Warning(
        f'The pool of DATABASES["{database}"] has {size} connections in each process, and {threads + ours} may be '
        f'wanted at once: {threads} by the server\'s threads, {ours} by MEANWHILE["CONCURRENT"]. The others wait, and '
        "fail with PoolTimeout.",
        hint=f'Write: DATABASES["{database}"]["OPTIONS"]["pool"] = {{"max_size": {threads + ours}}}. Or smaller '
        'numbers into MEANWHILE["CONCURRENT"]["connections"] and MEANWHILE["SERVER"]["threads"].',
        id="meanwhile.W013",
    )


def _kept_under_asgi(database: str, settings: Settings) -> Iterator[CheckMessage]:
    """Yield W014 if ``CONN_MAX_AGE`` keeps connections of threads that end with their request."""
    age = connections[database].settings_dict["CONN_MAX_AGE"]
    if age == 0 or not is_asgi(settings):
        return
    yield checks.Warning(
        f'DATABASES["{database}"]["CONN_MAX_AGE"] is {age!r}, and the project is served by ASGI, where a request has a '
        "thread of its own that ends with it: its connection is kept for nobody, and stays open until Python's garbage "
        "collector finds it.",
        hint=f'Write: DATABASES["{database}"]["CONN_MAX_AGE"] = 0. On PostgreSQL a pool keeps connections for all '
        'requests: "OPTIONS": {"pool": True}.',
        id="meanwhile.W014",
    )
