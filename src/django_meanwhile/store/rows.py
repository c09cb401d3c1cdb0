"""Database values to Python values, and back, for raw statements on every vendor.

Called by the stores only. SQLite holds ids as 32 hexadecimal digits, booleans as
integers and times as text; PostgreSQL has types for all three. Column lists stand
here, next to the function that reads a row in that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from ..core.job import ClaimedJob, Run
from ..core.outcome import Charged
from ..core.states import Executor, JobState
from ..fields import parse_utc

T = TypeVar("T")

Row = Sequence[Any]

BATCH_ROWS = 500
BATCH_CHARACTERS = 8 * 1024 * 1024
"""A batch is one parameter per column: kept far below what drivers and servers take."""

LONGEST_DELAY = 100 * 366 * 86_400.0
"""Seconds. Beyond it the databases' own arithmetic overflows, and one such row would fail its whole batch."""

CLAIMED_COLUMNS = (
    "id, epoch, worker_id, task, backend, queue, executor, rank, attempts, crashes, interruptions, deaths, "
    "retry_on_crash, suspect, cancel_requested_at, arguments, overrides, context, "
    "enqueued_at, started_at, attempted_at"
)
CHARGED_COLUMNS = "id, epoch, crashes, deaths, suspect, retry_on_crash, task"


def uuid_of(value: UUID | str) -> UUID:
    """Read an id column."""
    return value if isinstance(value, UUID) else UUID(hex=value)


def run_of(row: Row) -> Run:
    """Read a row that begins with id and epoch."""
    return Run(uuid_of(row[0]), row[1])


def written(rows: Iterable[Row]) -> dict[Run, JobState]:
    """Read rows of id, epoch, state."""
    return {run_of(row): JobState(row[2]) for row in rows}


def charged_of(row: Row) -> Charged:
    """Read a row of ``CHARGED_COLUMNS``."""
    return Charged(
        run=run_of(row),
        crashes=row[2],
        deaths=row[3],
        suspect=bool(row[4]),
        retry_on_crash=bool(row[5]),
        task=row[6],
    )


def claimed_of(row: Row) -> ClaimedJob:
    """Read a row of ``CLAIMED_COLUMNS``."""
    return ClaimedJob(
        id=uuid_of(row[0]),
        epoch=row[1],
        worker_id=uuid_of(row[2]),
        task=row[3],
        backend=row[4],
        queue=row[5],
        executor=Executor(row[6]),
        rank=row[7],
        attempts=row[8],
        crashes=row[9],
        interruptions=row[10],
        deaths=row[11],
        retry_on_crash=bool(row[12]),
        suspect=bool(row[13]),
        cancel_requested=row[14] is not None,
        arguments=row[15],
        overrides=row[16],
        context=row[17],
        enqueued_at=parse_utc(row[18]),
        started_at=parse_utc(row[19]),
        attempted_at=parse_utc(row[20]),
    )


def delay_of(seconds: float | None) -> float | None:
    """Bring a delay into the range that databases can add to a time."""
    return None if seconds is None else min(max(0.0, float(seconds)), LONGEST_DELAY)


def batches(rows: Iterable[T], limit: int = BATCH_ROWS) -> Iterator[list[T]]:
    """Cut into lists of at most ``limit``."""
    iterator = iter(rows)
    while batch := list(islice(iterator, limit)):
        yield batch


def sized_batches(rows: Iterable[tuple[int, T]]) -> Iterator[list[T]]:
    """Cut into lists of at most ``BATCH_ROWS`` rows and about ``BATCH_CHARACTERS``, given the size of each row."""
    batch: list[T] = []
    total = 0
    for size, row in rows:
        if batch and (len(batch) == BATCH_ROWS or total + size > BATCH_CHARACTERS):
            yield batch
            batch, total = [], 0
        batch.append(row)
        total += size
    if batch:
        yield batch
