"""Functions that maps call in processes: they must be importable there."""

import os
import signal
import sys
import time
from pathlib import Path

from django.db import connection
from django.utils import timezone, translation

from tests.project import tenants
from tests.project.models import Mark

SECRET = 7


def double(n):
    return n * 2


def burn(n):
    """Keep a core busy, and return what depends on every step."""
    total = 0
    for i in range(n):
        total = (total * 31 + i) % 1_000_003
    return total


def pid(_item):
    return os.getpid()


def parent(_item):
    return os.getppid()


def surroundings(_item):
    return {
        "language": translation.get_language(),
        "time_zone": timezone.get_current_timezone_name(),
        "tenant": tenants.current.get(),
    }


def count_marks(_item):
    return Mark.objects.count()


def write_mark(text):
    return Mark.objects.create(text=text).pk


def is_connected(_item):
    return connection.connection is not None


def descriptors(_item):
    """Say what this process has open: what each descriptor leads to."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        try:
            found[int(path.name)] = str(path.readlink())
        except OSError:
            continue
    return found


def environment(_item):
    return {"main": getattr(sys.modules["__main__"], "__file__", None), "path": sys.path, "stdin": sys.stdin.read()}


def fail_at(n):
    if n == 3:
        raise KeyError("three")
    return n


class Odd(Exception):
    """An exception that cannot be read back: its class wants two arguments."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def odd(_item):
    raise Odd(1, 2)


def unpicklable(_item):
    return lambda: None


def unpicklable_at(n):
    return (lambda: None) if n == 2 else n


def leave(status):
    sys.exit(status)


def vanish(status):
    os._exit(status)


def die(n):
    if n == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def interrupt(_item):
    raise KeyboardInterrupt


def wait_for(path):
    """Say who waits, and wait until the file is there."""
    Path(f"{path}.{os.getpid()}").touch()
    while not Path(path).exists():
        time.sleep(0.01)
    return os.getpid()


def spin(path):
    """Say who spins; never end."""
    Path(f"{path}.{os.getpid()}").touch()
    while True:
        pass


def spin_or_double(value):
    return spin(value) if isinstance(value, str) else double(value)


def nested(n):
    from django_meanwhile.concurrent import parallel_map

    return [os.getpid() == found for found in parallel_map(pid, range(n), executor="process")]


def leaves_a_process(_item):
    """Fork, as user code may; the copy outlives the call."""
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    return child


async def adouble(n):
    return n * 2
