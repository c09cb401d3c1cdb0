"""Hygiene for code that we did not write: ``MEANWHILE["GUARD"]``, by default "warn" under ``DEBUG``, else "off".

Notices and names what leaks a connection; with "repair" it also mends it. What it can see::

    openings   who has opened which connection, where, and which cursors use it
      ├─ threads   a thread that ended with an open connection, or inside a transaction
      ├─ forks     a fork while this process has connections or a pool
      └─ streams   a streaming response that keeps a connection until its client has read it
    findings   each place is told once, and again at ten times, a hundred times ...

Installed by the app's ``ready()``. Where it is off, nothing of it is imported but this module, and nothing of Django is
touched. It never raises into the code that it watches, and asks no database.
"""

from __future__ import annotations

import sys
import threading
from typing import Literal

from .. import conf, logs

logger = logs.get_logger("guard")

Mode = Literal["off", "warn", "repair"]

_lock = threading.Lock()
_installed: Mode = "off"  # guarded by _lock


def install() -> None:
    """Do as ``MEANWHILE["GUARD"]`` says. Idempotent; another setting than the last one replaces it."""
    if uwsgi_without_threads():
        logger.warning(
            "uWSGI runs without threads: a thread that Python starts never gets a turn. Add --enable-threads"
        )
    switch(conf.read_settings()[0].guard)


def uninstall() -> None:
    """Leave Django as it was, and forget what was found. Idempotent."""
    switch("off")


def switch(mode: Mode) -> None:
    """Watch in this mode from now on; connections that are open already are not watched."""
    global _installed  # noqa: PLW0603 - one guard for the process
    with _lock:
        if mode == _installed:
            return
        if mode != "off" and (library := _replaced_by()):
            logger.warning('MEANWHILE["GUARD"] does nothing in a process whose threads %s has replaced', library)
            return
        from . import findings, forks, openings, streams, threads  # noqa: PLC0415 - see the module

        repairs = mode == "repair"
        for part in (openings, threads, forks, streams):
            part.stop()
        findings.forget()
        if mode != "off":
            openings.start()
            threads.start(repairs=repairs)
            forks.start(repairs=repairs)
            streams.start(repairs=repairs)
        _installed = mode


def uwsgi_without_threads() -> bool:
    """Whether this is a process of uWSGI in which threads that Python code starts never get a turn."""
    options = getattr(sys.modules.get("uwsgi"), "opt", None)
    if not isinstance(options, dict):
        return False
    # Values are bytes or lists of them; an option that needs none is True.
    return not {b"enable-threads", b"threads", "enable-threads", "threads"} & options.keys()


def _replaced_by() -> str | None:
    """Return the library that has put greenlets in place of threads: their ends are not those of threads."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return None
