"""A child's first steps, before Django is set up: what the supervisor's command line calls."""

from __future__ import annotations

import faulthandler
import signal
from typing import Any, TypedDict

import django

from ..ties import die_with, keep_to_ourselves, leave_signals_to_the_parent


class Specification(TypedDict):
    """Everything a child is told at its start. JSON. Descriptors are inherited."""

    path: list[str]
    supervisor: int
    worker_id: str
    parent_id: str
    pipe: int
    table: int
    stacks: int
    child: dict[str, Any]
    plan: dict[str, Any]
    log_level: int
    inherit: list[int]


def main(specification: Specification) -> None:
    """Run a child to its end."""
    die_with(specification["supervisor"])
    keep_to_ourselves([*specification["inherit"], specification["pipe"], specification["table"]])
    faulthandler.enable(specification["stacks"])
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1, file=specification["stacks"])
    leave_signals_to_the_parent()
    django.setup()

    from .. import logs  # noqa: PLC0415 - Django's set-up comes first
    from ..connections import prepare_process  # noqa: PLC0415
    from ..tasks.registry import autodiscover  # noqa: PLC0415
    from .child import Child  # noqa: PLC0415

    logs.ensure_handler(specification["log_level"])
    prepare_process()
    autodiscover()
    Child.build(specification).serve()
