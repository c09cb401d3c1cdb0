"""The first process: starts Granian's server processes, hears what they tell, heeds signals. Runs no request.

Called by the command ``serve`` once the sockets listen. Server processes are spawned, not forked: each loads the code
that is there when it starts, so a reload serves new code, and nothing of this process is shared but the sockets. Nor
are its handlers of signals: a forked process that is told to end before it has its own runs those of the first one, and
serves for ever.

::

    SIGTERM, SIGINT   no more connections; requests that run are answered within ``graceful_timeout``; a second: now
    SIGHUP            new server processes with the new code, then the old ones end; while files are watched: as SIGTERM

Whoever hears a signal only enqueues what was asked for. Another thread heeds it, and sees to the end: what lives after
``graceful_timeout`` is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from granian.constants import Interfaces
from granian.errors import ConfigurationError
from granian.log import LogLevels

from .. import logs
from ..conf import real_clock
from . import records
from .application import Order, load
from .plan import ServePlan
from .server import Server, check, tell_of_kill
from .signals import hear

logger = logs.get_logger("server")

DEVELOPMENT_GRACE = 2.0
"""Seconds for requests that run when a file has changed: whoever waits for the new code waits for them."""

OVERLAP = 3.0
"""Seconds that old server processes go on beside the new ones at SIGHUP: for the new ones to load the project."""

ASKED_AGAIN = 0.1
"""Seconds until Granian is asked for the end once more: between its questions it forgets what it was asked."""


class Main:
    """See the module. ``failure`` says why it ended by itself."""

    def __init__(self, plan: ServePlan, listeners: Sequence[socket.socket], *, traceback: bool = False) -> None:
        check()
        settings = plan.settings
        self._plan = plan
        self._asked: queue.SimpleQueue[Literal["end", "reload"]] = queue.SimpleQueue()
        self._is_ending = False
        self._is_over = threading.Event()
        self.failure = ""
        self._heard, told = multiprocessing.get_context("spawn").Pipe(duplex=False)
        grace = min(settings.graceful_timeout, DEVELOPMENT_GRACE) if settings.reload else settings.graceful_timeout
        self._order = Order(
            interface=plan.interface,
            application=plan.application,
            source=plan.source,
            reload=settings.reload,
            grace=grace,
            log_level=settings.log_level,
            traceback=traceback,
            told=told,
        )
        threads = {"blocking_threads": plan.threads} if plan.interface == "wsgi" else {"runtime_threads": plan.threads}
        self._server = Server(
            plan.application or "django",
            listeners=listeners,
            grace=grace,
            interface=Interfaces.WSGI if plan.interface == "wsgi" else Interfaces.ASGI,
            address=plan.address.host or "localhost",
            port=listeners[0].getsockname()[1] if plan.address.host else 0,
            workers=plan.workers,
            **threads,
            backlog=settings.backlog,
            backpressure=settings.backpressure,
            log_level=LogLevels(settings.log_level),
            log_dictconfig=records.CONFIG,
            log_access=settings.access_log,
            log_access_format=records.ACCESS_FORMAT,
            ssl_cert=Path(settings.tls_certificate) if settings.tls_certificate else None,
            ssl_key=Path(settings.tls_key) if settings.tls_key else None,
            url_path_prefix=settings.url_path_prefix or None,
            respawn_failed_workers=True,
            respawn_interval=0.0 if settings.reload else OVERLAP,
            workers_lifetime=settings.worker_lifetime,
            workers_max_rss=settings.worker_max_rss,
        )
        records.connect(settings.log_level, lambda: self._is_ending)
        logs.ensure_handler(records.level_of(settings.log_level))

    def run(self) -> None:
        """Serve until told to stop, or until that is impossible: then ``failure`` says why."""
        multiprocessing.set_start_method("spawn", force=True)
        self._server.on_startup(self._take_signals)
        threading.Thread(target=self._hear, args=(self._heard,), name="meanwhile-server", daemon=True).start()
        threading.Thread(target=self._heed, name="meanwhile-end", daemon=True).start()
        try:
            self._server.serve(target_loader=partial(load, self._order), wrap_loader=False)
        except ConfigurationError as error:
            self.failure = f"Granian refuses its settings: {error}"
        except SystemExit as end:  # of a server process that ended by itself, even after a signal
            if end.code and not self._is_ending:
                self.failure = self.failure or "server processes end as soon as they are started; see above"
        finally:
            self._is_over.set()

    def _hear(self, heard: Connection) -> None:
        while True:
            word, text = heard.recv()
            if word == "changed":
                self._server.signal_handler_reload()
            elif word == "ready":
                logger.info("server process %s has loaded the project", text)
            elif not self._is_ending:  # the second one that is broken asks for nothing more
                self.failure = text
                self._ask_to_end()

    # --- signals: heard by one thread, heeded by another -------------------------------------

    def _take_signals(self) -> None:
        """After Granian has set its own handlers."""
        hear((getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)), self._ask)

    def _ask(self, number: int) -> None:
        if number in {signal.SIGINT, signal.SIGTERM} or self._plan.settings.reload:
            self._ask_to_end()
        else:
            self._asked.put("reload")

    def _ask_to_end(self) -> None:
        self._is_ending = True
        self._asked.put("end")

    def _heed(self) -> None:
        while self._asked.get() == "reload":
            threading.Thread(target=self._try_and_reload, name="meanwhile-try", daemon=True).start()
        self._see_to_the_end()

    def _see_to_the_end(self) -> None:
        """Ask Granian for the end until it is there; kill what has not ended in time, or when asked a second time."""
        clock = real_clock()
        deadline = clock.monotonic() + self._order.grace
        is_second = False
        killed: set[int | None] = set()
        while not self._is_over.is_set() or multiprocessing.active_children():
            self._server.signal_handler_interrupt()
            with suppress(queue.Empty):
                is_second = self._asked.get(timeout=ASKED_AGAIN) == "end" or is_second
            if not is_second and clock.monotonic() < deadline:
                for process in multiprocessing.active_children():
                    process.terminate()  # again: see ``signals``
                continue
            for process in multiprocessing.active_children():
                if process.pid not in killed:
                    killed.add(process.pid)
                    process.kill()
                    if not is_second:
                        tell_of_kill(process.pid, self._order.grace)

    def _try_and_reload(self) -> None:
        """Load the new code in a process of its own first: if it is broken, the old one goes on."""
        if reason := try_to_load(self._order):
            logger.error("not reloaded, the old code goes on: %s", reason)
        elif not self._is_ending:
            logger.info("the new code loads: the server processes are replaced")
            self._server.signal_handler_reload()


_TRY = "import sys; from django_meanwhile.serve.trial import main; main(*sys.argv[1:])"


def try_to_load(order: Order) -> str:
    """Load the project in a process of its own, which ends with this one; return what is wrong, or nothing."""
    with subprocess.Popen(  # noqa: S603 - our own interpreter, our own code
        [sys.executable, "-c", _TRY, order.interface, order.application, order.source, *sys.path],
        stdin=subprocess.PIPE,  # closed when this process ends, however: then that one ends as well
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    ) as process:
        told = process.stderr.read() if process.stderr else ""
        status = process.wait()
    if not status:
        return ""
    lines = told.strip().splitlines() or [f"exit status {status}"]
    return lines[-1]
