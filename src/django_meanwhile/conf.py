"""The settings: one declared schema, one frozen value, checked once.

``settings.MEANWHILE`` is a dictionary whose every key is optional. Reading it
yields a :class:`Settings` or a list of problems; the problems become Django
system checks (``checks``) and, where something is about to run on them, an
``ImproperlyConfigured`` that lists them all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Literal

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from .core.address import DEFAULT_HOST, parse_address
from .core.clock import Clock
from .core.schema import Hint, Parse, Problem, Reader, flag, names, one_of, optional, seconds, section, whole

DAY = 86_400.0
SWEEP = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """``MEANWHILE["WORKER"]``: the defaults of ``manage.py meanwhile worker``."""

    threads: int = 8
    coroutines: int = 100
    processes: int = 2
    queues: tuple[str, ...] = ()
    max_tasks: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """``MEANWHILE["RETENTION"]``: seconds to keep a finished job, per state; None: for ever."""

    successful: float | None = 7 * DAY
    failed: float | None = 30 * DAY
    cancelled: float | None = 7 * DAY
    quarantined: float | None = 90 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrentSettings:
    """``MEANWHILE["CONCURRENT"]``: what ``concurrent`` may use in each process. Durations are seconds."""

    #: Threads of ``default_executor()``.
    max_workers: int = 8
    #: Calls that may wait for one of them, and what happens to the next one.
    max_queued: int = 1000
    when_full: Literal["wait", "reject"] = "wait"
    #: Connections to one database that all our threads of a process hold at once, and how long a call waits for one.
    connections: int = 8
    connection_timeout: float = 30.0
    #: An idle thread ends after this long, and closes its connections.
    idle: float = 10.0
    #: Processes of ``parallel_map(executor="process")``.
    processes: int = field(default_factory=lambda: os.cpu_count() or 1)
    #: What coroutines of ``create_task()`` have at the end of the server.
    drain: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """``MEANWHILE["SERVER"]``: the defaults of the flags of ``manage.py serve``. Durations are seconds."""

    workers: int = 1
    #: WSGI: threads of Python in each worker, 8 without the key. ASGI: threads of Rust, 1 without the key.
    threads: int | None = None
    interface: Literal["auto", "wsgi", "asgi"] = "auto"
    bind: str = "127.0.0.1:8000"
    #: Begin anew when a file of the project changes. Without the key: the value of DEBUG. So with ``access_log``.
    reload: bool = False
    access_log: bool = False
    #: Connections that may wait to be accepted, and those that each worker accepts at once (None: the server's choice).
    backlog: int = 1024
    backpressure: int | None = None
    #: What requests have at the end of a worker.
    graceful_timeout: float = 30.0
    #: A worker is replaced after this long, and when it has this many mebibytes.
    worker_lifetime: float | None = None
    worker_max_rss: int | None = None
    tls_certificate: str | None = None
    tls_key: str | None = None
    url_path_prefix: str = ""
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting with its default. Durations are seconds."""

    lease: float = 30.0
    beat: float = 10.0
    sweep: float = SWEEP
    poll: float = 1.0
    grace: float = 25.0
    stop_grace: float = 1.0
    sqlite_wal: bool = True
    task_modules: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    #: The web server brings its worker along. Without the key: the value of DEBUG.
    embedded: bool = False
    #: What to do about code that leaks connections. Without the key: "warn" under DEBUG, "off" elsewhere.
    guard: Literal["off", "warn", "repair"] = "off"
    worker: WorkerSettings = field(default_factory=WorkerSettings)
    retention: Retention = field(default_factory=Retention)
    concurrent: ConcurrentSettings = field(default_factory=ConcurrentSettings)
    server: ServerSettings = field(default_factory=ServerSettings)

    @property
    def margin(self) -> float:
        """How long before the end of its lease a worker that cannot renew stops itself."""
        return self.lease / 5


def get_settings() -> Settings:
    """Return the settings in force.

    Raises ``ImproperlyConfigured`` with every problem and its mend.
    """
    settings, problems = read_settings()
    if problems:
        lines = [f"{p.message}\n  {p.hint}" for p in problems]
        raise ImproperlyConfigured("\n".join(lines))
    return settings


@cache
def read_settings() -> tuple[Settings, tuple[Problem, ...]]:
    """Read ``settings.MEANWHILE``; also return what is wrong with it."""
    reader = Reader()
    raw = getattr(django_settings, "MEANWHILE", {})
    values = reader.read("MEANWHILE", raw, _SCHEMA)
    values.setdefault("embedded", bool(django_settings.DEBUG))
    values.setdefault("guard", "warn" if django_settings.DEBUG else "off")
    if isinstance(raw, Mapping):
        for key, cls, schema in (
            ("WORKER", WorkerSettings, _WORKER),
            ("RETENTION", Retention, _RETENTION),
            ("CONCURRENT", ConcurrentSettings, _CONCURRENT),
            ("SERVER", ServerSettings, SERVER),
        ):
            hints = _OF_OTHER_SERVERS if cls is ServerSettings else None
            section = reader.read(f'MEANWHILE["{key}"]', raw.get(key, {}), schema, hints)
            if cls is ConcurrentSettings and "max_workers" in section:
                section.setdefault("connections", section["max_workers"])
            if cls is ServerSettings:
                section = {"reload": bool(django_settings.DEBUG), "access_log": bool(django_settings.DEBUG)} | section
            values[key.lower()] = cls(**section)
        if "lease" in values:  # what depends on it follows it, unless it is set as well
            values.setdefault("beat", values["lease"] / 3)
            values.setdefault("sweep", min(SWEEP, values["lease"] / 4))
    settings = Settings(**values)
    _cross_check(settings, reader)
    return settings, tuple(reader.problems)


def _forget(*, setting: str, **_: object) -> None:
    if setting in {"MEANWHILE", "DEBUG"}:
        read_settings.cache_clear()


setting_changed.connect(_forget)


class SystemClock:
    """The real clock. CLOCK_MONOTONIC is one clock for all processes of a host."""

    def monotonic(self) -> float:
        """See ``core.clock.Clock``."""
        return time.monotonic()


def real_clock() -> Clock:
    """Make the clock that everything outside of tests measures durations with."""
    return SystemClock()


def _address(value: object) -> str:
    return str(parse_address(value))


def _path(value: object) -> str:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        rule = "must be the path of a file"
        raise ValueError(rule)
    return os.fspath(value)


def _url_path(value: object) -> str:
    if not isinstance(value, str) or (value and (not value.startswith("/") or value.endswith("/"))):
        rule = 'must begin with a slash and not end with one, as in "/shop", or be empty'
        raise ValueError(rule)
    return value


# --- the schema -----------------------------------------------------------------------------

_SCHEMA: dict[str, Parse] = {
    "LEASE": seconds(1, 3600),
    "BEAT": seconds(0.1, 1200),
    "SWEEP": seconds(0.1, 600),
    "POLL": seconds(0.05, 60),
    "GRACE": seconds(0, 86_400),
    "STOP_GRACE": seconds(0.1, 600),
    "SQLITE_WAL": flag,
    "TASK_MODULES": names,
    "CONTEXT": names,
    "EMBEDDED": flag,
    "WORKER": section,
    "RETENTION": section,
    "GUARD": one_of("off", "warn", "repair"),
    "CONCURRENT": section,
    "SERVER": section,
}
KEYS = frozenset(_SCHEMA)
"""The keys of ``MEANWHILE``."""

_WORKER: dict[str, Parse] = {
    "threads": whole(0, 1000),
    "coroutines": whole(0, 10_000),
    "processes": whole(0, 1000),
    "queues": names,
    "max_tasks": optional(whole(1, 1_000_000_000)),
}
WORKER_KEYS = frozenset(_WORKER)
"""The keys of ``MEANWHILE["WORKER"]``."""

_CONCURRENT: dict[str, Parse] = {
    "max_workers": whole(1, 1000),
    "max_queued": whole(0, 1_000_000),
    "when_full": one_of("wait", "reject"),
    "connections": whole(1, 1000),
    "connection_timeout": seconds(0, 3600),
    "idle": seconds(0, 86_400),
    "processes": whole(1, 1000),
    "drain": seconds(0, 3600),
}

SERVER: dict[str, Parse] = {
    "workers": whole(1, 512),
    "threads": optional(whole(1, 1000)),
    "interface": one_of("auto", "wsgi", "asgi"),
    "bind": _address,
    "reload": flag,
    "access_log": flag,
    "backlog": whole(128, 65_535),
    "backpressure": optional(whole(1, 65_535)),
    "graceful_timeout": seconds(1, 3600),
    "worker_lifetime": optional(seconds(60, 30 * DAY)),
    "worker_max_rss": optional(whole(32, 1_048_576)),
    "tls_certificate": optional(_path),
    "tls_key": optional(_path),
    "url_path_prefix": _url_path,
    "log_level": one_of("debug", "info", "warning", "error", "critical"),
}
"""The keys of ``MEANWHILE["SERVER"]`` with their rules, which the flags of ``serve`` obey as well."""


def _bind(raw: Mapping[str, object]) -> str:
    host, port = str(raw.get("host", DEFAULT_HOST)), raw.get("port", ServerSettings().bind.rpartition(":")[2])
    return f'Write "bind": "{f"[{host}]" if ":" in host else host}:{port}".'


def _no_timeout(raw: Mapping[str, object]) -> str:  # noqa: ARG001 - a hint's
    return (
        'Delete the line: a request has no timeout here. "graceful_timeout" is what requests have when a process is '
        "told to end."
    )


_OF_OTHER_SERVERS: dict[str, Hint] = {"host": _bind, "port": _bind, "timeout": _no_timeout}
"""What to write for the words of gunicorn and uvicorn."""

_AGE = optional(seconds(0, 3650 * DAY))
_RETENTION: dict[str, Parse] = {f.name: _AGE for f in fields(Retention)}


def _cross_check(settings: Settings, reader: Reader) -> None:
    if settings.beat * 2 > settings.lease:
        reader.problem(
            f'MEANWHILE["BEAT"] is {settings.beat:g} s and "LEASE" is {settings.lease:g} s: '
            "a lease must outlast two beats, or one lost beat costs every job its worker.",
            f'Write "BEAT": {settings.lease / 3:g}, or delete the line: a third of the lease is the default.',
        )
    if settings.sweep > settings.lease:
        reader.problem(
            f'MEANWHILE["SWEEP"] is {settings.sweep:g} s and "LEASE" is {settings.lease:g} s: '
            "sweeping less often than a lease lasts only delays recovery.",
            f'Write "SWEEP": {min(5.0, settings.lease):g}.',
        )
    worker = settings.worker
    if not worker.threads + worker.coroutines + worker.processes:
        reader.problem(
            'MEANWHILE["WORKER"] has no threads, no coroutines and no processes: such a worker could run nothing.',
            'Write "WORKER": {"threads": 8}.',
        )
