"""The listening sockets: made by the first process before it starts another, and inherited by the server processes.

So an address that cannot be had is one line and nothing is left running; connections wait in the queue of a socket
while a server process is replaced, and are not refused. Called by the command ``serve``.

Several processes on one socket do not share the work: whichever began to wait last is woken first, so that one has
nearly all connections, and keeps them while they are kept alive. On Linux each process has a socket of its own, on the
same port, among which the system spreads new connections; elsewhere and with Unix sockets it does not, and there is one
for all.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from ..core.address import Address

_REASONS = {
    errno.EADDRINUSE: "another process listens there already. End it, or choose another one: manage.py serve {next}",
    errno.EACCES: "this user may not. Ports below 1024 are root's: choose a higher one, manage.py serve {next}",
    errno.EADDRNOTAVAIL: "this host has no such address. 0.0.0.0 stands for all of them",
    errno.ENOENT: "there is no such directory",
}


SPREADS = sys.platform == "linux"
"""Whether the system spreads connections among the sockets of one port."""


def listen(address: Address, backlog: int, processes: int = 1) -> list[socket.socket]:
    """Return the sockets that listen, one for each process or one for all, each of which may have ``backlog`` waiting.

    ``CommandError`` names the address, the reason and the next step.
    """
    try:
        if address.path:
            return [_listen_on_path(Path(address.path), backlog)]
        return _listen_on_port(address, backlog, processes if SPREADS else 1)
    except socket.gaierror as error:
        raise CommandError(f"Cannot listen on {address}: the host is unknown ({error.strerror}).") from None
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        if address.path and error.errno == errno.EACCES:
            reason = "this user may not write there"
        raise CommandError(f"Cannot listen on {address}: {reason.format(next=_another(address))}.") from None


def remove(address: Address, listener: socket.socket) -> None:
    """Remove the file of a Unix socket, unless another server has put its own there."""
    path = Path(address.path)
    if address.path and listener.fileno() == -1 and path.is_socket() and not _answers(path):
        path.unlink(missing_ok=True)


def _listen_on_port(address: Address, backlog: int, number: int) -> list[socket.socket]:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    found.sort(key=lambda each: each[0] != socket.AF_INET)  # "localhost" is 127.0.0.1, as with runserver
    family, _, _, _, place = found[0]
    first = _listen_at(family, place, backlog)
    if number == 1:
        return [first]
    # One that shares its port would not notice that another server has it already.
    place = first.getsockname()
    first.close()
    listeners: list[socket.socket] = []
    try:
        for _ in range(number):
            listeners.append(_listen_at(family, place, backlog, shares=True))  # noqa: PERF401 - those before an error are closed
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _listen_at(family: int, place: Any, backlog: int, *, shares: bool = False) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let two servers listen at once
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shares:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(place)
        return _ready(listener, backlog)
    except OSError:
        listener.close()
        raise


def _listen_on_path(path: Path, backlog: int) -> socket.socket:
    if path.is_socket() and not _answers(path):  # left behind by a server that was killed
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        path.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH)
        return _ready(listener, backlog)
    except OSError:
        listener.close()
        raise


def _ready(listener: socket.socket, backlog: int) -> socket.socket:
    listener.listen(backlog)
    listener.setblocking(False)
    listener.set_inheritable(True)
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return False
        return True


def _another(address: Address) -> str:
    if address.path:
        return "unix:/another/path"
    port = 8000 if address.port < 1024 else address.port + 1  # noqa: PLR2004 - as the system counts
    return str(Address(host=address.host, port=port))
