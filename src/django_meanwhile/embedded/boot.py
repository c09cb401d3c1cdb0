"""The first steps of an embedded worker, before Django is set up: what the keeper's command line calls.

From here on it is an ordinary worker: the same plan, the same supervisor.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn
from uuid import UUID

import django
from django.core.exceptions import ImproperlyConfigured

from .. import conf, logs
from .leash import EX_CONFIG, Leash
from .lock import read_note, write_note

if TYPE_CHECKING:
    from ..conf import Settings
    from ..worker.plan import WorkerPlan
    from .keeper import Specification

NICENESS = 10
"""Requests come first: of a busy core the server gets about nine tenths."""

GRACE = 2.0
"""Seconds that running jobs have, in all, after the end of the server: to end, then to heed the call to stop."""

MIGRATED_EVERY = 1.0


def main(specification: Specification) -> None:
    """Run a worker to its end. Does not return."""
    lock = specification["lock"]
    leash = Leash(specification["pipe"], lock)
    leash.hold()
    os.nice(NICENESS)
    signal.signal(signal.SIGTERM, lambda *_: _stopped(lock))  # until the supervisor has its own
    # A server's thread may have started us with signals blocked, and the mask outlives exec.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
    with _refusing_broken_code():
        django.setup()
        logs.ensure_handler(logging.WARNING)
        plan = _plan(specification["backend"], all_checks=specification["checks"])

    from ..ties import keep_to_ourselves  # noqa: PLC0415 - Django's set-up comes first
    from ..worker.supervisor import run  # noqa: PLC0415

    keep_to_ourselves([lock, specification["pipe"]])
    _wait_for_tables(plan.database, leash)
    leash.hold_jobs()
    status = run(
        plan,
        log_level=logging.WARNING,
        identity=UUID(specification["supervisor"]),
        predecessors=[UUID(text) for text in specification["predecessors"]],
        inherit=(lock,),
        until=leash.server_is_gone.is_set,
        told=lambda: _note_stop(lock),
    )
    _leave(status)


def _stopped(lock: int) -> NoReturn:
    """End after somebody has told this worker to stop."""
    _note_stop(lock)
    _leave(0)


def _note_stop(lock: int) -> None:
    """Note that somebody has told this worker to stop: no process of a server that runs now starts another at once.

    Even if the process that brought this one along has ended by then: others of its server may still answer.
    """
    write_note(lock, replace(read_note(lock), stopped_at=conf.real_clock().monotonic()))


def _leave(status: int) -> NoReturn:
    """End now. A thread of ours gets no turn any more while the interpreter takes itself apart, the leash neither."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextmanager
def _refusing_broken_code() -> Iterator[None]:
    """Turn code that does not import into one line, and the end; the server says more, and its reload tries again."""
    try:
        yield
    except (SyntaxError, ImportError, ImproperlyConfigured) as error:
        where = f"{error.filename}, line {error.lineno}: " if isinstance(error, SyntaxError) else ""
        _refuse(f"{where}{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else error}")


def _refuse(reason: str) -> NoReturn:
    """End with the status that says: do not try again."""
    logs.ensure_handler(logging.WARNING)
    logs.get_logger("worker").error("the embedded worker cannot start: %s", reason)
    _leave(EX_CONFIG)


def _plan(backend: str, *, all_checks: bool) -> WorkerPlan:
    """Make the plan, or refuse.

    ``all_checks``: those of the whole project, as ``runserver`` makes them before it serves.
    """
    from django.core import checks  # noqa: PLC0415 - as above
    from django.core.management.base import CommandError  # noqa: PLC0415

    from ..management.backends import choose_backend, problems, store_on  # noqa: PLC0415

    errors: list[str] = []
    try:
        served = choose_backend(backend)
        store_on(served.database)
        found = checks.run_checks() if all_checks else problems([served])
        serious = [message for message in found if message.is_serious() and not message.is_silenced()]
        errors += [f"{message.msg} {message.hint or ''} ({message.id})" for message in serious]
    except CommandError as error:
        errors.append(str(error))
    if errors:
        _refuse("; ".join(errors))
    return plan_for(conf.get_settings(), backend)


def plan_for(settings: Settings, backend: str) -> WorkerPlan:
    """Return the plan of an embedded worker: as of any other, but it ends when its server does, not 25 s later."""
    from ..worker.plan import make_plan  # noqa: PLC0415 - as above

    return replace(make_plan(settings, backend=backend), end_grace=max(0.0, GRACE - settings.stop_grace))


def _wait_for_tables(database: str, leash: Leash) -> None:
    """Wait until ``migrate`` has run; a database that does not answer is the supervisor's to wait for."""
    from django.db import DatabaseError, connections  # noqa: PLC0415 - as above

    from ..connections import prepare_process  # noqa: PLC0415
    from ..management.backends import migrate_line, missing_migrations  # noqa: PLC0415

    prepare_process()
    said = False
    try:
        while missing := missing_migrations(database):
            if not said:
                logs.get_logger("worker").warning(
                    "the embedded worker waits: database %r lacks migrations of django_meanwhile (%s). Run: %s",
                    database, ", ".join(missing), migrate_line(database),
                )  # fmt: skip
            said = True
            connections[database].close()
            leash.server_is_gone.wait(MIGRATED_EVERY)
    except DatabaseError as error:
        logs.get_logger("worker").warning("database %r: %s", database, error)
    finally:
        connections.close_all()
