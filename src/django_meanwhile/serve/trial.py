"""Does the project load? Asked in a process of its own, which ``main`` starts before it replaces server processes.

Loads what a server process would, serves nothing, starts no worker, and ends: at the latest with the process that asks,
for code that never gets done with its import would be left behind.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading

import django

from .application import Order, describe, find


def main(interface: str, application: str, source: str, *path: str) -> None:
    """Exit with 0 if the project loads; else write why, in one line, and exit with 1."""
    sys.path[:] = path
    _end_with_the_first_process()
    _, told = multiprocessing.Pipe(duplex=False)
    order = Order(
        interface="asgi" if interface == "asgi" else "wsgi",
        application=application,
        source=source,
        reload=False,
        grace=0,
        log_level="info",
        traceback=False,
        told=told,
    )
    status = 0
    try:
        django.setup()
        find(order)
    except Exception as error:  # noqa: BLE001 - whatever the project's code raises
        sys.stderr.write(f"\n{describe(error)}\n")
        status = 1
    sys.stderr.flush()
    os._exit(status)  # threads that the project has started do not hold it


def _end_with_the_first_process() -> None:
    """Nothing is ever written to stdin, so it is read when its other end is closed. The project's is an empty one."""
    pipe = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def wait() -> None:
        os.read(pipe, 1)
        os._exit(1)

    threading.Thread(target=wait, name="meanwhile-first-process", daemon=True).start()
