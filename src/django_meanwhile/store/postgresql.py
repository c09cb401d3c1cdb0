"""PostgreSQL: what differs from the other vendors, and why.

* Arrays and ``unnest``: one statement for many jobs, of one text whatever their number.
* ``FOR UPDATE SKIP LOCKED``: claimers side by side, each with jobs of its own.
* ``FOR SHARE`` on the claimer's own worker row: without it a claim slips in beside a kill
  that is not committed yet.
* ``clock_timestamp()``: ``now()`` is the start of the transaction, and may be long past.

Right under READ COMMITTED only: the guards rely on rows being looked at again after a
wait. Every parameter has a cast, since with binding on the server nothing else tells it
the type. Works with psycopg 3; psycopg 2 lacks only the wake-ups.
"""

# ruff: noqa: D102 - what a verb promises is said once, in ``contract``

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar
from uuid import UUID

from django.db import connections
from django.db.backends.postgresql.psycopg_any import IsolationLevel, is_psycopg3

from ..core.job import ClaimedJob, NewJob, Progress, Run
from ..core.outcome import Decision
from ..core.states import Executor, JobState
from ..core.text import storable
from ..fields import naive_utc
from .rows import CLAIMED_COLUMNS, Row, claimed_of, delay_of, run_of, written
from .shared import SharedStore
from .statements import Gaps, Statements, fill

CHANNEL = "meanwhile"

_NOW = "(clock_timestamp() AT TIME ZONE 'UTC' + make_interval(secs => %(offset)s::float8))"

GAPS = Gaps(
    now=_NOW,
    now_once=f"(SELECT {_NOW})",
    later=f"({_NOW} + make_interval(secs => %(seconds)s::float8))",
    earlier_once=f"(SELECT {_NOW} - make_interval(secs => %(seconds)s::float8))",
    in_ids="= ANY(%(ids)s::uuid[])",
    # As an array the ids are found first, once, and looked up by the primary key.
    each_of="= ANY(ARRAY(",
    end="))",
    queues="unnest(%(queues)s::text[]) AS q(value)",
    # What an UPDATE of other columns than the key takes; FOR SHARE conflicts with it.
    lock="FOR NO KEY UPDATE",
    skip_locked="FOR NO KEY UPDATE SKIP LOCKED",
    claimable="(state = 2 AND NOT suspect)",
    suspicious="(state = 2 AND suspect)",
)

ENQUEUE = fill(
    """
    WITH t AS MATERIALIZED (SELECT {now} AS now)
    INSERT INTO {job}
        (id, task, backend, queue, executor, rank, state, suspect, epoch, due_at, enqueued_at,
         attempts, crashes, interruptions, deaths, retry_on_crash, overrides, arguments, context)
    SELECT n.id, n.task, n.backend, n.queue, n.executor, n.rank,
        CASE WHEN v.due > t.now THEN 1 ELSE 2 END, FALSE, 0, v.due, t.now,
        0, 0, 0, 0, n.retry_on_crash, n.overrides, n.arguments, n.context
    FROM t
    CROSS JOIN unnest(
        %(id)s::uuid[], %(task)s::text[], %(backend)s::text[], %(queue)s::text[], %(executor)s::text[],
        %(rank)s::int2[], %(due_at)s::timestamp[], %(delay)s::float8[], %(retry_on_crash)s::bool[],
        %(overrides)s::text[], %(arguments)s::text[], %(context)s::text[]
    ) AS n(id, task, backend, queue, executor, rank, due_at, delay, retry_on_crash, overrides, arguments, context)
    CROSS JOIN LATERAL (SELECT COALESCE(n.due_at, t.now + make_interval(secs => n.delay)) AS due) v
    RETURNING id, state, enqueued_at""",
    GAPS,
)

# The queues to claim from. All of them: a loose index scan, one jump for each queue that has due work. It leaves
# the executor out: with it, a jump would read through all rows of other executors.
_GIVEN_QUEUES = "SELECT value FROM {queues}"
_ALL_QUEUES = """
        (SELECT queue FROM {job} WHERE {due} ORDER BY queue LIMIT 1)
        UNION ALL
        SELECT (SELECT n.queue FROM {job} n WHERE {due} AND n.queue > w.queue ORDER BY n.queue LIMIT 1)
        FROM wanted w WHERE w.queue IS NOT NULL"""

# The jobs to claim, locked. Of one queue: its index, in order, passing over what other claimers have locked.
_OF_ONE_QUEUE = """
        SELECT c.id FROM alive CROSS JOIN wanted w CROSS JOIN LATERAL (
            SELECT id FROM {job} WHERE queue = w.queue AND executor = %(executor)s::text AND {due}
            ORDER BY rank, id LIMIT %(limit)s::int8 FOR NO KEY UPDATE SKIP LOCKED) c"""

# Of several: the heads of the queues, without locks; merged; then locked one by one in the merged order until there
# are enough. (Locking in each queue would, for a moment, hide ``limit`` rows of every queue from other claimers, who
# would find nothing and go to sleep.) They too pass over locked rows, so more heads are read than wanted. All
# conditions stand here again: a row may have come back changed between the reading and its lock.
_OF_SEVERAL_QUEUES = """
        SELECT j.id FROM alive CROSS JOIN (
            SELECT c.id, c.rank, w.queue FROM wanted w CROSS JOIN LATERAL (
                SELECT id, rank FROM {job} WHERE queue = w.queue AND executor = %(executor)s::text AND {due}
                ORDER BY rank, id LIMIT %(limit)s::int8 * 4 + 64) c
            ORDER BY c.rank, c.id LIMIT %(limit)s::int8 * 4 + 64) h
        JOIN {job} j ON j.id = h.id
        WHERE +j.state = 2 AND {suspect} AND j.queue = h.queue AND j.executor = %(executor)s::text
        ORDER BY h.rank, h.id LIMIT %(limit)s::int8 FOR NO KEY UPDATE OF j SKIP LOCKED"""

# ``alive`` is locked before any job, and only if there is something to claim: an idle claim writes nothing, not
# even a row lock. After a wait for a kill or a renewal its conditions are evaluated again, with a volatile {now}.
# (The ORDER BY of the question is for the planner: without it, it hopes to meet such a row soon in the whole table.)
_CLAIM = """
    WITH RECURSIVE wanted(queue) AS ({wanted}),
    alive AS MATERIALIZED (
        SELECT id FROM {worker}
        WHERE id = %(worker_id)s::uuid AND dead_at IS NULL AND lease_until > {now}
        AND EXISTS (SELECT FROM wanted w CROSS JOIN LATERAL (
            SELECT FROM {job} WHERE queue = w.queue AND executor = %(executor)s::text AND {due}
            ORDER BY rank, id LIMIT 1) c)
        FOR SHARE),
    picked AS MATERIALIZED ({picked}),
    t AS MATERIALIZED (SELECT {now} AS now)
    UPDATE {job} SET
        state = 3, worker_id = %(worker_id)s::uuid, epoch = epoch + 1, attempts = attempts + 1,
        started_at = COALESCE(started_at, t.now), attempted_at = t.now
    FROM t
    WHERE id = ANY(ARRAY(SELECT id FROM picked)) AND +state = 2
    RETURNING {claimed}"""


def _claims(due: str, suspect: str) -> dict[str, str]:
    """Return the claims from one queue, from several and from all of them, of jobs that are ``due``."""
    return {
        name: fill(
            _CLAIM.replace("{wanted}", wanted)
            .replace("{picked}", picked)
            .replace("{due}", due)
            .replace("{suspect}", suspect),
            GAPS,
            claimed=CLAIMED_COLUMNS,
        )
        for name, wanted, picked in (
            ("one", _GIVEN_QUEUES, _OF_ONE_QUEUE),
            ("several", _GIVEN_QUEUES, _OF_SEVERAL_QUEUES),
            ("all", _ALL_QUEUES, _OF_SEVERAL_QUEUES),
        )
    }


CLAIMS = _claims("{claimable}", "NOT j.suspect")
SUSPECT_CLAIMS = _claims("{suspicious}", "j.suspect")

# ``locked`` holds the rows as they are once their lock was waited for: a cancel that was requested meanwhile
# counts. The order of the locks keeps two crossing batches from waiting for each other.
FINISH = fill(
    """
    WITH f AS MATERIALIZED (
        SELECT * FROM unnest(
            %(id)s::uuid[], %(epoch)s::int8[], %(state)s::int2[], %(delay)s::float8[], %(result)s::text[],
            %(progress)s::text[], %(kind)s::text[], %(exception)s::text[], %(detail)s::text[],
            %(attempts)s::int4[], %(crashes)s::int4[], %(interruptions)s::int4[], %(deaths)s::int4[],
            %(suspect)s::bool[], %(executor)s::text[], %(queue)s::text[]
        ) AS f(id, epoch, wish, delay, result, progress, kind, exception, detail,
               attempts, crashes, interruptions, deaths, suspect, executor, queue)),
    locked AS MATERIALIZED (
        SELECT f.*, j.worker_id, j.attempted_at,
            CASE WHEN f.wish IN (1, 2) AND j.cancel_requested_at IS NOT NULL THEN 6 ELSE f.wish END AS state
        FROM f JOIN {job} j ON j.id = f.id
        WHERE j.epoch = f.epoch AND +j.state = 3
        ORDER BY j.id FOR NO KEY UPDATE OF j),
    t AS MATERIALIZED (SELECT {now} AS now),
    accepted AS (
        UPDATE {job} j SET
            state = f.state, worker_id = NULL, last_worker_id = j.worker_id,
            finished_at = CASE WHEN f.state IN {terminal} THEN t.now END,
            due_at = CASE f.state WHEN 1 THEN t.now + make_interval(secs => COALESCE(f.delay, 0))
                                  WHEN 2 THEN t.now ELSE j.due_at END,
            suspect = f.suspect,
            attempts = j.attempts + f.attempts, crashes = j.crashes + f.crashes,
            interruptions = j.interruptions + f.interruptions, deaths = j.deaths + f.deaths,
            result = COALESCE(f.result, j.result), progress = COALESCE(f.progress, j.progress),
            executor = COALESCE(f.executor, j.executor), queue = COALESCE(f.queue, j.queue)
        FROM locked f CROSS JOIN t
        WHERE j.id = f.id AND j.epoch = f.epoch AND +j.state = 3
        RETURNING j.id, j.epoch, j.state, f.worker_id, f.kind, f.attempted_at, t.now, f.exception, f.detail),
    noted AS (
        INSERT INTO {attempt} (job_id, epoch, worker_id, kind, started_at, ended_at, exception, detail)
        SELECT id, epoch, worker_id, kind, attempted_at, now, exception, detail
        FROM accepted WHERE kind IS NOT NULL)
    SELECT id, epoch, state FROM accepted""",
    GAPS,
)

PROGRESS = fill(
    """
    WITH f AS MATERIALIZED (
        SELECT * FROM unnest(%(id)s::uuid[], %(epoch)s::int8[], %(progress)s::text[]) AS f(id, epoch, progress)),
    locked AS MATERIALIZED (
        SELECT f.* FROM f JOIN {job} j ON j.id = f.id
        WHERE j.epoch = f.epoch AND +j.state = 3
        ORDER BY j.id FOR NO KEY UPDATE OF j)
    UPDATE {job} j SET progress = f.progress FROM locked f
    WHERE j.id = f.id AND j.epoch = f.epoch AND +j.state = 3
    RETURNING j.id, j.epoch, j.cancel_requested_at""",
    GAPS,
)

NOTIFY = f"SELECT pg_notify('{CHANNEL}', q.queue) FROM unnest(%(queues)s::text[]) AS q(queue)"  # noqa: S608 - a constant


class PostgreSQLStore(SharedStore):
    """See the module."""

    vendor = "postgresql"
    supports_notify = is_psycopg3
    sql: ClassVar[Statements] = Statements.of(GAPS)
    finish_is_one_statement = True

    def _ids(self, ids: Iterable[UUID]) -> list[UUID]:
        return list(ids)

    def _id(self, value: UUID) -> UUID:
        return value

    def _texts(self, values: Iterable[str]) -> list[str]:
        return list(values)

    def _enqueue(self, jobs: Sequence[NewJob]) -> list[Row]:
        return self._rows(
            ENQUEUE,
            id=[job.id for job in jobs],
            task=[job.task for job in jobs],
            backend=[job.backend for job in jobs],
            queue=[job.queue for job in jobs],
            executor=[job.executor.value for job in jobs],
            rank=[job.rank for job in jobs],
            due_at=[None if job.due_at is None else naive_utc(job.due_at) for job in jobs],
            delay=[delay_of(job.delay) for job in jobs],
            retry_on_crash=[job.retry_on_crash for job in jobs],
            overrides=[job.overrides for job in jobs],
            arguments=[job.arguments for job in jobs],
            context=[job.context for job in jobs],
        )

    def claim(
        self, worker_id: UUID, executor: Executor, queues: Sequence[str], limit: int, *, suspects: bool = False
    ) -> list[ClaimedJob]:
        if limit <= 0:
            return []
        names = list(dict.fromkeys(queues))
        claims = SUSPECT_CLAIMS if suspects else CLAIMS
        rows = self._rows(
            claims["all" if not names else "one" if len(names) == 1 else "several"],
            worker_id=worker_id,
            executor=executor.value,
            queues=names,
            limit=limit,
        )
        return sorted(map(claimed_of, rows), key=lambda job: (job.rank, job.id))

    def _finish(self, decisions: Sequence[Decision]) -> dict[Run, JobState]:
        rows = self._rows(
            FINISH,
            id=[d.run.job_id for d in decisions],
            epoch=[d.run.epoch for d in decisions],
            state=[int(d.state) for d in decisions],
            delay=[delay_of(d.delay) for d in decisions],
            result=[d.result for d in decisions],
            progress=[d.progress for d in decisions],
            kind=[None if d.kind is None else d.kind.value for d in decisions],
            exception=[storable(d.exception)[:255] for d in decisions],
            detail=[storable(d.detail) for d in decisions],
            attempts=[d.attempts for d in decisions],
            crashes=[d.crashes for d in decisions],
            interruptions=[d.interruptions for d in decisions],
            deaths=[d.deaths for d in decisions],
            suspect=[d.suspect for d in decisions],
            executor=[None if d.executor is None else d.executor.value for d in decisions],
            queue=[d.queue for d in decisions],
        )
        return written(rows)

    def write_progress(self, progress: Sequence[Progress]) -> dict[Run, bool]:
        newest = {item.run: item.progress for item in progress}
        runs = sorted(newest)
        if not runs:
            return {}
        rows = self._rows(
            PROGRESS,
            id=[run.job_id for run in runs],
            epoch=[run.epoch for run in runs],
            progress=[newest[run] for run in runs],
        )
        return {run_of(row): row[2] is not None for row in rows}

    def connection_options(self) -> Mapping[str, object]:
        """READ COMMITTED, and a dead network noticed within seconds, not after two hours."""
        given = connections[self.alias].settings_dict["OPTIONS"]
        options: dict[str, Any] = {"isolation_level": IsolationLevel.READ_COMMITTED}
        for name, value in KEEP_ALIVE.items():
            options[name] = given.get(name, value)
        return options

    def beat_options(self, beat: float) -> Mapping[str, object]:
        """Give up on a server that does not answer before the next beat is due."""
        given = str(connections[self.alias].settings_dict["OPTIONS"].get("options", ""))
        return {
            "connect_timeout": max(2, int(beat / 2)),  # libpq knows whole seconds, from two
            "tcp_user_timeout": int(beat * 500),
            "options": f"{given} -c statement_timeout={int(beat * 500)}".strip(),
        }

    def notify(self, queues: Iterable[str]) -> None:
        """Send a NOTIFY for each name: at the commit, if a transaction is open, which is why none should be."""
        names = list(dict.fromkeys(queues))
        if names:
            self._rows(NOTIFY, queues=names)


KEEP_ALIVE: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""libpq's names; seconds, but for the last one: milliseconds."""
