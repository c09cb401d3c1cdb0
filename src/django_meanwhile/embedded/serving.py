"""Is this a process that serves requests, and may it bring a worker along?

Looks at the command line, at what is imported, and at who sends ``request_started``. Decides, starts nothing.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .. import logs

logger = logs.get_logger("worker")

KNOWN_SERVERS = frozenset({"daphne", "granian", "hypercorn", "uvicorn", "waitress-serve"})
"""Their processes serve, so that an enqueue before the first request counts. Not gunicorn: its master may preload."""

_RUNSERVERS = frozenset({"runserver", "runserver_plus"})
_TESTING = (["test"], ["testserver"])
_OF_A_WORKER = ("django_meanwhile.worker.supervisor", "django_meanwhile.worker.boot", "django_meanwhile.embedded.boot")
_OF_A_MAP = "django_meanwhile.concurrent.maps.callee"
_ONLY_ASK = frozenset({"-h", "--help", "--version"})


def is_runserver() -> bool:
    """Whether ``runserver`` serves here: with autoreload, its second process, which is started anew each time.

    Or ``serve``, as it does in development.
    """
    words = sys.argv[1:]
    if words[:1] == ["serve"]:  # ours: its processes know it of themselves if files are watched, and the first is none
        return os.environ.get("RUN_MAIN") == "true"
    if not words or words[0] not in _RUNSERVERS or _ONLY_ASK & set(words):
        return False
    return "--noreload" in words or os.environ.get("RUN_MAIN") == "true" or "WERKZEUG_RUN_MAIN" in os.environ


def is_known_server() -> bool:
    """Whether the command line is that of a server whose every process that loads Django serves requests."""
    main = Path(sys.argv[0]) if sys.argv else Path()
    name = main.parent.name if main.stem == "__main__" else main.stem
    return name in KNOWN_SERVERS


def never_serves() -> bool:
    """Whether this process must never bring a worker along: tests, and a worker's own processes.

    Nor a subinterpreter or process of ``parallel_map()``, which has a command line like the server's.
    """
    # Where setup_test_environment() keeps what it has replaced. mail.outbox would not do: any mail may make one.
    tests = getattr(sys.modules.get("django.test.utils"), "_TestState", None)
    is_tested = hasattr(tests, "saved_data") or sys.argv[1:2] in _TESTING
    is_callee = getattr(sys.modules.get(_OF_A_MAP), "is_callee", False)
    return is_tested or is_callee or any(module in sys.modules for module in _OF_A_WORKER)


def is_possible() -> bool:
    """Whether this system and these settings can have an embedded worker; if not, say why."""
    if find_spec("fcntl") is None:
        logger.warning(
            'MEANWHILE["EMBEDDED"] needs file locks of POSIX: run beside the server: manage.py meanwhile worker'
        )
        return False
    if patched := _patched_by():
        logger.warning(
            'MEANWHILE["EMBEDDED"]: there is no embedded worker in a process whose threads %s has replaced. '
            "Run beside the server: manage.py meanwhile worker",
            patched,
        )
        return False
    if "DJANGO_SETTINGS_MODULE" not in os.environ:
        logger.warning(
            'MEANWHILE["EMBEDDED"]: the worker is a process of its own and imports the settings by the name in '
            "DJANGO_SETTINGS_MODULE, which is not set: settings.configure() cannot reach it. Set the variable."
        )
        return False
    return True


def is_real(sender: Any) -> bool:
    """Whether ``request_started`` came from a server's handler, and not from the test client."""
    from django.core.handlers.base import BaseHandler  # noqa: PLC0415 - slow, and loaded by the time this is called

    if not isinstance(sender, type) or not issubclass(sender, BaseHandler):
        return False
    return not any(cls.__module__.startswith("django.test.") for cls in sender.__mro__)


def _patched_by() -> str | None:
    """Return the name of the library that has put its own in place of threads and processes."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return None
