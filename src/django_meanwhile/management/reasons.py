"""Why a run did not succeed, in one line: the exception's class and the first line of its message. Pure.

Used by ``listing``. The row of an attempt has the class; the message stands at the end of the stored traceback, as
Python prints it, or there is no traceback but a sentence of ours on how a process died.
"""

from __future__ import annotations

import re

LONGEST = 200
"""Characters of a message that are kept."""

HEAD, TAIL = 500, 4000
"""Characters at the beginning and at the end of a stored detail that are enough to find it."""

_UNPRINTED = ("builtins.", "__main__.")
"""Modules that Python leaves out of the last line of a traceback."""

_TRACEBACK = re.compile(r"\s*(?:\+ Exception Group )?Traceback \(most recent call last\)")


def printed_class(path: str) -> str:
    """Return the name of an exception's class as Python prints it: ``ValueError``, ``shop.errors.Declined``."""
    for module in _UNPRINTED:
        path = path.removeprefix(module)
    return path


def message(path: str, head: str, tail: str) -> str:
    """Return the first line of the message of the exception of that class, "" if it cannot be found.

    ``head`` and ``tail`` are the two ends of the stored detail, which may overlap.
    """
    # The last such line: causes stand before it. What follows is the rest of the message, and notes of ours.
    lines = re.findall(rf"^(?:  \| )?{re.escape(printed_class(path))}(?:: (.*))?$", tail, re.MULTILINE)
    if lines:
        found = lines[-1]
    else:
        found = "" if _TRACEBACK.match(head) else next((line for line in head.splitlines() if line.strip()), "")
    found = found.strip()
    return found if len(found) <= LONGEST else f"{found[:LONGEST]}..."
