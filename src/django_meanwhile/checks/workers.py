"""Does anybody work? The one check that asks the database; with ``--deploy`` only. Called by ``checks``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from django.core import checks
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections
from django.utils.connection import ConnectionDoesNotExist

from ..management.backends import our_backends
from ..management.diagnosis import unserved_queues
from ..management.snapshot import take
from ..store import get_store


def check() -> Iterator[CheckMessage]:
    """Yield W004."""
    for alias in sorted({served.database for served in our_backends()}):
        try:
            yield from list(_nobody_works(alias))
        except (ConnectionDoesNotExist, ImproperlyConfigured, DatabaseError):
            continue  # no database where the check runs, as in the build of an image


def _nobody_works(alias: str) -> Iterator[CheckMessage]:
    settings = connections[alias].settings_dict
    if connections[alias].vendor == "sqlite" and not Path(settings["NAME"]).exists():
        return  # to connect would create it
    snapshot = take(get_store(alias), (), overdue_after=60)
    findings = list(unserved_queues(snapshot))
    for finding in findings:
        yield checks.Warning(finding.message, hint=finding.advice, id="meanwhile.W004")
    if not findings and not any(worker.living for worker in snapshot.workers):
        yield checks.Warning(
            f"No worker lives in the database {alias!r}: what is enqueued will wait.",
            hint="Run beside the web server, under whatever keeps processes alive: manage.py meanwhile worker. Or let "
            'the web server bring one along: MEANWHILE = {"EMBEDDED": True}',
            id="meanwhile.W004",
        )
