"""Tasks that tests run in real workers. What truly happened stands in a file outside the database.

Each line of the ground truth is written by one ``os.write`` to a file opened with O_APPEND, so it is there even if the
process is killed by the next instruction: ``begin KEY PID MONOTONIC`` and ``end KEY PID MONOTONIC``.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.utils import timezone, translation

from django_meanwhile import Retry, task

from .models import Mark


def truth_file() -> Path:
    return Path(os.environ["MEANWHILE_TEST_PATH"]) / "truth.log"


def tell(word: str, key: object) -> None:
    fd = os.open(truth_file(), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, f"{word} {key} {os.getpid()} {time.monotonic():.6f}\n".encode())
    finally:
        os.close(fd)


@task
def nothing() -> None:
    pass


@task
async def nothing_async() -> None:
    pass


@task(executor="process")
def nothing_process() -> None:
    pass


@task
def add(a, b):
    return a + b


@task
def pause(key, seconds=0.0):
    tell("begin", key)
    time.sleep(seconds)
    tell("end", key)
    return key


@task
async def pause_async(key, seconds=0.0):
    tell("begin", key)
    await asyncio.sleep(seconds)
    tell("end", key)
    return key


@task(executor="process")
def pause_process(key, seconds=0.0):
    tell("begin", key)
    time.sleep(seconds)
    tell("end", key)
    return key


@task(executor="process", takes_context=True)
def crunch(context, key, seconds):
    """Keep one core busy, in pure Python."""
    tell("begin", key)
    end = time.monotonic() + seconds
    n = 0
    while time.monotonic() < end:
        n += sum(range(1000)) % 7
        context.progress(time.monotonic() - end + seconds, seconds, "crunching")
    tell("end", key)
    return n


def count_up(key, seconds):
    """What ``crunch`` does, as a plain function."""
    tell("begin", key)
    end = time.monotonic() + seconds
    n = 0
    while time.monotonic() < end:
        n += sum(range(1000)) % 7
    tell("end", key)


@task(takes_context=True)
def listen(context, key, seconds=60):
    """Run until told to stop, looking every 10 ms."""
    tell("begin", key)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            context.raise_if_stopped()
            time.sleep(0.01)
    finally:
        tell("end", key)


@task(takes_context=True)
def report_progress(context, key, steps, seconds):
    tell("begin", key)
    for n in range(steps):
        context.progress(n + 1, steps, f"step {n + 1}")
        time.sleep(seconds / steps)
    tell("end", key)


@task(timeout=1)
def deaf(key, seconds):
    """A blocked C call that no flag reaches."""
    tell("begin", key)
    time.sleep(seconds)
    tell("end", key)


@task(timeout=5)
def catastrophic(key):
    """A regular expression that holds the GIL for minutes."""
    tell("begin", key)
    re.match(r"(a+)+$", "a" * 40 + "b")
    tell("end", key)


@task(timeout=1)
async def swallows_cancellation(key, seconds):
    tell("begin", key)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)
    tell("end", key)


@task(executor="process", timeout=1)
def deaf_process(key, seconds):
    """Swallows whatever is raised into it."""
    tell("begin", key)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(Exception):
            time.sleep(0.05)
    tell("end", key)


@task(executor="process")
def leaves_processes(key):
    """Start a program with all descriptors inherited, and fork; both outlive the worker."""
    subprocess.Popen(["sleep", "30"], close_fds=False)
    if os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    tell("end", key)


@task(executor="process")
def kills_its_process(key):
    tell("begin", key)
    os.kill(os.getpid(), signal.SIGKILL)


@task
def kills_its_thread_process(key):
    tell("begin", key)
    os.kill(os.getpid(), signal.SIGKILL)


@task(executor="process", on_crash="fail")
def charge_card(key):
    tell("begin", key)
    os.kill(os.getpid(), signal.SIGKILL)


@task(max_attempts=3, backoff=lambda _error, _result: 0.05, takes_context=True)
def fails_until(context, key, attempt):
    tell("begin", key)
    if context.attempt < attempt:
        raise RuntimeError(f"attempt {context.attempt}")
    return context.attempt


@task(max_attempts=2)
def asks_to_be_retried(key):
    tell("begin", key)
    raise Retry("not yet", after=0.05)


@task
def fails(text="no luck"):
    raise ValueError(text)


@task
def unserialisable():
    return object()


@task
def exits():
    raise SystemExit(3)


@task
def write_mark(text):
    Mark.objects.create(text=text)


@task
async def write_mark_async(text):
    await Mark.objects.acreate(text=text)


@task
def leaves_a_mess():
    """Leave everything behind that the next job must not meet."""
    translation.activate("de")
    timezone.activate("Asia/Tokyo")
    connection.set_autocommit(False)
    Mark.objects.create(text="never committed")


@task
def surroundings():
    return {
        "language": translation.get_language(),
        "time_zone": timezone.get_current_timezone_name(),
        "in_transaction": not connection.get_autocommit(),
        "queries": len(connection.queries_log),
        "pid": os.getpid(),
        "pool": "pool" in settings.DATABASES["default"].get("OPTIONS", {}),
    }
