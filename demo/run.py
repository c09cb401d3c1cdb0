"""`make demo`: a web server, a worker, and what happens to the work. Exits 1 if anything does not hold.

Everything is real: a server answering over HTTP, a worker of several processes, SIGKILL. The database is an SQLite
file in a temporary directory.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PATIENCE = 30.0
failures: list[str] = []


def say(text: str) -> None:
    print(text, flush=True)


def hold(what: str, truth: object, seen: str) -> None:
    """Print one line of the tour; remember what does not hold."""
    say(f"  {'✓' if truth else '✗'} {what}: {seen}")
    if not truth:
        failures.append(what)


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for something in another process."""
    end = time.monotonic() + PATIENCE
    while not (answer := condition()):
        if time.monotonic() > end:
            sys.exit(f"waited {PATIENCE:g} s in vain: {what}")
        time.sleep(0.02)
    return answer


@contextmanager
def running(log: Path, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a management command beside us, its output in a file; end it with the block."""
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "manage.py", *args], cwd=HERE, stdout=output, stderr=output)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(PATIENCE)


def get(url: str) -> tuple[int, dict[str, Any], float]:
    """Return status, JSON and milliseconds of one request."""
    begun = time.perf_counter()
    with urllib.request.urlopen(url, timeout=10) as response:
        body = json.load(response)
    return response.status, body, (time.perf_counter() - begun) * 1000


def answers(url: str) -> bool:
    """Whether a server listens there yet."""
    try:
        urllib.request.urlopen(url, timeout=1).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def tour_of_the_view(site: str) -> None:
    """The view answers; meanwhile, the work goes on."""
    say("\nA view starts a CPU-bound report and answers at once")
    get_report = f"{site}/reports/new/?rounds=1000"
    get(get_report.replace("1000", "1"))  # the first request imports; later ones show the truth
    status, body, milliseconds = get(get_report)
    hold("the response is out", status == 202, f"status {status} after {milliseconds:.1f} ms")
    report = f"{site}/reports/{body['job']}/"
    seen = until(lambda: (p := get(report)[1])["percent"] and p, "the report reports progress")
    hold("the work goes on in a process of its own", True, f"{seen['state']}, {seen['percent']:.0f} % done")
    slowest = max(get(report)[2] for _ in range(20))
    hold("the site is not slowed down", slowest < 1000, f"slowest of 20 requests meanwhile: {slowest:.1f} ms")
    done = until(lambda: (p := get(report)[1])["state"] == "SUCCESSFUL" and p, "the report is done")
    hold("the result is there", done["value"]["pages"] == 1000, json.dumps(done["value"]))


def tour_of_the_endings() -> None:
    """Retry, event loop, timeout, cancel."""
    from reports import tasks

    say("\nJobs that fail, wait, overrun and are called off")
    retried = tasks.fetch_rates.enqueue()
    many = tasks.ask_many_services.enqueue(50)
    endless = tasks.never_ends.enqueue()
    begun = time.perf_counter()
    many.wait(timeout=PATIENCE)
    hold("an async task waits for 50 services of 0.2 s at once", many.return_value == 50,
         f"{time.perf_counter() - begun:.2f} s")  # fmt: skip
    retried.wait(timeout=PATIENCE)
    hold("a failing task is retried", retried.attempts == 3, f"{retried.state.name}, {retried.return_value!r}")
    endless.wait(timeout=PATIENCE)
    error = endless.errors[-1].exception_class_path.rpartition(".")[2]
    hold("a task that never ends is stopped by its timeout", error == "TaskTimeout",
         f"{endless.state.name}, {error} after {endless.finished_at - endless.started_at}")  # fmt: skip
    long = tasks.long_report.enqueue(60.0)
    until(lambda: long.refresh() or long.state.name == "RUNNING", "the long report runs")
    begun = time.perf_counter()
    long.cancel()
    long.wait(timeout=PATIENCE)
    seconds = time.perf_counter() - begun
    hold("a running task is cancelled", long.state.name == "CANCELLED", f"{long.state.name} after {seconds:.2f} s")


def tour_of_the_crash(log: Path, worker: subprocess.Popen[bytes], stack: ExitStack) -> None:
    """SIGKILL in the middle, and nothing is lost."""
    from reports import tasks

    say("\nThe worker is killed in the middle")
    results = tasks.long_report.enqueue_many([(0.5,)] * 12)
    until(lambda: _done(results) >= 2, "some are done")
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    say(f"    SIGKILL to the worker with {_done(results)} of 12 reports done; another one is started")
    begun = time.perf_counter()
    stack.enter_context(running(log, "meanwhile", "worker"))
    until(lambda: _done(results) == 12, "all are done")
    again = sum(len(result.attempt_log) for result in results)
    hold("no report is lost", _done(results) == 12,
         f"12 of 12 {time.perf_counter() - begun:.1f} s later, {again} of them begun again")  # fmt: skip


def _done(results: list[Any]) -> int:
    for result in results:
        result.refresh()
    return sum(result.state.name == "SUCCESSFUL" for result in results)


def main() -> int:
    """Set up, show, tidy up."""
    with tempfile.TemporaryDirectory(prefix="meanwhile-demo-") as directory, ExitStack() as stack:
        os.environ |= {"DEMO_DIRECTORY": directory, "DJANGO_SETTINGS_MODULE": "settings"}
        sys.path.insert(0, str(HERE))
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        log = Path(directory) / "log.txt"
        port = free_port()
        worker = stack.enter_context(running(log, "meanwhile", "worker"))
        stack.enter_context(running(log, "runserver", "--noreload", "--skip-checks", str(port)))
        site = f"http://127.0.0.1:{port}"
        say(f"django-meanwhile on Django {django.get_version()}, Python {sys.version.split()[0]}, SQLite")
        try:
            until(lambda: answers(f"{site}/"), "the server answers")
            until(lambda: "is ready" in log.read_text(), "the worker is ready")
            tour_of_the_view(site)
            tour_of_the_endings()
            tour_of_the_crash(log, worker, stack)
        finally:
            stack.close()
            if failures or sys.exc_info()[0]:
                say(f"\nWhat the server and the worker said:\n{log.read_text()}")
    say(f"\n{len(failures)} of the above did not hold: {', '.join(failures)}" if failures else "\nAll of it held.")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
