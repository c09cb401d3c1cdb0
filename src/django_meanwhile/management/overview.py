"""What ``manage.py meanwhile`` alone prints: what it is, which commands there are, and how things stand right now.

The state is a look and not a probe: a database that does not answer within ``PATIENCE`` is said to be silent, and the
look goes on without it. It creates nothing, not even an SQLite file.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import connections

from ..conf import Settings, read_settings
from ..connections import close_thread_connections
from ..logs import escape
from .backends import TASKS_LINE, by_database, our_backends, reachable, store_on
from .diagnosis import diagnose
from .snapshot import LIMIT, Snapshot, take
from .subcommands import SUBCOMMANDS
from .wording import bounded, jobs

PATIENCE = 1.0

GROUPS = {
    "run jobs": ("worker",),
    "look": ("status", "list", "show", "check"),
    "steer": ("retry", "cancel", "prune"),
}
"""The subcommands by what one wants of them."""

FIRST = """\
Background jobs, kept in the project's own database. The two lines that most people need:

  manage.py meanwhile worker     work until told to stop. In production beside the web server, under systemd, Docker
                                 or whatever keeps processes alive
  manage.py meanwhile status     what waits, what runs, and what is wrong
"""

LAST = '"manage.py meanwhile COMMAND --help" explains a command, with examples and its exit status.'


def description() -> str:
    """Return what ``--help`` begins with: the same, without the state."""
    groups = [f"{heading}:\n" + "\n".join(lines) for heading, lines in commands()]
    return FIRST + "\n" + "\n".join(groups)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield the heading and the lines of each group."""
    summaries = {subcommand.name: subcommand.summary for subcommand in SUBCOMMANDS}
    for heading, names in GROUPS.items():
        yield heading.capitalize(), [f"  {name:9}{summaries[name]}" for name in names]


def state() -> list[str]:
    """Say in a few lines how the project stands."""
    settings, problems = read_settings()
    if problems:
        return ["The settings are wrong. What and why says: manage.py meanwhile check"]
    if not our_backends():
        return ["No backend in TASKS is one of django_meanwhile. Write in the settings:", f"  {TASKS_LINE}"]
    lines: list[str] = []
    for database in by_database(None):
        lines += _within(PATIENCE, database, settings)
    embedded = (
        "brings a worker along"
        if settings.embedded
        else 'brings no worker along (it would with MEANWHILE = {"EMBEDDED": True})'
    )
    return [*lines, f"The web server {embedded}."]


def _within(seconds: float, database: str, settings: Settings) -> Iterable[str]:
    """Look from a thread of its own, with a connection of its own, that may be left hanging."""
    found: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
    threading.Thread(target=lambda: found.put(_look(database, settings)), daemon=True).start()
    try:
        return found.get(timeout=seconds)
    except queue.Empty:
        return [f"Database {database!r} has not answered within {seconds:g} s."]


def _look(database: str, settings: Settings) -> list[str]:
    try:
        store = store_on(database)
        name = connections[database].settings_dict["NAME"]
        if store.vendor == "sqlite" and not Path(name).exists():  # to connect would create it
            alias = "" if database == "default" else f" --database {database}"
            return [f"Database {database!r} is not there yet. Run: manage.py migrate{alias}"]
        overdue_after = settings.sweep + 2 * settings.beat + 1
        with reachable(database):
            snapshot = take(store, (), overdue_after=overdue_after)
        return _words(snapshot, overdue_after)
    except (CommandError, ImproperlyConfigured) as error:
        return [escape(line) for line in str(error).splitlines()]
    except Exception as error:  # noqa: BLE001 - help must not end with a traceback
        return [f"Database {database!r} cannot be looked at: {type(error).__name__}: {escape(str(error))}"]
    finally:
        close_thread_connections()


def _words(snapshot: Snapshot, overdue_after: float) -> list[str]:
    ready = sum(depth.ready for depth in snapshot.depths)
    scheduled = sum(depth.scheduled for depth in snapshot.depths)
    running = sum(depth.running for depth in snapshot.depths)
    workers = len({worker.parent_id for worker in snapshot.workers if worker.living})
    findings = diagnose(snapshot, unknown_tasks={}, max_age=300, overdue_after=overdue_after)
    wrong = "nothing is wrong" if not findings else "something is wrong, see: manage.py meanwhile status"
    live = "no worker lives" if not workers else f"{workers} {'worker lives' if workers == 1 else 'workers live'}"
    counts = f"{jobs(ready, LIMIT)} ready, {bounded(scheduled, LIMIT)} scheduled, {bounded(running, LIMIT)} running"
    return [f"Database {snapshot.database!r} ({snapshot.vendor}): {counts}; {live}; {wrong}."]
