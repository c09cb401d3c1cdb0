"""The worker that the web server brings along: ``MEANWHILE["EMBEDDED"]``, by default the value of ``DEBUG``.

::

    server process ── first to get the host's lock ──▶ spawns an ordinary worker (supervisor and children)
        │ pipe, never written to                           │ holds the lock's descriptor, all of its tree
        └─ ends, however: end of file ────────────────────▶ drains, gives its jobs back, is gone

=========  ==================================================================================
serving    is this a process that serves requests? When may it bring a worker?
keeper     a server's thread: waits for the lock, starts the worker, starts it again
lock       one worker per host and project: an inherited file lock
boot       the worker's first steps
leash      the worker's thread that notices the end of its server
=========  ==================================================================================

Called by the app's ``ready()``, by Django's signals, and by hooks of servers. It runs no job in the server, installs
no signal handler there, and forks nothing that has threads.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from django.core.signals import request_started

from .. import conf, logs
from ..compat import task_enqueued
from . import serving

if TYPE_CHECKING:
    from .keeper import Keeper

__all__ = ["start", "stop"]

logger = logs.get_logger("worker")

GONE_WITHIN = 3.0
"""Seconds from the end of the server to the end of its worker; a server that ends in good order waits that long."""

TRY_EVERY = 30.0
"""Seconds between two tries, by requests, of a start that failed."""

_clock = conf.real_clock()
_lock = threading.Lock()
_keepers: list[Keeper] = []  # guarded by _lock
_due = 0.0  # monotonic: when a request may try again; infinite where there can be no worker
_waits_at_exit = False


def install() -> None:
    """Arrange that a worker comes along if this process turns out to serve requests. For the app's ``ready()``."""
    if not conf.read_settings()[0].embedded or serving.never_serves():
        return
    request_started.connect(_on_request)
    if serving.is_known_server():
        task_enqueued.connect(_on_enqueue)
    if serving.is_runserver():
        _try_to_start()


def start() -> bool:
    """Bring the worker along: for hooks of servers, such as gunicorn's ``post_worker_init``.

    Idempotent; whatever ``MEANWHILE["EMBEDDED"]`` says. Returns at once, and whether this process now waits for,
    or has, the host's worker: never under a test runner, in a worker's own processes, or where ``serving`` says
    that there can be none, which is logged.
    """
    global _due, _waits_at_exit  # noqa: PLW0603 - one of each for the process
    if serving.never_serves():
        return False
    if not serving.is_possible():
        _due = float("inf")
        return False
    from ..management.backends import our_backends  # noqa: PLC0415 - most processes never start a worker
    from ..tasks.unworked import watch  # noqa: PLC0415
    from .keeper import STARTS_WITHIN, Keeper  # noqa: PLC0415

    with _lock:
        if not _keepers:
            _keepers.extend(Keeper(served.backend, served.database) for served in our_backends())
        for keeper in _keepers:
            keeper.start()
        watch.expect(STARTS_WITHIN)
        if not _waits_at_exit and not serving.is_runserver():  # whose reloads should not wait
            _waits_at_exit = True
            _wait_at_exit()
        return bool(_keepers)


def stop(timeout: float = 5.0) -> bool:
    """End what ``start`` began, as the end of the server would; returns whether it is over within ``timeout`` seconds.

    Idempotent. No request starts it again, ``start`` does. Another server process of this host may take over. A server
    that ends in good order calls it at its exit, so that its jobs are given back before a container ends with it.
    """
    global _due  # noqa: PLW0603 - as above
    with _lock:
        _due = float("inf")
        keepers, _keepers[:] = list(_keepers), []
    for keeper in keepers:
        keeper.stop()
    end = _clock.monotonic() + timeout
    ends = [keeper.join(max(0.0, end - _clock.monotonic())) for keeper in keepers]
    return all(ends)


def _wait_at_exit() -> None:
    """Have the exit of this process, if it is orderly, wait for the end of the worker."""
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None:
        atexit.register(stop, GONE_WITHIN)
    else:  # a server's process made by multiprocessing: before Python 3.13 it passes by atexit if it was forked
        from multiprocessing.util import Finalize  # noqa: PLC0415 - of use here only

        Finalize(None, stop, args=(GONE_WITHIN,), exitpriority=0)


# --- the first request, the first job -------------------------------------------------------


def _on_request(sender: Any, **_: Any) -> None:
    # Never disconnected: that would take a lock which a fork in another thread may have left taken for ever.
    if not _keepers and _clock.monotonic() >= _due and serving.is_real(sender):
        _try_to_start()


def _on_enqueue(**_: Any) -> None:
    if not _keepers and _clock.monotonic() >= _due:
        _try_to_start()


def _try_to_start() -> None:
    """Start; whatever goes wrong is logged, and costs no request its answer."""
    global _due  # noqa: PLW0603 - as above
    _due = _clock.monotonic() + TRY_EVERY
    try:
        start()
    except Exception:
        logger.exception("the embedded worker could not be arranged; tried again by a request in %g s", TRY_EVERY)


def _after_fork() -> None:
    """Let go of what belongs to the parent: its threads are not here, its descriptors must not stay open here."""
    global _lock, _due  # noqa: PLW0603 - another thread may have held the lock
    _lock = threading.Lock()
    _due = 0.0
    for keeper in _keepers:
        keeper.abandon()
    _keepers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
