"""The slot table: two mappings of one file, one writer, and what is left after SIGKILL."""

import math
import os
import random
import signal
import subprocess
import sys
import threading
from uuid import UUID, uuid4

import pytest

from django_meanwhile.core.job import Run
from django_meanwhile.worker.slots import Entry, Flag, SlotTable, capacity_for


@pytest.fixture
def table():
    """The supervisor's side."""
    made = SlotTable.create(8)
    yield made
    made.close()


@pytest.fixture
def other(table):
    """The child's side: another mapping of the same file."""
    made = SlotTable(os.dup(table.fd), table.capacity)
    yield made
    made.close()


def runs(number):
    """So many different runs."""
    return [Run(uuid4(), epoch) for epoch in range(1, number + 1)]


def test_a_new_table_is_empty_and_its_fence_is_not_armed(table, other):
    """No entry, no flag, no pulse, and a fence that never passes."""
    for side in (table, other):
        assert side.entries() == []
        assert side.flags == Flag(0)
        assert (side.pulse, side.fence) == (0.0, math.inf)
        assert side.room == 8


def test_what_the_child_writes_the_supervisor_reads(table, other):
    """Pulse, flags and entries pass from one mapping to the other, to the last bit."""
    run = Run(UUID(int=2**128 - 1), 2**62)
    other.pulse = 123456.789012345
    other.raise_flag(Flag.READY)
    other.begin(run, 1.5, 2.5)
    assert table.pulse == 123456.789012345
    assert table.flags == Flag.READY
    assert table.entries() == [Entry(run=run, ended=False, begun=1.5, deadline=2.5)]
    other.end(run)
    assert table.entries() == [Entry(run=run, ended=True, begun=1.5, deadline=2.5)]
    other.clear(run)
    assert table.entries() == []


def test_the_fence_passes_from_the_supervisor_to_the_child(table, other):
    """Its one writer is the supervisor."""
    table.fence = 42.25
    assert other.fence == 42.25


def test_flags_are_only_ever_added(table, other):
    """READY stays when RECYCLING is raised."""
    other.raise_flag(Flag.READY)
    other.raise_flag(Flag.RECYCLING)
    other.raise_flag(Flag.READY)
    assert table.flags == Flag.READY | Flag.RECYCLING


def test_no_deadline_is_a_deadline_that_never_passes(table, other):
    """A task without a timeout is never overdue."""
    other.begin(runs(1)[0], 1.0, None)
    assert table.entries()[0].deadline == math.inf


def test_a_place_is_used_again_once_its_run_is_written(table, other):
    """Through a table of eight places go a thousand runs; ended ones keep theirs until they are cleared."""
    held = []
    for run in runs(1000):
        other.begin(run, 1.0, None)
        held.append(run)
        if len(held) == 8:
            assert other.room == 0
            assert {entry.run for entry in table.entries()} == set(held)
            for ended in held:
                other.end(ended)
            assert other.room == 0, "an unwritten outcome still has its place"
            for ended in held[::2]:
                other.clear(ended)
            held = held[1::2]
            assert other.room == 4
            assert {entry.run for entry in table.entries()} == set(held)


def test_a_full_table_refuses_to_begin_and_stays_whole(table, other):
    """One run too many is an error of ours, and harms none of the others."""
    all_runs = runs(9)
    for run in all_runs[:8]:
        other.begin(run, 1.0, None)
    with pytest.raises(IndexError):
        other.begin(all_runs[8], 1.0, None)
    assert {entry.run for entry in table.entries()} == set(all_runs[:8])
    other.clear(all_runs[8])
    assert other.room == 0


def test_clearing_twice_frees_one_place(table, other):
    """A reply that came twice, or for a run that never began, changes nothing."""
    first, second = runs(2)
    other.begin(first, 1.0, None)
    other.clear(second)
    other.clear(first)
    other.clear(first)
    assert other.room == 8
    for run in runs(8):
        other.begin(run, 1.0, None)
    assert len({entry.run for entry in table.entries()}) == 8


def test_threads_of_a_child_share_the_places(table, other):
    """Eight threads begin, end and clear as fast as they can: no place is lost, none is given to two."""
    barrier = threading.Barrier(8)

    def work():
        barrier.wait()
        for run in runs(300):
            other.begin(run, 1.0, 2.0)
            assert run in {entry.run for entry in other.entries()}
            other.end(run)
            other.clear(run)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.room == 8
    assert table.entries() == []


def test_there_is_room_for_every_slot_and_for_what_waits_to_be_written():
    """The same formula on both sides; more than the slots, so that writing late stops no body."""
    assert capacity_for(1) > 1
    assert capacity_for(100) >= 4 * 100


def test_a_buried_childs_table_can_still_be_touched(table):
    """The beat moves the fence of a child that the main thread is burying: harmless, and no descriptor leaks."""
    table.close()
    table.close()
    table.fence = 1.0
    assert table.fence == 1.0
    assert table.entries() == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(table.fd)


# --- another process ------------------------------------------------------------------------

_CHILD = """
import sys
from uuid import UUID
from django_meanwhile.core.job import Run
from django_meanwhile.worker.slots import SlotTable
table = SlotTable(int(sys.argv[1]), int(sys.argv[2]))
"""

_BEGINS = """
number = 0
held = []
while True:
    number += 1
    run = Run(UUID(int=number * 0x1_0001_0001_0001_0001_0001_0001_0001 % 2**128), number)
    table.begin(run, float(number), float(2 * number))
    held.append(run)
    if len(held) > 5:
        table.end(held[0])
        table.clear(held.pop(0))
    table.pulse = float(number)
"""

_BEATS = """
while True:
    table.pulse, table.fence = 1023.9999999999, 1024.0
    table.pulse, table.fence = 1024.0, 1023.9999999999
"""


def start(table, script):
    """Start a process that has inherited the table."""
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD + script, str(table.fd), str(table.capacity)],
        pass_fds=[table.fd],
        env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def wait_for_pulse(table, process, beyond=0.0):
    """Wait until the process has written so often; it has nobody to tell."""
    while table.pulse <= beyond:
        assert process.poll() is None
        os.sched_yield()


def is_whole(entry):
    """Say whether all parts of an entry belong to one run, as the script above makes them."""
    number = entry.run.epoch
    job_id = UUID(int=number * 0x1_0001_0001_0001_0001_0001_0001_0001 % 2**128)
    return (entry.run.job_id, entry.begun, entry.deadline) == (job_id, float(number), float(2 * number))


def test_after_sigkill_every_entry_is_whole(table):
    """Killed at any moment, twelve times: the table names the runs that were going on, and not half a run."""
    for _ in range(12):
        fresh = SlotTable.create(8)
        process = start(fresh, _BEGINS)
        wait_for_pulse(fresh, process, random.uniform(10, 5000))
        process.send_signal(signal.SIGKILL)
        process.wait()
        entries = fresh.entries()
        assert 5 <= len(entries) <= 6
        assert all(map(is_whole, entries))
        numbers = sorted(entry.run.epoch for entry in entries)
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        fresh.close()


def test_while_a_child_writes_its_supervisor_reads_whole_entries(table):
    """Places are used again thousands of times under the reader's eyes; it never sees parts of two runs."""
    process = start(table, _BEGINS)
    try:
        wait_for_pulse(table, process)
        for _ in range(3_000):
            for entry in table.entries():
                assert is_whole(entry), entry
    finally:
        process.kill()
        process.wait()


def test_a_reader_never_sees_half_a_time(table):
    """Pulse and fence are old or new, never in between: half a fence would have passed, half a pulse be death."""
    process = start(table, _BEATS)
    try:
        wait_for_pulse(table, process)
        while table.fence == math.inf:
            assert process.poll() is None
        seen = set()
        for _ in range(100_000):
            seen.add(table.pulse)
            seen.add(table.fence)
        assert seen <= {1023.9999999999, 1024.0}
    finally:
        process.kill()
        process.wait()
