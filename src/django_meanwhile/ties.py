"""What ties a child process to the process that started it, and to nothing else.

Called at the very start of a child, before Django is set up: by a worker's children and by those of ``processes``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import sysconfig
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import FrameType

_PR_SET_PDEATHSIG = 1


def interpreter() -> str:
    """Return the Python to start a child with: under mod_wsgi and uWSGI ``sys.executable`` is the server.

    Raises ``FileNotFoundError``, which lists where it was looked for.
    """
    name = f"python{sysconfig.get_python_version()}"
    places = [Path(prefix) / "bin" / name for prefix in (sys.prefix, sys.base_prefix)]
    executable = Path(sys.executable)
    if executable.name.startswith(("python", "pypy")):
        places.insert(0, executable)
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise FileNotFoundError(f"no Python to run it with: none of {', '.join(map(str, places))} exists.")
    return str(found)


def die_with(parent: int, *, what: str = "supervisor") -> None:
    """Have the kernel kill this process with its parent (Linux; elsewhere a pipe tells).

    The signal is armed for the *thread* that forked us: whoever starts children does so from one thread that outlives
    them. If the parent died before we got here, nobody would send it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(f"the {what} {parent} ended before its child started")


def keep_to_ourselves(descriptors: Iterable[int]) -> None:
    """Keep inherited descriptors from what the user's code starts: neither exec nor fork may take them along.

    Somebody waits for the end of file or for the lock that they hold.
    """
    ours = tuple(descriptors)
    for descriptor in ours:
        os.set_inheritable(descriptor, False)

    def close() -> None:
        for descriptor in ours:
            with suppress(OSError):
                os.close(descriptor)

    os.register_at_fork(after_in_child=close)


def leave_signals_to_the_parent() -> None:
    """Survive Ctrl-C and a service manager's signal, which go to the whole group: the parent says when to end."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            # A function, not SIG_IGN, which the user's own subprocesses would inherit.
            signal.signal(getattr(signal, name), _left_to_the_parent)


def describe_status(status: int) -> str:
    """Return ``-9 (SIGKILL)`` for a signal, the number for an exit."""
    if status >= 0:
        return str(status)
    try:
        name = signal.Signals(-status).name
    except ValueError:
        return str(status)
    return f"{status} ({name})"


def _left_to_the_parent(_signum: int, _frame: FrameType | None) -> None:
    pass
