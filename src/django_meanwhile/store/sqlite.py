"""SQLite: what differs from the other vendors, and why.

* One writer at a time, and no row locks: a transaction that writes begins IMMEDIATE, so that
  it waits for its turn at its beginning, where the busy timeout works. A transaction that
  has read before it writes fails at once instead, whatever the timeout.
* A statement that could write takes the write lock even if it finds nothing to do: what is
  polled asks with a SELECT first.
* Rows come in as one JSON parameter and ``json_each``: the text of a statement does not depend on
  their number, nor do limits on parameters.
* Ids are 32 hexadecimal digits, booleans integers, times texts of fixed width.
* RETURNING names plain columns only: on SQLite 3.40.1 ``RETURNING x IS NOT NULL`` was seen to be true
  where x is NULL.

Needs SQLite 3.35 (RETURNING, MATERIALIZED).
"""

# ruff: noqa: D102 - what a verb promises is said once, in ``contract``

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any, ClassVar
from uuid import UUID

from django.db import OperationalError, connections, transaction

from ..conf import get_settings
from ..core.job import ClaimedJob, NewJob, Progress, Run
from ..core.outcome import Decision
from ..core.states import Executor, JobState
from ..core.text import storable
from ..fields import utc_parameter
from ..logs import get_logger
from .rows import CLAIMED_COLUMNS, Row, claimed_of, delay_of, run_of, written
from .shared import SharedStore
from .statements import Gaps, Statements, fill

logger = get_logger("store")

BUSY_TIMEOUT = 10.0
"""Seconds that a worker's own statement waits for other writers."""

MAX_QUEUES = 100
"""How many queues one claim reads: SQLite takes 500 parts of a UNION at most."""

# Doubled percent signs: the text passes through Django's parameter substitution.
_TIME = "(strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', %(offset)s || ' seconds'{more}) || '000')"
_NOW = _TIME.format(more="")

GAPS = Gaps(
    now=_NOW,
    now_once=_NOW,
    later=_TIME.format(more=", %(seconds)s || ' seconds'"),
    earlier_once=_TIME.format(more=", -%(seconds)s || ' seconds'"),
    in_ids="IN (SELECT value FROM json_each(%(ids)s))",
    each_of="IN (",
    end=")",
    queues="json_each(%(queues)s)",
    lock="",
    skip_locked="",
    # Each condition twice: the index was made by whichever Django ran the migration, 5.2 writes
    # "NOT suspect" and 6.1 "suspect = 0", and SQLite looks for the very words.
    claimable="(state = 2 AND NOT suspect AND suspect = 0)",
    suspicious="(state = 2 AND suspect AND suspect = 1)",
)


def _columns(*names: str) -> str:
    """Select the elements of each row of the parameter ``rows``, by these names."""
    return ", ".join(f"json_extract(value, '$[{place}]') AS {name}" for place, name in enumerate(names))


ENQUEUE = fill(
    """
    WITH n AS MATERIALIZED (
        SELECT {columns} FROM json_each(%(rows)s)),
    v AS MATERIALIZED (
        SELECT n.*, {now} AS now,
            COALESCE(n.due_at, strftime('%%Y-%%m-%%d %%H:%%M:%%f', {now}, n.delay || ' seconds') || '000') AS due
        FROM n)
    INSERT INTO {job}
        (id, task, backend, queue, executor, rank, state, suspect, epoch, due_at, enqueued_at,
         attempts, crashes, interruptions, deaths, retry_on_crash, overrides, arguments, context)
    SELECT id, task, backend, queue, executor, rank, CASE WHEN due > now THEN 1 ELSE 2 END, 0, 0, due, now,
        0, 0, 0, 0, retry_on_crash, overrides, arguments, context
    FROM v
    RETURNING id, state, enqueued_at""",
    GAPS,
    columns=_columns(
        "id", "task", "backend", "queue", "executor", "rank", "due_at", "delay", "retry_on_crash",
        "overrides", "arguments", "context",
    ),
)  # fmt: skip

# The heads of the queues that have due work for this executor, best first: what a claim asks before it writes.
_HEADS = """
    WITH RECURSIVE wanted(queue) AS ({wanted})
    SELECT w.queue FROM wanted w JOIN {job} j ON j.id = (
        SELECT id FROM {job} WHERE queue = w.queue AND executor = %(executor)s AND {due} ORDER BY rank, id LIMIT 1)
    ORDER BY j.rank, j.id LIMIT %(limit)s"""

_GIVEN_QUEUES = "SELECT value FROM {queues}"

# A loose index scan: one jump for each queue that has due work. It leaves the executor out: with it, a jump would
# read through all rows of other executors.
_ALL_QUEUES = """
        SELECT * FROM (SELECT queue FROM {job} WHERE {due} ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT (SELECT n.queue FROM {job} n WHERE {due} AND n.queue > w.queue ORDER BY n.queue LIMIT 1)
        FROM wanted w WHERE w.queue IS NOT NULL"""


def _heads(wanted: str, due: str) -> str:
    return fill(_HEADS.replace("{wanted}", wanted).replace("{due}", due), GAPS)


HEADS = {
    # (all queues?, suspects?)
    (False, False): _heads(_GIVEN_QUEUES, "{claimable}"),
    (True, False): _heads(_ALL_QUEUES, "{claimable}"),
    (False, True): _heads(_GIVEN_QUEUES, "{suspicious}"),
    (True, True): _heads(_ALL_QUEUES, "{suspicious}"),
}

_CLAIM = """
    UPDATE {job} SET
        state = 3, worker_id = %(worker_id)s, epoch = epoch + 1, attempts = attempts + 1,
        started_at = COALESCE(started_at, {now}), attempted_at = {now}
    WHERE id IN (SELECT id FROM ({arms}) ORDER BY rank, id LIMIT %(limit)s) AND +state = 2
    AND EXISTS (SELECT 1 FROM {worker} WHERE id = %(worker_id)s AND dead_at IS NULL AND lease_until > {now})
    RETURNING {claimed}"""

_ARM = """
        SELECT id, rank FROM (
            SELECT id, rank FROM {job} WHERE queue = %(queue_{number})s AND executor = %(executor)s AND {due}
            ORDER BY rank, id LIMIT %(limit)s)"""


@cache
def claim_statement(queues: int, *, suspects: bool) -> str:
    """Return the claim from that many queues, the parameters ``queue_0`` and so on. One index scan for each."""
    due = "{suspicious}" if suspects else "{claimable}"
    arms = "\n        UNION ALL".join(
        _ARM.replace("{due}", due).replace("{number}", str(number)) for number in range(queues)
    )
    return fill(_CLAIM.replace("{arms}", arms), GAPS, claimed=CLAIMED_COLUMNS)


_FENCE = fill("{job}.id = f.id AND {job}.epoch = f.epoch AND +{job}.state = 3", GAPS)

FINISH = fill(
    """
    WITH f AS MATERIALIZED (SELECT {columns} FROM json_each(%(rows)s)),
    g AS MATERIALIZED (
        SELECT f.*, CASE WHEN f.wish IN (1, 2) AND j.cancel_requested_at IS NOT NULL THEN 6 ELSE f.wish END AS next
        FROM f JOIN {job} j ON j.id = f.id)
    UPDATE {job} SET
        state = f.next, worker_id = NULL, last_worker_id = worker_id,
        finished_at = CASE WHEN f.next IN {terminal} THEN {now} END,
        due_at = CASE f.next
            WHEN 1 THEN strftime('%%Y-%%m-%%d %%H:%%M:%%f', {now}, COALESCE(f.delay, 0) || ' seconds') || '000'
            WHEN 2 THEN {now} ELSE due_at END,
        suspect = f.suspect_now,
        attempts = attempts + f.more_attempts, crashes = crashes + f.more_crashes,
        interruptions = interruptions + f.more_interruptions, deaths = deaths + f.more_deaths,
        result = COALESCE(f.new_result, result), progress = COALESCE(f.new_progress, progress),
        executor = COALESCE(f.new_executor, executor), queue = COALESCE(f.new_queue, queue)
    FROM g AS f
    WHERE {fence}
    RETURNING id, epoch, state, last_worker_id, attempted_at""",
    GAPS,
    fence=_FENCE,
    columns=_columns(
        "id", "epoch", "wish", "delay", "new_result", "new_progress",
        "more_attempts", "more_crashes", "more_interruptions", "more_deaths",
        "suspect_now", "new_executor", "new_queue",
    ),
)  # fmt: skip

ATTEMPTS = fill(
    """
    INSERT INTO {attempt} (job_id, epoch, worker_id, kind, started_at, ended_at, exception, detail)
    SELECT job_id, epoch, worker_id, kind, started_at, {now}, exception, detail
    FROM (SELECT {columns} FROM json_each(%(rows)s))""",
    GAPS,
    columns=_columns("job_id", "epoch", "worker_id", "kind", "started_at", "exception", "detail"),
)

PROGRESS = fill(
    """
    WITH f AS MATERIALIZED (SELECT {columns} FROM json_each(%(rows)s))
    UPDATE {job} SET progress = f.new_progress FROM f
    WHERE {fence}
    RETURNING id, epoch, cancel_requested_at""",
    GAPS,
    fence=_FENCE,
    columns=_columns("id", "epoch", "new_progress"),
)


class SQLiteStore(SharedStore):
    """See the module."""

    vendor = "sqlite"
    one_writer = True
    sql: ClassVar[Statements] = Statements.of(GAPS)

    def _ids(self, ids: Iterable[UUID]) -> str:
        return json.dumps([value.hex for value in ids])

    def _id(self, value: UUID) -> str:
        return value.hex

    def _texts(self, values: Iterable[str]) -> str:
        return json.dumps(list(values))

    def _transaction(self) -> AbstractContextManager[Any]:
        connection = connections[self.alias]
        if connection.in_atomic_block or not connection.get_autocommit():
            return transaction.atomic(using=self.alias)
        return self._immediate()

    @contextmanager
    def _immediate(self) -> Iterator[None]:
        """BEGIN IMMEDIATE, whatever the alias's ``transaction_mode`` is: ``atomic`` would follow that."""
        connection = connections[self.alias]
        with connection.cursor() as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield
                cursor.execute("COMMIT")
            except BaseException:
                if connection.connection.in_transaction:  # SQLite may have rolled back by itself: disk full
                    cursor.execute("ROLLBACK")
                raise

    def _enqueue(self, jobs: Sequence[NewJob]) -> list[Row]:
        rows = [
            (
                job.id.hex,
                job.task,
                job.backend,
                job.queue,
                job.executor.value,
                job.rank,
                None if job.due_at is None else utc_parameter(job.due_at, self.vendor),
                delay_of(job.delay),
                int(job.retry_on_crash),
                job.overrides,
                job.arguments,
                job.context,
            )
            for job in jobs
        ]
        return self._rows(ENQUEUE, rows=json.dumps(rows))

    def claim(
        self, worker_id: UUID, executor: Executor, queues: Sequence[str], limit: int, *, suspects: bool = False
    ) -> list[ClaimedJob]:
        if limit <= 0:
            return []
        # A queue whose head is not among the first n heads holds none of the first n jobs.
        heads = self._rows(
            HEADS[not queues, suspects],
            queues=self._texts(dict.fromkeys(queues)),
            executor=executor.value,
            limit=min(limit, MAX_QUEUES),
        )
        if not heads:
            return []
        if len(heads) == MAX_QUEUES:
            limit = min(limit, MAX_QUEUES)
        rows = self._rows(
            claim_statement(len(heads), suspects=suspects),
            worker_id=worker_id.hex,
            executor=executor.value,
            limit=limit,
            **{f"queue_{number}": head[0] for number, head in enumerate(heads)},
        )
        return sorted(map(claimed_of, rows), key=lambda job: (job.rank, job.id))

    def _finish(self, decisions: Sequence[Decision]) -> dict[Run, JobState]:
        rows = [
            (
                d.run.job_id.hex,
                d.run.epoch,
                int(d.state),
                delay_of(d.delay),
                d.result,
                d.progress,
                d.attempts,
                d.crashes,
                d.interruptions,
                d.deaths,
                int(d.suspect),
                None if d.executor is None else d.executor.value,
                d.queue,
            )
            for d in decisions
        ]
        accepted = {run_of(row): row for row in self._rows(FINISH, rows=json.dumps(rows))}
        attempts = [
            (
                d.run.job_id.hex,
                d.run.epoch,
                accepted[d.run][3],
                d.kind.value,
                accepted[d.run][4],
                storable(d.exception)[:255],
                storable(d.detail),
            )
            for d in decisions
            if d.kind is not None and d.run in accepted
        ]
        if attempts:
            self._rows(ATTEMPTS, rows=json.dumps(attempts))
        return written(accepted.values())

    def write_progress(self, progress: Sequence[Progress]) -> dict[Run, bool]:
        newest = {item.run: item.progress for item in progress}
        if not newest:
            return {}
        rows = [(run.job_id.hex, run.epoch, text) for run, text in newest.items()]
        return {run_of(row): row[2] is not None for row in self._rows(PROGRESS, rows=json.dumps(rows))}

    def connection_options(self) -> Mapping[str, object]:
        """Begin IMMEDIATE, wait for other writers, and, under WAL, leave syncing to checkpoints.

        ``synchronous = NORMAL``: commits survive the death of the process, the last ones maybe
        not a loss of power. Without WAL that could damage the file, so it stays as it was.
        """
        given = connections[self.alias].settings_dict["OPTIONS"]
        options: dict[str, object] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": max(BUSY_TIMEOUT, float(given.get("timeout", 0))),
        }
        if get_settings().sqlite_wal:
            commands = [given.get("init_command", ""), "PRAGMA synchronous = NORMAL"]
            options["init_command"] = "; ".join(filter(None, commands))
        return options

    def beat_options(self, beat: float) -> Mapping[str, object]:
        """Say SQLITE_BUSY before the next beat is due, and ask again."""
        return {"timeout": beat / 2}

    def prepare(self) -> None:
        """Switch the file to WAL, unless it is or a setting forbids it. It stays so for good."""
        if not get_settings().sqlite_wal or self._rows("PRAGMA journal_mode")[0][0].lower() in {"wal", "memory"}:
            return
        try:
            self._rows("PRAGMA journal_mode = WAL")
        except OperationalError as error:
            # It needs the file for itself for a moment. The next worker tries again; all works without.
            logger.warning("database %r could not be switched to WAL now: %s", self.alias, error)
