"""The connection budget: how many connections the project may open at once on one host, against what a server allows.

::

    web server    processes x threads            MEANWHILE["SERVER"], or the environment, or assumed; those of
                  production, also where files are watched by one process
    concurrent    processes x connections        MEANWHILE["CONCURRENT"]: threads of ours, and locks
                  a pool counts instead: processes x max_size, and locks, which are outside of it
    workers       one for each backend of ours, and what it opens for a while

Computed from the settings and the environment, without touching a database. Called by the command ``check`` and by
``checks``.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist

from ..conf import Settings
from ..serve.plan import WSGI_THREADS
from ..worker.plan import make_plan
from .backends import Served
from .capacity import Capacity

POOL_MIN_SIZE = 4
"""psycopg's own default; ``max_size`` is ``min_size`` unless it is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebServer:
    """The server's processes on one host. ``threads`` None: each request has one of its own, without a limit (ASGI)."""

    processes: int
    threads: int | None
    source: str
    #: Somebody has said so; else it is a guess.
    is_known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the sum: connections to one database. ``at_least``: there can be more, without a limit."""

    what: str
    arithmetic: str
    connections: int
    source: str
    at_least: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be open at once to one database."""

    database: str
    rows: tuple[Row, ...]

    @property
    def total(self) -> int:
        """The sum."""
        return sum(row.connections for row in self.rows)

    @property
    def at_least(self) -> bool:
        """Whether something in it has no limit."""
        return any(row.at_least for row in self.rows)


def is_asgi(settings: Settings) -> bool:
    """Whether the project says that an ASGI server serves it."""
    if settings.server.interface == "auto":
        return bool(getattr(django_settings, "ASGI_APPLICATION", None))
    return settings.server.interface == "asgi"


def web_server(settings: Settings, environ: Mapping[str, str] = os.environ) -> WebServer:
    """Say what serves: by ``MEANWHILE["SERVER"]`` if it is there, else by the environment, else by a guess."""
    server = settings.server
    threads = None if is_asgi(settings) else server.threads or WSGI_THREADS
    if is_set("SERVER"):
        source = 'MEANWHILE["SERVER"]'
        if server.reload and server.workers > 1:
            source += "; one process while files are watched"
        return WebServer(processes=server.workers, threads=threads, source=source, is_known=True)
    given = _of_gunicorn(environ)
    if given.workers is None:
        return WebServer(
            processes=1, threads=threads, source="assumed: flags of your server are not known here", is_known=False
        )
    if threads is not None and given.threads is not None:
        threads = given.threads
    return WebServer(
        processes=given.workers,
        threads=threads,
        source="GUNICORN_CMD_ARGS" if "GUNICORN_CMD_ARGS" in environ else "WEB_CONCURRENCY, threads assumed",
        is_known=given.threads is not None,
    )


def _of_gunicorn(environ: Mapping[str, str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("-w", "--workers", type=int)
    parser.add_argument("--threads", type=int)
    try:
        given, _ = parser.parse_known_args(shlex.split(environ.get("GUNICORN_CMD_ARGS", "")))
        if given.workers is None and "WEB_CONCURRENCY" in environ:
            given.workers = int(environ["WEB_CONCURRENCY"])
    except (argparse.ArgumentError, ValueError):  # the server's to complain about
        return argparse.Namespace(workers=None, threads=None)
    return given


def is_set(key: str) -> bool:
    """Whether the project has written this key of ``MEANWHILE``."""
    raw = getattr(django_settings, "MEANWHILE", {})
    return isinstance(raw, Mapping) and key in raw


def is_counted(database: str) -> bool:
    """Whether the server of this database limits connections, and can be asked. No query."""
    try:
        return connections[database].vendor == "postgresql"
    except (ConnectionDoesNotExist, ImproperlyConfigured):  # Django says so
        return False


def pool_of(database: str) -> int | None:
    """Return how many connections Django's pool for this database has in each process; None: there is no pool."""
    pool = connections[database].settings_dict["OPTIONS"].get("pool")
    if not pool or connections[database].vendor != "postgresql":
        return None
    options: Mapping[str, int | None] = pool if isinstance(pool, Mapping) else {}
    return options.get("max_size") or options.get("min_size") or POOL_MIN_SIZE


def make_budget(database: str, settings: Settings, backends: Iterable[Served]) -> Budget:
    """Add up what this project may open to ``database`` on one host."""
    rows = [*_of_server(database, settings, web_server(settings)), *_of_workers(database, settings, backends)]
    return Budget(database=database, rows=tuple(rows))


def _of_server(database: str, settings: Settings, server: WebServer) -> Iterator[Row]:
    size, processes, ours = pool_of(database), server.processes, settings.concurrent.connections
    if size is not None:
        arithmetic = f"{_processes(processes)} x pool of {size}"
        yield Row(what="web server", arithmetic=arithmetic, connections=processes * size, source=server.source)
        yield Row(
            what="locks",
            arithmetic=f"{_processes(processes)} x {ours} outside of the pool",
            connections=processes * ours,
            source='MEANWHILE["CONCURRENT"]',
        )
        return
    threads = f"{server.threads} threads" if server.threads is not None else "a thread for each request"
    yield Row(
        what="web server",
        arithmetic=f"{_processes(processes)} x {threads}",
        connections=processes * (server.threads or 1),
        source=server.source,
        at_least=server.threads is None,
    )
    yield Row(
        what="concurrent",
        arithmetic=f"{_processes(processes)} x {ours} connections",
        connections=processes * ours,
        source='MEANWHILE["CONCURRENT"]',
    )


def _of_workers(database: str, settings: Settings, backends: Iterable[Served]) -> Iterator[Row]:
    for served in backends:
        try:
            plan = make_plan(settings, backend=served.backend)
        except ImproperlyConfigured:  # the checks tell
            continue
        source = "embedded" if settings.embedded else "assumed: one runs"
        name = f'worker "{served.backend}"'
        if plan.database == database:
            yield Row(what=name, arithmetic=_children(plan), connections=plan.connections, source=source)
            yield Row(
                what="",
                arithmetic="children replaced, suspects alone",
                connections=plan.peak_connections - plan.connections,
                source="for a while",
            )
        else:
            bodies = sum(child.bodies for child in plan.children)
            yield Row(what=name, arithmetic=f"{bodies} bodies of jobs", connections=bodies, source=source)


def _children(plan: Any) -> str:
    supervisor = plan.connections - sum(child.connections for child in plan.children)
    shared = [f"{child.connections}" for child in plan.children if child.kind == "shared"]
    others = [child.connections for child in plan.children if child.kind != "shared"]
    parts = [f"{supervisor} of its own", *(f"{each} of threads" for each in shared)]
    if others:
        parts.append(f"{len(others)} x {others[0]} of processes")
    return " + ".join(parts)


def _processes(number: int) -> str:
    return f"{number} {'process' if number == 1 else 'processes'}"


def verdict(budget: Budget, capacity: Capacity) -> str:
    """Say in one line whether it fits."""
    usable = capacity.usable
    if usable is None:
        return "fits: the database does not limit them"
    spare = usable - budget.total
    if spare < 0:
        return f"does not fit: {-spare} too many"
    if budget.at_least:
        return f"fits while no more than {spare} further requests are in progress: they have no limit of their own"
    return f"fits: {spare} to spare for other hosts, other programs, and you"
