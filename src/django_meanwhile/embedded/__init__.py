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

import os
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

_lock = threading.Lock()
_keepers: list[Keeper] = []  # guarded by _lock
_UID = "django_meanwhile.embedded"


def install() -> None:
    """Arrange that a worker comes along if this process turns out to serve requests. For the app's ``ready()``."""
    if not conf.read_settings()[0].embedded or serving.never_serves():
        return
    if serving.is_runserver():
        start()
    else:
        _listen()


def start() -> bool:
    """Bring the worker along: for hooks of servers, such as gunicorn's ``post_worker_init``.

    Idempotent; whatever ``MEANWHILE["EMBEDDED"]`` says. Returns at once, and whether this process now waits for,
    or has, the host's worker: never under a test runner, in a worker's own processes, or on a system without
    ``fcntl`` (Windows), which is logged.
    """
    if serving.never_serves():
        return False
    if not serving.is_possible():
        _ignore()
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
    _ignore()
    return bool(_keepers)


def stop(timeout: float = 5.0) -> bool:
    """End what ``start`` began, as the end of the server would; returns whether it is over within ``timeout`` seconds.

    Idempotent. Another server process of this host may take over.
    """
    with _lock:
        keepers, _keepers[:] = list(_keepers), []
    for keeper in keepers:
        keeper.stop()
    ends = [keeper.join(timeout) for keeper in keepers]
    return all(ends)


# --- the first request, the first job -------------------------------------------------------


def _listen() -> None:
    request_started.connect(_on_request, dispatch_uid=_UID)
    if serving.is_known_server():
        task_enqueued.connect(_on_enqueue, dispatch_uid=_UID)


def _ignore() -> None:
    request_started.disconnect(dispatch_uid=_UID)
    task_enqueued.disconnect(dispatch_uid=_UID)


def _on_request(sender: Any, **_: Any) -> None:
    if serving.is_real(sender):
        start()


def _on_enqueue(**_: Any) -> None:
    start()


def _after_fork() -> None:
    """Let go of what belongs to the parent: its threads are not here, its descriptors must not stay open here."""
    global _lock  # noqa: PLW0603 - another thread may have held it
    _lock = threading.Lock()
    for keeper in _keepers:
        keeper.abandon()
    if _keepers:
        _keepers.clear()
        _listen()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
