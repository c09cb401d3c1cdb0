"""The first chapters: one report started in three ways, what the others feel, and two reports at once."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

from .pulse import Pulse
from .server import Server, until
from .told import Told, milliseconds, percentile
from .visitor import Job, Visitor

ROUNDS = 3
SECONDS_OF_WORK = 1.2
PLACE = "Fjellby"


@dataclass
class Way:
    """What was measured of one way to start a report."""

    name: str
    answers: list[float] = field(default_factory=list)
    felt: list[float] = field(default_factory=list)

    def line(self) -> str:
        """Return a row of the table."""
        answer = milliseconds(statistics.median(self.answers)) if self.answers else ""
        felt = f"{milliseconds(percentile(self.felt, 50)):>10}{milliseconds(percentile(self.felt, 99)):>12}"
        return f"    {self.name:<22}{answer:>14}{felt:>12}"


def enough_work(visitor: Visitor) -> int:
    """Return how many resamples this machine needs for a report of about a second."""
    sample = 10_000
    took = [_block(visitor, sample) for _ in range(3)]
    return max(sample, round(sample * SECONDS_OF_WORK / min(took) / 1000) * 1000)


def three_ways(told: Told, server: Server, visitor: Visitor, resamples: int) -> None:
    """Start the same report in the view, in a bare thread and as a job."""
    told.chapter(f"One report, started in three ways ({resamples} resamples in pure Python)")
    idle, view, thread, job = Way("nothing goes on"), Way("in the view"), Way("in a bare thread"), Way("as a job")
    with Pulse(server.port) as pulse:
        time.sleep(2)
    idle.felt = pulse.took
    for _ in range(ROUNDS):
        with Pulse(server.port) as pulse:
            view.answers.append(_block(visitor, resamples))
        view.felt += pulse.took
        with Pulse(server.port) as pulse:
            thread.answers.append(_start_thread(visitor, resamples))
            until(lambda: not computing(visitor), "the bare thread is done")
        thread.felt += pulse.took
        with Pulse(server.port) as pulse:
            started = visitor.start("report", place=PLACE, resamples=resamples)
            job.answers.append(started.answered_after)
            seen = started.end()
        job.felt += pulse.took
    told.say(f"    {'median of ' + str(ROUNDS):<22}{'answered after':>14}{'others: p50':>12}{'p99':>12}")
    for way in (idle, view, thread, job):
        told.say(way.line())
    _look_at_the_report(told, server, visitor, started, seen)


def _look_at_the_report(told: Told, server: Server, visitor: Visitor, job: Job, seen: dict[str, Any]) -> None:
    told.hold(
        "the job has a result",
        seen["state"] == "SUCCESSFUL",
        f"{seen['value']['trend']:+.2f} °C in a decade at {PLACE}; the thread's and the view's are nowhere",
    )
    file = visitor.get(f"{job.path}file/")
    told.hold("its owner downloads the file", file.status == 200 and b"<svg" in file.body, f"{len(file.body)} bytes")
    stranger = Visitor(server.port).get(f"{job.path}file/").status
    told.hold("another visitor does not", stranger == 404, f"status {stranger}")


def two_at_once(told: Told, visitor: Visitor, resamples: int) -> None:
    """Two reports on one core, and on two."""
    told.chapter("Two reports at once")
    few = max(1000, resamples // 2)
    threads, jobs, ends = ([], []), ([], []), []
    for _ in range(ROUNDS):
        for count in (1, 2):
            threads[count - 1].append(_threads(visitor, few, count))
            seconds, ends = _jobs(visitor, few, count)
            jobs[count - 1].append(seconds)
    for name, (alone, both) in {"bare threads, one lock": threads, "jobs, a process each": jobs}.items():
        one, two = statistics.median(alone), statistics.median(both)
        told.say(f"    {name + ':':<24} one {one:.2f} s, two {two:.2f} s: {two / one:.1f} times as long")
    done = sum(end["state"] == "SUCCESSFUL" for end in ends)
    processes = sorted({str(end["value"]["process"]) for end in ends if end["value"]})
    told.hold("both reports are done", done == 2, f"in processes {' and '.join(processes)}")


def _threads(visitor: Visitor, resamples: int, count: int) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        _start_thread(visitor, resamples)
    until(lambda: not computing(visitor), "the bare threads are done")
    return time.perf_counter() - begun


def _jobs(visitor: Visitor, resamples: int, count: int) -> tuple[float, list[dict[str, Any]]]:
    begun = time.perf_counter()
    jobs = [visitor.start("report", place=PLACE, resamples=resamples) for _ in range(count)]
    ends = [job.end() for job in jobs]
    return time.perf_counter() - begun, ends


def _block(visitor: Visitor, resamples: int) -> float:
    return _naive(visitor, "blocking", resamples, "Report generated!")


def _start_thread(visitor: Visitor, resamples: int) -> float:
    return _naive(visitor, "thread", resamples, "Report generation started!")


def _naive(visitor: Visitor, way: str, resamples: int, says: str) -> float:
    answer = visitor.post(f"/naive/{way}/", {"place": PLACE, "resamples": resamples}, "text/plain")
    if (answer.status, answer.text) != (200, says):
        raise RuntimeError(f"POST /naive/{way}/: expected {says!r}, got {answer.status}: {answer.beginning}")
    return answer.seconds


def start_endless_thread(visitor: Visitor) -> None:
    """Start a bare thread that would compute for hours."""
    _start_thread(visitor, 1_000_000_000)


def computing(visitor: Visitor) -> int:
    """Return how many bare threads compute in the server."""
    found: int = json.loads(visitor.get("/naive/threads/", "application/json").body)["computing"]
    return found
