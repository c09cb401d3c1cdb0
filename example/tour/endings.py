"""The second part: a coroutine that waits for many, a retry, a timeout, a poisonous task, a cancel, a slow query."""

from __future__ import annotations

import time

from .told import Told
from .visitor import Visitor


def endings(told: Told, visitor: Visitor) -> None:
    """Press the five buttons, and see how each job ends."""
    told.chapter("Jobs that wait, fail, overrun, crash and are called off")
    many = visitor.start("fan-out")
    fails = visitor.start("retry")
    endless = visitor.start("timeout")
    poison = visitor.start("poison")
    query = visitor.start("query", wet="0")

    seen = many.end()
    value = seen["value"] or {}
    told.hold(
        "a coroutine waits for 100 stations, half a second each, at once",
        value.get("stations") == 100 and value["seconds"] < 50,
        f"{value.get('seconds', 0):.2f} s in all",
    )
    seen = query.end()
    told.hold("a slow query ran in a thread of the worker", len(seen["value"] or []) == 12,
              f"{len(seen['value'] or [])} rows after {seen['ran']:.1f} s")  # fmt: skip
    seen = fails.end()
    told.hold(
        "a task that fails twice is retried",
        seen["state"] == "SUCCESSFUL" and seen["attempts"] == 3,
        f"{seen['state']} at attempt {seen['attempts']}",
    )
    seen = endless.end()
    told.hold(
        "a task that never returns is stopped by its timeout of 2 s",
        seen["state"] == "FAILED" and seen["failures"] == ["TaskTimeout"],
        f"{seen['state']}, {', '.join(seen['failures'])} after {seen['ran']:.1f} s",
    )
    seen = poison.end()
    told.hold(
        "a task that kills its process is put in quarantine",
        seen["state"] == "QUARANTINED" and seen["failures"][-1] == "Crashed",
        f"{seen['state']} after {len(seen['failures'])} crashes",
    )
    _cancel(told, visitor)


def _cancel(told: Told, visitor: Visitor) -> None:
    long = visitor.start("cancel")
    long.until("runs", lambda seen: seen["state"] == "RUNNING")
    begun = time.perf_counter()
    long.cancel()
    seen = long.end()
    told.hold("a running task of ten minutes is cancelled", seen["state"] == "CANCELLED",
              f"{seen['state']} {time.perf_counter() - begun:.2f} s after the button was pressed")  # fmt: skip
