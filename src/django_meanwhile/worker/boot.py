"""A child's first steps, before Django is set up: what the supervisor's command line calls."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType
from typing import Any, TypedDict

import django

_PR_SET_PDEATHSIG = 1


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
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            # A function, not SIG_IGN, which the user's own subprocesses would inherit.
            signal.signal(getattr(signal, name), left_to_the_supervisor)
    django.setup()

    from .. import logs  # noqa: PLC0415 - Django's set-up comes first
    from ..connections import prepare_process  # noqa: PLC0415
    from ..tasks.registry import autodiscover  # noqa: PLC0415
    from .child import Child  # noqa: PLC0415

    logs.ensure_handler(specification["log_level"])
    prepare_process()
    autodiscover()
    Child.build(specification).serve()


def die_with(supervisor: int) -> None:
    """Have the kernel kill this process with its supervisor (Linux; elsewhere the pipe tells).

    The signal is armed for the *thread* that forked us: the supervisor spawns from
    its main thread. If it died before we got here, nobody would send it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        sys.exit(f"the supervisor {supervisor} ended before its child started")


def keep_to_ourselves(descriptors: Iterable[int]) -> None:
    """Keep inherited descriptors from what the user's code starts: neither exec nor fork may take them along.

    Somebody waits for the end of file or for the lock that they hold.
    """
    ours = tuple(descriptors)
    for descriptor in ours:
        os.set_inheritable(descriptor, False)

    def close() -> None:
        for descriptor in ours:
            with suppress(OSError):
                os.close(descriptor)

    os.register_at_fork(after_in_child=close)


def left_to_the_supervisor(_signum: int, _frame: FrameType | None) -> None:
    """Do nothing: Ctrl-C and a service manager signal the whole group; the supervisor drains."""
