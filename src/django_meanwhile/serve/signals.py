"""A server process heeds its first signal, once, and ends without a noise.

Ctrl-C reaches all processes of a terminal's group, and a service manager may signal each of them; the first process
then asks for the end as well. SIGINT is the first process's business alone, and of SIGTERM one is enough. More are too
many: Granian's handlers write to a channel that has room for two, and the third signal waits there, with the GIL, for
ever. Called by ``application.load``, in the new process, before Granian sets its own handlers.

Python runs a handler in the main thread, once that comes back to Python's code. A thread that has just begun to wait
for a lock does not: a signal that comes in that very moment is handled when the next one comes. The threads of a server
process that has just begun to answer made that one in fifty on a busy machine. So the first process repeats SIGTERM
until a process ends, and hears its own signals by ``hear``.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

_told: list[int] = []


def heed_once(on_end: Callable[[], Any]) -> None:
    """Have Granian set our handlers where it would set its own; call ``on_end`` at the one signal, too."""
    from granian import _signals  # noqa: PLC0415 - this module is imported where there may be no Granian
    from granian._granian import WorkerSignal  # noqa: PLC0415 - as above

    def in_loop(loop: asyncio.AbstractEventLoop) -> Any:
        event = WorkerSignal()
        for number in _numbers():
            try:
                loop.add_signal_handler(number, _end, event.set, on_end)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_: _end(event.set, on_end))
        return event

    def in_thread() -> Any:
        event = WorkerSignal()
        for number in _numbers():
            signal.signal(number, lambda *_: _end(event.set, on_end))
        return event

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _signals.set_loop_signals, _signals.set_sync_signals = in_loop, in_thread
    atexit.register(_leave)  # the first to be registered by this process's own code is the last to be called


def hear(numbers: Iterable[int], heed: Callable[[int], object]) -> None:
    """Have a thread call ``heed`` with each of these signals that comes, whatever the main thread does, the caller.

    Python writes a byte for it at the signal itself. Not for server processes: those that the project forks would write
    theirs to the same place.
    """
    numbers = frozenset(numbers)
    ear, mouth = socket.socketpair()  # and no pipe: on Windows Python writes to sockets only
    mouth.setblocking(False)
    for number in numbers:
        signal.signal(number, lambda *_: None)  # without a handler Python would not write
    signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)

    def listen() -> None:
        while mouth.fileno() != -1:
            number = ear.recv(1)[0]
            if number in numbers:
                heed(number)

    threading.Thread(target=listen, name="meanwhile-signals", daemon=True).start()


def _end(*functions: Callable[[], Any]) -> None:
    if not _told:
        _told.append(os.getpid())
        for function in functions:
            function()


def _leave() -> None:
    """End here if that was asked for.

    The thread of Granian's that has told the main thread of the end comes back to the interpreter to drop what it has,
    while that takes itself apart. Python ends such a thread, which Rust answers by aborting the process, with a page of
    text.
    """
    if _told == [os.getpid()]:  # not in a process that this one has forked
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _numbers() -> list[int]:
    return [getattr(signal, name) for name in ("SIGTERM", "SIGBREAK") if hasattr(signal, name)]
