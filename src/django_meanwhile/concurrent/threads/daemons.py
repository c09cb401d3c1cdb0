"""Threads that keep nobody from ending: those of the pools, and those beside them.

A subinterpreter has no daemons, and what runs in one may need such a thread all the same: there it is an ordinary one.
So whoever starts it sees to it that it ends by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def daemon(target: Callable[..., object], *args: Any, name: str) -> threading.Thread:
    """Return such a thread, not started yet."""
    thread = threading.Thread(target=target, args=args, name=name)
    make_daemon(thread)
    return thread


def make_daemon(thread: threading.Thread) -> None:
    """Have a thread that was not started yet keep nobody from ending."""
    with suppress(RuntimeError):  # a subinterpreter has no daemons
        thread.daemon = True
