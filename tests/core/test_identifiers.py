"""Ids that sort by the time of their making: version 7 of RFC 9562."""

import itertools
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from uuid import RFC_4122, UUID

import pytest

import django_meanwhile
from django_meanwhile.core import identifiers
from django_meanwhile.core.identifiers import uuid7


def milliseconds(value: UUID) -> int:
    return value.int >> 80


@pytest.fixture
def host_clock(monkeypatch):
    """The host's clock, in nanoseconds, in the hands of the test. The newest id is forgotten."""
    clock = SimpleNamespace(now=1_800_000_000_000_000_000)
    monkeypatch.setattr(identifiers, "time", SimpleNamespace(time_ns=lambda: clock.now))
    monkeypatch.setattr(identifiers, "_last", 0)
    return clock


def test_version_and_variant_are_those_of_rfc_9562():
    """Every id says version 7 and variant 10, so that any tool can read the time in it."""
    for _ in range(1000):
        value = uuid7()
        assert value.version == 7
        assert value.variant == RFC_4122


def test_the_first_48_bits_are_unix_milliseconds():
    """The time in an id is that of the host, to the millisecond."""
    before = time.time_ns() // 1_000_000
    value = uuid7()
    assert before <= milliseconds(value) <= time.time_ns() // 1_000_000 + 1


def test_ids_increase_strictly_whatever_the_clock_does(host_clock):
    """Within one nanosecond, and also when the clock is set back by an hour, each id is above the one before."""
    values = [uuid7() for _ in range(10_000)]
    host_clock.now -= 3600 * 10**9
    values += [uuid7() for _ in range(10_000)]
    host_clock.now += 7200 * 10**9
    values.append(uuid7())
    assert all(a < b for a, b in itertools.pairwise(values))
    assert milliseconds(values[-1]) == host_clock.now // 10**6


@pytest.mark.parametrize("step", [10**6, 10**9, 86_400 * 10**9])
def test_ids_sort_by_the_time_of_their_making(host_clock, step):
    """Made a millisecond, a second or a day apart, as number, as text and as bytes: later is greater."""
    values = []
    for _ in range(100):
        values.append(uuid7())
        host_clock.now += step
    assert values == sorted(values)
    assert [str(v) for v in values] == sorted(str(v) for v in values)
    assert [v.bytes for v in values] == sorted(v.bytes for v in values)


def test_ids_sort_below_the_millisecond(host_clock):
    """A quarter of a microsecond apart, the order is still that of the clock, not of chance."""
    first = uuid7()
    host_clock.now += 250
    second = uuid7()
    assert milliseconds(first) == milliseconds(second)
    assert first < second


def test_threads_get_different_increasing_ids():
    """Eight threads at once: no id twice, each thread's ids increase, and so do ids handed over between threads."""
    last, lock = [UUID(int=0)], threading.Lock()
    made: list[list[UUID]] = [[] for _ in range(8)]
    wrong: list[UUID] = []
    barrier = threading.Barrier(8)

    def make(mine: list[UUID]) -> None:
        barrier.wait()
        for _ in range(1000):
            mine.append(uuid7())
            with lock:  # whoever comes next has seen this one, so its own must be above it
                value = uuid7()
                if value <= last[0]:
                    wrong.append(value)
                last[0] = value
                mine.append(value)

    threads = [threading.Thread(target=make, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len({value for mine in made for value in mine}) == 16_000
    assert all(mine == sorted(mine) for mine in made)


def test_after_a_fork_both_sides_go_on_with_different_ids():
    """A fork while another thread makes an id leaves no lock behind, and parent and child share no id."""
    code = """
import os, threading
from django_meanwhile.core import identifiers
from django_meanwhile.core.identifiers import uuid7
uuid7()
held, go = threading.Event(), threading.Event()
def hold():
    with identifiers._lock:
        held.set(); go.wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    os.write(writer, "".join(uuid7().hex for _ in range(100)).encode())
    os._exit(0)
go.set()
mine = [uuid7().hex for _ in range(100)]
assert os.waitpid(pid, 0)[1] == 0
text = os.read(reader, 10_000).decode()
theirs = [text[n:n + 32] for n in range(0, len(text), 32)]
assert len(theirs) == 100 and theirs == sorted(theirs)
assert not set(mine) & set(theirs)
"""
    source = str(Path(django_meanwhile.__path__[0]).parent)
    subprocess.run(
        [sys.executable, "-Wignore::DeprecationWarning", "-c", code],
        check=True,
        timeout=30,
        env={"PYTHONPATH": source},
    )
