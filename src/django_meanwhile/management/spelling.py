"""Is the name that somebody typed a task's? Asked by ``list``, ``retry`` and ``cancel`` once no job has it."""

from __future__ import annotations

import difflib

from ..core.errors import UnknownTask
from ..logs import escape
from ..tasks.registry import known_names, resolve

SHOWN = 5


def unknown_task(name: str | None) -> str | None:
    """Return a sentence if this code has no task of that name, with the name that was meant; None if it has one.

    Jobs of a task that is gone are still found by its name: ask only if none were.
    """
    if name is None:
        return None
    try:
        resolve(name)
    except UnknownTask:
        return f"--task {escape(name)}: this code has no task of that name. {_suggestion(name)}"
    return None


def _suggestion(name: str) -> str:
    known = sorted(known_names())
    meant = [full for full in known if full.endswith(f".{name}")]  # the function's name alone
    near = meant or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"Did you mean {_listed(near, 'or')}?"
    return f"There is: {_listed(known, 'and')}." if known else "It has no task at all: is the app in INSTALLED_APPS?"


def _listed(names: list[str], conjunction: str) -> str:
    quoted = [f'"{escape(name)}"' for name in names[:SHOWN]]
    if len(names) > SHOWN:
        quoted.append(f"{len(names) - SHOWN} more")
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} {conjunction} {quoted[-1]}"
