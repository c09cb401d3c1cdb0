"""The slot table: what a child is doing, readable after it is dead.

One memory-mapped file per child, inherited, never named. The child writes every
entry and its pulse; the supervisor writes the fence alone. So each field has one
writer, and no lock is needed or possible (a lock would die with its holder).

An entry's payload is written before its status byte, and the status byte is
cleared first: a reader sees a whole entry or none. Pulse and fence are written
and read as one aligned word each: half a fence would be one that has passed.
The table outlives a SIGKILL of the child, which is what it is for::

    header   pulse (float) | fence (float) | flags (byte)
    entry    status (byte) | job id (16 bytes) | epoch (int) | begun (float) | deadline (float)
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import tempfile
import threading
from dataclasses import dataclass
from enum import IntFlag
from uuid import UUID

from ..core.job import Run

_HEADER = struct.Struct("=ddBxxxxxxx")
_ENTRY = struct.Struct("=Bxxxxxxx16sqdd")
_PULSE, _FENCE = 0, 1  # among the doubles
_FLAGS_AT = 16

FREE, RUNNING, ENDED = 0, 1, 2


class Flag(IntFlag):
    """What a child says of itself."""

    READY = 1  # registered: beat for me
    RECYCLING = 2  # no longer claiming: start another in my place


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A begun run. ``ended``: the body is over, its outcome not yet written."""

    run: Run
    ended: bool
    begun: float
    deadline: float


class SlotTable:
    """See the module. ``capacity`` entries; the same number on both sides."""

    def __init__(self, fd: int, capacity: int) -> None:
        self.fd = fd
        self.capacity = capacity
        self._map = mmap.mmap(fd, _size(capacity))
        # Not struct: pack_into() fills with zeros first, which a reader in another process sees.
        self._doubles = memoryview(self._map).cast("d")
        self._closed = False
        self._lock = threading.Lock()  # the child's threads, for _free and _index
        self._free = list(reversed(range(capacity)))
        self._index: dict[Run, int] = {}

    @classmethod
    def create(cls, capacity: int) -> SlotTable:
        """Make an empty table in an unnamed file. The fence starts at infinity: not armed."""
        with tempfile.TemporaryFile(prefix="meanwhile-slots-") as file:
            file.truncate(_size(capacity))
            fd = os.dup(file.fileno())
        table = cls(fd, capacity)
        table.fence = math.inf
        return table

    def close(self) -> None:
        """Close the descriptor. Idempotent.

        The memory stays mapped for whoever still holds the table: the beat may be about
        to move the fence of a child that is just being buried.
        """
        if not self._closed:
            self._closed = True
            os.close(self.fd)

    # --- header -------------------------------------------------------------------------

    @property
    def pulse(self) -> float:
        """Monotonic seconds of the child's last sign of life; written by the child."""
        return self._doubles[_PULSE]

    @pulse.setter
    def pulse(self, value: float) -> None:
        self._doubles[_PULSE] = value

    @property
    def fence(self) -> float:
        """Monotonic seconds at which the child must stop by itself; written by the supervisor."""
        return self._doubles[_FENCE]

    @fence.setter
    def fence(self, value: float) -> None:
        self._doubles[_FENCE] = value

    @property
    def flags(self) -> Flag:
        """What the child says of itself."""
        return Flag(self._map[_FLAGS_AT])

    def raise_flag(self, flag: Flag) -> None:
        """Set ``flag``; called by the child."""
        self._map[_FLAGS_AT] = self.flags | flag

    # --- entries, by the child ----------------------------------------------------------

    @property
    def room(self) -> int:
        """How many more runs can begin before older ones are written."""
        return len(self._free)

    def begin(self, run: Run, begun: float, deadline: float | None) -> None:
        """Mark ``run`` as begun. Call it before the body."""
        with self._lock:
            index = self._index[run] = self._free.pop()
        at = _at(index)
        limit = math.inf if deadline is None else deadline
        _ENTRY.pack_into(self._map, at, FREE, run.job_id.bytes, run.epoch, begun, limit)
        self._map[at] = RUNNING

    def end(self, run: Run) -> None:
        """Mark the body of ``run`` as over; its outcome is not written yet."""
        self._map[_at(self._index[run])] = ENDED

    def clear(self, run: Run) -> None:
        """Forget ``run``: its outcome is written, or lost to another worker."""
        with self._lock:
            index = self._index.pop(run, None)
            if index is not None:
                self._map[_at(index)] = FREE
                self._free.append(index)

    # --- entries, by the supervisor -----------------------------------------------------

    def entries(self) -> list[Entry]:
        """Return every begun run whose outcome is not known to be written."""
        found = []
        for index in range(self.capacity):
            status, job_id, epoch, begun, deadline = _ENTRY.unpack(self._settled(_at(index)))
            if status != FREE:
                run = Run(UUID(bytes=job_id), epoch)
                found.append(Entry(run=run, ended=status == ENDED, begun=begun, deadline=deadline))
        return found

    def _settled(self, at: int) -> bytes:
        """Read an entry until it is the same twice: a living child may be using its place again."""
        while True:
            raw = self._map[at : at + _ENTRY.size]
            if raw == self._map[at : at + _ENTRY.size]:
                return raw


def capacity_for(slots: int) -> int:
    """Room for every slot, and for runs that have ended but are not yet written."""
    return slots * 4 + 64


def _size(capacity: int) -> int:
    return _HEADER.size + capacity * _ENTRY.size


def _at(index: int) -> int:
    return _HEADER.size + index * _ENTRY.size
