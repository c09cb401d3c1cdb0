"""Ports for the servers that tests start: free now, still free after a restart, and nobody else's meanwhile.

Called by whatever starts a server. It binds no TCP port: between choosing and binding, and while a server reloads,
the port stands open. Two things keep others out of it: it lies below those that the system hands to clients, and the
UDP port of the same number is held until this process ends, so that no other run of these tests chooses it.
"""

import atexit
import random
import socket

_PLACES = range(20_000, 32_000)
_TRIES = 200
_held: list[socket.socket] = []


def free_port() -> int:
    """Return a port of 127.0.0.1 for this process alone; OSError if there is none."""
    for port in random.sample(_PLACES, _TRIES):
        mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with socket.socket() as probe:
            try:
                mark.bind(("127.0.0.1", port))
                probe.bind(("127.0.0.1", port))
            except OSError:
                mark.close()
                continue
        _held.append(mark)
        return port
    message = f"none of {_TRIES} ports between {_PLACES.start} and {_PLACES.stop} is free on 127.0.0.1"
    raise OSError(message)


@atexit.register
def _give_back() -> None:
    for mark in _held:
        mark.close()
