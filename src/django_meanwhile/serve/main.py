"""The first process: starts Granian's server processes, hears what they tell, heeds signals. Runs no request.

Called by the command ``serve`` once the socket listens. Server processes are spawned, not forked: each loads the code
that is there when it starts, so a reload serves new code, and nothing of this process is shared but the socket.

::

    SIGTERM, SIGINT   no more connections; requests that run are answered within ``graceful_timeout``; a second: now
    SIGHUP            new server processes with the new code, then the old ones end; while files are watched: as SIGTERM
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from granian import Granian
from granian._granian import SocketHolder
from granian.constants import Interfaces
from granian.errors import ConfigurationError
from granian.log import LogLevels

from .. import logs
from . import records
from .application import Order, load
from .plan import ServePlan

logger = logs.get_logger("server")

DEVELOPMENT_GRACE = 2.0
"""Seconds for requests that run when a file has changed: whoever waits for the new code waits for them."""

OVERLAP = 3.0
"""Seconds that old server processes go on beside the new ones at SIGHUP: for the new ones to load the project."""


class _Server(Granian):  # type: ignore[misc, valid-type]
    """Granian, with our socket in place of one for each server process."""

    def __init__(self, *args: Any, listener: socket.socket, **options: Any) -> None:
        super().__init__(*args, **options)
        self._listener = listener

    def _init_shared_socket(self) -> None:
        """Share ours, as Granian itself shares one on systems without SO_REUSEPORT.

        With a socket for each process, those connections are reset that a process has not accepted when it ends, two
        servers may share a port unawares, and there is nobody to ask between the end of one process and the next.
        """
        self._sfd = self._listener.fileno()
        is_unix = self._listener.family == getattr(socket, "AF_UNIX", None)
        self._shd = SocketHolder(self._sfd, is_unix, self.backlog)  # type: ignore[call-arg]  # its stub lacks them
        self._ssp = None
        self._sso: socket.socket | None = self._listener


class Main:
    """See the module. ``failure`` says why it ended by itself."""

    def __init__(self, plan: ServePlan, listener: socket.socket, *, traceback: bool = False) -> None:
        settings = plan.settings
        self._plan = plan
        self._is_ending = False
        self._is_ready = threading.Event()
        self.failure = ""
        self._heard, told = multiprocessing.get_context("spawn").Pipe(duplex=False)
        self._told = told
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
        self._server = _Server(
            plan.application or "django",
            listener=listener,
            interface=Interfaces.WSGI if plan.interface == "wsgi" else Interfaces.ASGI,
            address=plan.address.host or "localhost",
            port=listener.getsockname()[1] if plan.address.host else 0,
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
            workers_kill_timeout=grace,
        )
        records.connect(settings.log_level, lambda: self._is_ending)
        logs.ensure_handler(records.level_of(settings.log_level))

    def run(self) -> None:
        """Serve until told to stop, or until that is impossible: then ``failure`` says why."""
        multiprocessing.set_start_method("spawn", force=True)
        self._server.on_startup(self._take_signals)
        threading.Thread(target=self._hear, args=(self._heard,), name="meanwhile-server", daemon=True).start()
        try:
            self._server.serve(target_loader=partial(load, self._order), wrap_loader=False)
        except ConfigurationError as error:
            self.failure = f"Granian refuses its settings: {error}"
        except SystemExit as end:  # of a server process that ended by itself, even after a signal
            if end.code and not self._is_ending:
                self.failure = self.failure or "server processes end as soon as they are started; see above"

    def _hear(self, heard: Connection) -> None:
        while True:
            word, text = heard.recv()
            if word == "changed":
                self._server.signal_handler_reload()
            elif word == "broken":
                self.failure = text
                self._end()
            else:
                logger.info("server process %s has loaded the project", text)

    # --- signals, in the main thread ------------------------------------------------------

    def _take_signals(self) -> None:
        """After Granian has set its own handlers."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_end)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._on_end if self._plan.settings.reload else self._on_reload)

    def _on_end(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's
        if self._is_ending:
            for process in multiprocessing.active_children():
                process.kill()
        self._end()

    def _end(self) -> None:
        self._is_ending = True
        self._server.signal_handler_interrupt()

    def _on_reload(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as above
        threading.Thread(target=self._try_and_reload, name="meanwhile-try", daemon=True).start()

    def _try_and_reload(self) -> None:
        """Load the new code in a process of its own first: if it is broken, the old one goes on."""
        if reason := try_to_load(self._order):
            logger.error("not reloaded, the old code goes on: %s", reason)
        elif not self._is_ending:
            logger.info("the new code loads: the server processes are replaced")
            self._server.signal_handler_reload()


_TRY = "import sys; from django_meanwhile.serve.trial import main; main(*sys.argv[1:])"


def try_to_load(order: Order) -> str:
    """Load the project in a process of its own; return what is wrong, or nothing."""
    done = subprocess.run(  # noqa: S603 - our own interpreter, our own code
        [sys.executable, "-c", _TRY, order.interface, order.application, order.source, *sys.path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        check=False,
    )
    if not done.returncode:
        return ""
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return lines[-1]
