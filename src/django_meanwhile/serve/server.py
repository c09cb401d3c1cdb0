"""Granian's server with our socket, and with replacements that heed the end.

The one module, with ``signals``, that uses names of Granian's which are private, because nothing public does the same:

========================  ======================================================================================
``_init_shared_socket``   overridden: Granian makes a socket for each process, which resets connections; see there.
                          It leaves what it has made in ``_sfd``, ``_shd``, ``_ssp`` and ``_sso``
``_drop_shared_socket``   overridden: Granian closes one socket at its end, and we have several
``SocketHolder``          how a server process takes over a socket that is there
``_respawn_workers``      overridden: Granian's goes on when the end is asked for, and then takes up to
                          ``workers`` x (``OVERLAP`` + ``graceful_timeout``) seconds
``_spawn_worker``         overridden: each process has the socket of its place
``set_loop_signals``,     replaced, in each server process: Granian's own handlers block at the third signal
``set_sync_signals``
``WorkerSignal``          what these return
========================  ======================================================================================

``check`` says which of them a newer Granian does not have. Imported by ``main`` only.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module, metadata
from operator import attrgetter
from typing import Any

from django.core.management.base import CommandError
from granian import Granian

from .. import logs
from ..conf import real_clock

logger = logs.get_logger("server")

TESTED = "2.8.6 and 2.8.7"
"""Versions of Granian that the tests of ``serve`` have passed with."""

PRIVATE = {
    "granian": (
        "Granian._init_shared_socket", "Granian._drop_shared_socket", "Granian._respawn_workers",
        "Granian._spawn_worker",
    ),
    "granian._granian": ("SocketHolder", "WorkerSignal"),
    "granian._signals": ("set_loop_signals", "set_sync_signals"),
}  # fmt: skip
"""By module; see above."""

LOOKED_AT = 0.05
"""Seconds between two looks at a process that is to end."""


def check() -> None:
    """``CommandError`` if the installed Granian lacks what ``serve`` needs of it."""
    if lacks := missing():
        raise CommandError(
            f"Granian {metadata.version('granian')} lacks {', '.join(lacks)}, which manage.py serve needs. It was "
            f'tested with {TESTED}. Run: pip install "granian>=2.8.6,<2.9"'
        )


def missing() -> list[str]:
    """Return the dotted names of ``PRIVATE`` that are not there."""
    return [f"{module}.{name}" for module, names in PRIVATE.items() for name in names if not _is_there(module, name)]


def _is_there(module: str, name: str) -> bool:
    try:
        attrgetter(name)(import_module(module))
    except (ImportError, AttributeError):
        return False
    return True


class Server(Granian):  # type: ignore[misc, valid-type]
    """See the module. ``listeners``: see ``listening``. ``grace``: seconds for the requests of a replaced process."""

    def __init__(self, *args: Any, listeners: Sequence[socket.socket], grace: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._listeners = listeners
        self._grace = grace
        self._has_been_told = threading.Event()

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        """Ask for the end. Never called by a signal's handler, which may have interrupted what holds the same lock."""
        super().signal_handler_interrupt(*args, **kwargs)
        self._has_been_told.set()

    def _init_shared_socket(self) -> None:
        """Hand over ours, as Granian itself hands over one on systems without SO_REUSEPORT.

        Where each process makes its own, those connections are reset that it has not accepted when it ends, two
        servers may share a port unawares, and there is nobody to ask between the end of one process and the next.
        """
        self._hand_over(self._listeners[0])

    def _hand_over(self, listener: socket.socket) -> None:
        from granian._granian import SocketHolder  # noqa: PLC0415 - once it is known to be there

        self._sfd = listener.fileno()
        is_unix = listener.family == getattr(socket, "AF_UNIX", None)
        self._shd = SocketHolder(self._sfd, is_unix, self.backlog)  # type: ignore[call-arg]  # its stub lacks them
        self._ssp = None
        self._sso: socket.socket | None = listener

    def _spawn_worker(self, idx: int, target: Any, callback_loader: Callable[..., Any]) -> Any:
        """Make a process, on the socket of its place: the one that it replaces had the same."""
        self._hand_over(self._listeners[idx % len(self._listeners)])
        return super()._spawn_worker(idx=idx, target=target, callback_loader=callback_loader)

    def _drop_shared_socket(self) -> None:
        """Close all of ours, as Granian closes its one at the beginning of the end.

        One that is left open takes connections that nobody will accept any more: they hang, and are then reset.
        """
        for listener in self._listeners:
            listener.close()
        self._sso = None

    def _respawn_workers(
        self, workers: Iterable[int], spawn_target: Any, target_loader: Callable[..., Any], delay: float = 0
    ) -> None:
        """Replace them one after the other, until the end is asked for: that has its own time, and begins at once."""
        for number in workers:
            if self._has_been_told.is_set():
                return
            new = self._spawn_worker(idx=number, target=spawn_target, callback_loader=target_loader)
            new.start()
            old, self.wrks[number] = self.wrks[number], new
            self.respawned_wrks[number] = real_clock().monotonic()
            self._has_been_told.wait(delay)
            self._end(old)

    def _end(self, old: Any) -> None:
        """Have a process end, within ``grace``; once all are to end, whoever sees to that sees to this one as well."""
        old.terminate()
        clock = real_clock()
        deadline = clock.monotonic() + self._grace
        while old.is_alive() and not self._has_been_told.wait(LOOKED_AT):
            old.terminate()  # again: see ``signals``
            if clock.monotonic() > deadline:
                old.kill()
                tell_of_kill(old.inner.pid, self._grace)
                return


def tell_of_kill(pid: int | None, grace: float) -> None:
    """Say that a server process did not end in time: what it was answering is lost."""
    logger.warning("server process %s is killed: it did not end within graceful_timeout, %g s", pid, grace)
