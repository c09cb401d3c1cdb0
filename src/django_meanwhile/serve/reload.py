"""Changed files, as runserver watches them: with Django's own reloader, in the process that has loaded the code.

Started by ``application`` where ``reload`` is on. A template or a translation is only forgotten, as under runserver;
anything else is told to the first process, which replaces this one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from django.utils import autoreload


def watch(on_change: Callable[[], None]) -> None:
    """Watch in a thread from now on; call ``on_change`` once, there."""
    threading.Thread(target=_watch, args=(on_change,), name="meanwhile-reload", daemon=True).start()


def _watch(on_change: Callable[[], None]) -> None:
    reloader = autoreload.get_reloader()
    try:
        # It waits until Django is set up, for as long as this thread lives: it is set up, or never will be.
        reloader.run(threading.Thread())
    except SystemExit:  # how it says that a file has changed
        on_change()


def remembering_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have a file watched that ``function`` cannot load, though no module came of it."""

    def remembering(*args: Any) -> Any:
        kept = []
        autoreload.check_errors(lambda: kept.append(function(*args)))()  # it returns nothing
        return kept[0]

    return remembering


def announce() -> None:
    """Say to the project's code what runserver says: this is the process that is replaced when a file changes."""
    os.environ[autoreload.DJANGO_AUTORELOAD_ENV] = "true"
