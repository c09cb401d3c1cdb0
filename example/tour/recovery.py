"""The last part: SIGKILL, to the server and then to everything, in the middle of the work."""

from __future__ import annotations

import time
from typing import Any

from .server import Server, lives, until
from .told import Told
from .visitor import Job, Visitor
from .ways import PLACE, computing, start_endless_thread

REPORTS = 4
Seen = dict[str, Any]


def killed_server(told: Told, server: Server, visitor: Visitor, resamples: int) -> None:
    """The server dies; its worker gives the jobs back and goes; the next server brings another."""
    told.chapter("The server is killed in the middle: SIGKILL")
    start_endless_thread(visitor)
    jobs = _start(visitor, resamples)
    before = _look(jobs)
    told.say(f"    SIGKILL to the server, with {_running(before)} of {REPORTS} reports running; another one is started")
    _recovered(told, server, jobs, before, server.kill())
    left = computing(visitor)
    told.hold(
        "the bare thread that was computing is lost without a trace", left == 0, f"{left} threads, no error, no row"
    )


def killed_tree(told: Told, server: Server, visitor: Visitor, resamples: int) -> None:
    """The server, its worker and the worker's children die at once: nobody can give anything back."""
    told.chapter("Everything is killed in the middle: server, worker and its children")
    jobs = _start(visitor, resamples)
    before = _look(jobs)
    told.say(
        f"    SIGKILL to all of it, with {_running(before)} of {REPORTS} reports running; another server is started"
    )
    _recovered(told, server, jobs, before, server.kill_all())


def _start(visitor: Visitor, resamples: int) -> list[Job]:
    """Start some reports; return when one of them is under way."""
    jobs = [visitor.start("report", place=PLACE, resamples=resamples) for _ in range(REPORTS)]
    until(lambda: any(job.status()["percent"] for job in jobs), "a report is under way")
    return jobs


def _recovered(told: Told, server: Server, jobs: list[Job], before: list[Seen], old: list[int]) -> None:
    """Start another server, and see that everything is done."""
    up = server.start()
    begun = time.monotonic()

    def runs_again() -> bool:
        """Whether every report that was running has been begun anew since, or is done."""
        return all(
            then["state"] != "RUNNING" or now["epoch"] > then["epoch"] or now["finished"]
            for then, now in zip(before, _look(jobs), strict=True)
        )

    until(runs_again, "the reports that were running run again")
    again = time.monotonic() - begun
    ends = [job.end() for job in jobs]
    told.say(
        f"    it answered after {up:.1f} s; what ran before ran again {again:.1f} s later, and all "
        f"{REPORTS} were done {time.monotonic() - begun:.1f} s after it was up"
    )
    done = sum(seen["state"] == "SUCCESSFUL" for seen in ends)
    told.hold("no report is lost", done == REPORTS, f"{done} of {REPORTS} done")
    told.hold("none was charged an attempt for it", all(seen["attempts"] == 1 for seen in ends),
              f"{sum(len(seen['failures']) for seen in ends)} begun again")  # fmt: skip
    ghosts = [pid for pid in old if lives(pid)]
    told.hold("no process of the old server is left", not ghosts, f"{len(old) - len(ghosts)} of {len(old)} are gone")


def _running(looks: list[Seen]) -> int:
    return sum(seen["state"] == "RUNNING" for seen in looks)


def _look(jobs: list[Job]) -> list[Seen]:
    return [job.status() for job in jobs]
