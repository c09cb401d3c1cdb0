"""The SQL that every vendor shares, as templates; a vendor fills the gaps once, with constants.

Filled by the vendors' files, run by ``shared``. Nothing that a user wrote ever comes
into the text of a statement: values are parameters.

Rules that hold for all SQL of this package:

* States stand as literals. A bound state keeps PostgreSQL's generic plans and SQLite
  away from the partial indexes.
* Rows that are looked up by id have a plus before their state, which keeps the planner away from
  the partial indexes: statistics often say that nobody is RUNNING, and with the running
  index every row of a batch would then be looked for among all that run.
* Every guard of a transition stands in the statement that writes: in the WHERE of the
  UPDATE, even where a lock already makes it true.
* Rows of several jobs, or of several workers, are locked in the order of their ids before
  they are written: two statements that cross would deadlock otherwise.
* ``{now}`` is volatile: it is evaluated again after a lock was waited for, as guards need
  it. ``{now_once}`` is a value: only that can be the condition of an index.
* Rows to write are found by ``id {each_of} SELECT … {end}``, never by a join with a
  sub-select that has a LIMIT: PostgreSQL may run that one again for each row, or read the
  whole table to join it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..core.states import TERMINAL
from ..models import Attempt, Job, Worker
from .rows import CHARGED_COLUMNS


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """What differs between vendors, inside statements that do not."""

    #: The database's time plus ``%(offset)s`` seconds.
    now: str
    #: The same, evaluated once.
    now_once: str
    #: ``{now}`` plus ``%(seconds)s``.
    later: str
    #: ``{now_once}`` minus ``%(seconds)s``.
    earlier_once: str
    #: What follows a column that must be among the ids of the parameter ``ids``.
    in_ids: str
    #: Stands before and after a sub-select of the ids that a column must be among.
    each_of: str
    end: str
    #: A table expression with a column ``value``: the texts of the parameter ``queues``.
    queues: str
    #: At the end of a sub-select: wait for the locks of its rows.
    lock: str
    #: At the end of a sub-select: lock its rows, without those that somebody else has locked.
    skip_locked: str
    #: READY jobs of the claim's two indexes.
    claimable: str
    suspicious: str


_CONSTANTS = {
    "job": Job._meta.db_table,  # noqa: SLF001 - Django's documented way to a table's name
    "worker": Worker._meta.db_table,  # noqa: SLF001
    "attempt": Attempt._meta.db_table,  # noqa: SLF001
    "terminal": "({})".format(", ".join(str(int(state)) for state in sorted(TERMINAL))),
    "charged": CHARGED_COLUMNS,
    "charged_of_j": ", ".join(f"j.{column}" for column in CHARGED_COLUMNS.split(", ")),
}


def fill(template: str, gaps: Gaps, **more: str) -> str:
    """Fill the gaps of one statement. Called at import, with constants."""
    return template.format(**_CONSTANTS, **{field.name: getattr(gaps, field.name) for field in fields(Gaps)}, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """One vendor's statements. The defaults are the templates; ``of`` fills them."""

    now: str = "SELECT {now}"

    # --- workers ------------------------------------------------------------------------

    register: str = """
        INSERT INTO {worker}
            (id, parent_id, kind, host, pid, queues, executors, slots, started_at, lease_until, dead_at)
        VALUES (%(id)s, %(parent_id)s, %(kind)s, %(host)s, %(pid)s, %(queues)s, %(executors)s, %(slots)s,
            {now}, {later}, NULL)
        ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until"""

    renew: str = """
        WITH mine AS MATERIALIZED (
            SELECT id FROM {worker} WHERE id {in_ids} AND dead_at IS NULL ORDER BY id {lock})
        UPDATE {worker} SET lease_until = {later}
        WHERE id {each_of} SELECT id FROM mine {end} AND dead_at IS NULL
        RETURNING id"""

    leases: str = """
        SELECT id, lease_until, lease_until < {now_once} FROM {worker} WHERE dead_at IS NULL ORDER BY id"""

    # A renewal that commits while this waits for the row makes the guards fail on the new version.
    kill: str = """
        WITH lapsed AS MATERIALIZED (
            SELECT id FROM {worker} WHERE id {in_ids} AND dead_at IS NULL AND lease_until < {now} ORDER BY id {lock})
        UPDATE {worker} SET dead_at = {now}
        WHERE id {each_of} SELECT id FROM lapsed {end} AND dead_at IS NULL AND lease_until < {now}
        RETURNING id"""

    bury: str = """
        WITH ended AS MATERIALIZED (
            SELECT id FROM {worker} WHERE id {in_ids} AND dead_at IS NULL ORDER BY id {lock})
        UPDATE {worker} SET dead_at = {now}
        WHERE id {each_of} SELECT id FROM ended {end} AND dead_at IS NULL"""

    unregister: str = """
        DELETE FROM {worker} WHERE id {in_ids}
        AND NOT EXISTS (SELECT 1 FROM {job} WHERE state = 3 AND worker_id = {worker}.id)"""

    prune_workers: str = """
        DELETE FROM {worker} WHERE dead_at < {earlier_once}
        AND NOT EXISTS (SELECT 1 FROM {job} WHERE state = 3 AND worker_id = {worker}.id)
        RETURNING id"""

    any_old_worker: str = "SELECT EXISTS (SELECT 1 FROM {worker} WHERE dead_at < {earlier_once})"

    workers: str = """
        SELECT id, parent_id, kind, host, pid, queues, executors, slots FROM {worker}
        WHERE dead_at IS NULL AND lease_until > {now_once} ORDER BY started_at, id"""

    # --- jobs, by anybody ---------------------------------------------------------------

    # A claim that commits while this waits for the row leaves it RUNNING: the request is noted.
    cancel: str = """
        WITH live AS MATERIALIZED (
            SELECT id FROM {job} WHERE id {in_ids} AND +state IN (1, 2, 3) ORDER BY id {lock})
        UPDATE {job} SET
            cancel_requested_at = COALESCE(cancel_requested_at, {now}),
            finished_at = CASE WHEN state = 3 THEN NULL ELSE {now} END,
            state = CASE WHEN state = 3 THEN 3 ELSE 6 END
        WHERE id {each_of} SELECT id FROM live {end} AND +state IN (1, 2, 3)
        RETURNING id, state"""

    # The epoch stays: a claim, and nothing else, raises it.
    retry: str = """
        WITH ended AS MATERIALIZED (
            SELECT id FROM {job} WHERE id {in_ids} AND +state IN {terminal} ORDER BY id {lock})
        UPDATE {job} SET
            state = 2, suspect = FALSE, due_at = {now}, started_at = NULL, attempted_at = NULL, finished_at = NULL,
            cancel_requested_at = NULL, result = NULL, progress = NULL,
            attempts = 0, crashes = 0, interruptions = 0, deaths = 0
        WHERE id {each_of} SELECT id FROM ended {end} AND +state IN {terminal}
        RETURNING id"""

    # --- jobs, by workers ---------------------------------------------------------------

    recorded: str = "SELECT id, epoch, state FROM {job} WHERE id {in_ids}"

    cancel_requests: str = """
        SELECT id, epoch, worker_id FROM {job}
        WHERE state = 3 AND worker_id {in_ids} AND cancel_requested_at IS NOT NULL"""

    held: str = "SELECT {charged} FROM {job} WHERE state = 3 AND worker_id {in_ids} ORDER BY id"

    # --- upkeep -------------------------------------------------------------------------

    # A read: nothing follows from it but (id, epoch) pairs for ``finish`` to try. As one statement
    # with the release it would steal a living worker's job: a renewal does not touch the job's
    # row, so nothing would be checked again after a wait.
    orphans: str = """
        SELECT {charged_of_j} FROM {job} j LEFT JOIN {worker} w ON w.id = j.worker_id
        WHERE j.state = 3 AND (w.id IS NULL OR w.dead_at IS NOT NULL)
        LIMIT %(limit)s"""

    any_due: str = "SELECT EXISTS (SELECT 1 FROM {job} WHERE state = 1 AND due_at <= {now_once})"

    promote: str = """
        WITH due AS MATERIALIZED (
            SELECT id FROM {job} WHERE state = 1 AND due_at <= {now_once}
            ORDER BY due_at LIMIT %(limit)s {skip_locked})
        UPDATE {job} SET state = 2 WHERE id {each_of} SELECT id FROM due {end} AND +state = 1
        RETURNING queue"""

    suspects: str = """
        SELECT count(*) FROM (
            SELECT 1 FROM {job} WHERE {suspicious}
            AND (CAST(%(every)s AS integer) = 1 OR queue IN (SELECT value FROM {queues}))
            LIMIT %(limit)s) s"""

    # {{state}} is filled by ``shared`` with one of the four literals. SQLite finds its partial index only
    # by the index's own condition, word for word.
    any_prunable: str = """
        SELECT EXISTS (SELECT 1 FROM {job}
            WHERE state IN {terminal} AND state = {{state}} AND finished_at < {earlier_once})"""

    prunable: str = """
        SELECT id FROM {job} WHERE state IN {terminal} AND state = {{state}} AND finished_at < {earlier_once}
        ORDER BY finished_at LIMIT %(limit)s {skip_locked}"""

    prune_attempts: str = "DELETE FROM {attempt} WHERE job_id {in_ids}"

    prune_jobs: str = "DELETE FROM {job} WHERE id {in_ids} AND +state IN {terminal} RETURNING id"

    # --- reading ------------------------------------------------------------------------

    # A loose index scan: one jump in the claim's index for each (queue, executor, rank) there is,
    # and from each at most ``limit`` rows; the oldest is among the first of each rank, or nearly so.
    ready_depths: str = """
        WITH RECURSIVE heads(queue, executor, rank) AS (
            SELECT queue, executor, rank FROM {job} WHERE id = (
                SELECT id FROM {job} WHERE {claimable} ORDER BY queue, executor, rank, id LIMIT 1)
            UNION ALL
            SELECT j.queue, j.executor, j.rank FROM heads h JOIN {job} j ON j.id = (
                SELECT n.id FROM {job} n
                WHERE {claimable} AND (n.queue, n.executor, n.rank) > (h.queue, h.executor, h.rank)
                ORDER BY n.queue, n.executor, n.rank, n.id LIMIT 1))
        SELECT h.queue, h.executor,
            (SELECT count(*) FROM (
                SELECT 1 FROM {job} WHERE queue = h.queue AND executor = h.executor AND rank = h.rank AND {claimable}
                LIMIT %(limit)s) c),
            (SELECT min(since) FROM (
                SELECT COALESCE(due_at, enqueued_at) AS since FROM {job}
                WHERE queue = h.queue AND executor = h.executor AND rank = h.rank AND {claimable}
                ORDER BY id LIMIT 100) o),
            {now_once}
        FROM heads h"""

    # Few suspects and few running jobs exist; of the scheduled ones the next are counted.
    suspect_depths: str = """
        SELECT queue, executor, count(*), min(since), {now_once} FROM (
            SELECT queue, executor, COALESCE(due_at, enqueued_at) AS since FROM {job}
            WHERE {suspicious} LIMIT %(window)s) s
        GROUP BY queue, executor"""

    running_depths: str = """
        SELECT queue, executor, count(*) FROM (
            SELECT queue, executor FROM {job} WHERE state = 3 LIMIT %(window)s) r
        GROUP BY queue, executor"""

    scheduled_depths: str = """
        SELECT queue, executor, count(*) FROM (
            SELECT queue, executor FROM {job} WHERE state = 1 ORDER BY due_at LIMIT %(window)s) s
        GROUP BY queue, executor"""

    @classmethod
    def of(cls, gaps: Gaps) -> Statements:
        """Fill every template. Called once per vendor, at import."""
        return cls(**{field.name: fill(field.default, gaps) for field in fields(cls)})  # type: ignore[arg-type]
