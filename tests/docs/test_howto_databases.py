"""The how-to pages on SQLite, several databases and tenants, with real workers."""

import contextlib
import json
import sqlite3

import pytest

from tests.playground import eventually

from .pages import README, page
from .site import Site

SQLITE, SEVERAL, TENANTS = map(page, ("how-to/sqlite", "how-to/several-databases", "how-to/multi-tenant"))


def _clear(site: Site) -> None:
    site.kill_everything()
    site.use(README)
    site.sql("DELETE FROM meanwhile_attempt")
    site.sql("DELETE FROM meanwhile_job")


# --- SQLite -------------------------------------------------------------------------------------

READ_THEN_ENQUEUE = """
import sqlite3
from django.db import OperationalError, transaction
from django.contrib.auth.models import User
from reports.tasks import generate_report
other = sqlite3.connect({name!r}, timeout=0, isolation_level=None)
said = []
try:
    with transaction.atomic():
        User.objects.count()
        try:
            other.execute("UPDATE django_site_row SET n = n + 1")
        except sqlite3.OperationalError as error:
            said.append("other: " + str(error))
        generate_report.enqueue({{"name": "x"}})
except OperationalError as error:
    said.append("enqueue: " + str(error))
print(said)
"""


def _database(site: Site) -> dict[str, object]:
    """Return the page's `DATABASES["default"]`, with the site's file."""
    (block,) = (block for block in SQLITE.blocks() if block.file == "mysite/settings.py")
    names: dict[str, object] = {"BASE_DIR": site.path}
    exec(block.text, names)
    return names["DATABASES"]["default"] | {"NAME": site.database["NAME"]}  # type: ignore[index]


def test_the_settings_of_sqlite_do_what_the_page_says(site: Site) -> None:
    """Without IMMEDIATE a view that has read cannot enqueue while another writes; with the page's lines it can."""
    if site.vendor != "sqlite":
        pytest.skip("this page is about SQLite")
    _clear(site)
    site.sql("CREATE TABLE django_site_row AS SELECT 1 AS n")
    code = READ_THEN_ENQUEUE.format(name=str(site.database["NAME"]))
    kept = dict(site.database)
    for transaction_mode, expected in (
        ("DEFERRED", ["enqueue: database is locked"]),
        ("IMMEDIATE", ["other: database is locked"]),
    ):
        database = _database(site)
        assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"  # type: ignore[index]
        database["OPTIONS"]["transaction_mode"] = transaction_mode  # type: ignore[index]
        site.database.update(database)
        assert site.python(code).stdout.strip() == str(expected)
    assert "meanwhile.W002" not in site.manage("check").stderr
    pragmas = (
        "from django.db import connection as c; x = c.cursor().execute; print(*x('PRAGMA journal_mode').fetchone(),"
    )
    assert site.python(f"{pragmas} *x('PRAGMA synchronous').fetchone())").stdout.split() == ["wal", "1"]
    assert site.manage("meanwhile", "worker", "--drain").returncode == 0
    assert site.states() == {"SUCCESSFUL": 1}
    site.database.clear()
    site.database.update(kept)


def test_a_copy_of_sqlite_is_whole(site: Site) -> None:
    """The page's backup, made while a worker lives, has the job that was enqueued last."""
    if site.vendor != "sqlite":
        pytest.skip("this page is about SQLite")
    _clear(site)
    worker = site.start_worker()
    backup = next(block.text for block in SQLITE.blocks() if "backup" in block.text)
    job = site.python(
        "from datetime import timedelta; from reports.tasks import generate_report as task\n"
        f"print(task.using(run_after=timedelta(hours=1)).enqueue({{'name': 'x'}}).id)\n{backup}"
    ).stdout.strip()
    with contextlib.closing(sqlite3.connect(f"{site.database['NAME']}.backup")) as copy:
        assert copy.execute("SELECT count(*) FROM meanwhile_job").fetchone() == (1,)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert job
    assert worker.stop() == 0


# --- several databases --------------------------------------------------------------------------


def test_a_worker_of_the_second_database(site: Site) -> None:
    """A job commits and rolls back with its own database, and only that backend's worker takes it."""
    _clear(site)
    site.use(SEVERAL)
    site.manage("migrate", "--database", "reports", "--verbosity", "0")
    tried = (
        "from django.db import transaction; from reports.tasks import close_month; import django_meanwhile as m\n"
        "try:\n"
        "    with transaction.atomic(using='reports'): close_month.enqueue('lost'); raise KeyError\n"
        "except KeyError: pass\n"
        "try:\n"
        "    with transaction.atomic(): close_month.enqueue('refused')\n"
        "except m.TransactionMismatch as error: print('mismatch')\n"
        "print(close_month.enqueue('2026-11').id)"
    )
    example = next(block.text for block in SEVERAL.blocks() if block.not_run)
    site.python(example)
    mismatch, job = site.python(tried).stdout.split()
    assert mismatch == "mismatch"
    site.manage("meanwhile", "worker", "--backend", "default", "--drain")
    assert site.states() == {}
    assert _shown(site, job)["state"] == "READY"
    worker = site.start("meanwhile", "worker", "--backend", "reports")
    eventually(lambda: _shown(site, job)["state"] == "SUCCESSFUL", within=30, what="the worker of reports did it")
    found = _shown(site, job)
    assert (found["database"], found["result"]) == ("reports", "closed 2026-11")
    _moves_to_the_default_database(site)
    with contextlib.closing(sqlite3.connect(site.path / "reports.sqlite3")) as reports:
        assert reports.execute("SELECT count(*) FROM meanwhile_job").fetchone() == (2,), "the lost one never was"
    assert worker.stop() == 0


def _moves_to_the_default_database(site: Site) -> None:
    """As the page on SQLite has it: dumpdata and loaddata carry jobs from SQLite to the site's database, whole."""
    site.manage("dumpdata", "meanwhile.job", "--database", "reports", "--output", "jobs.json")
    site.manage("loaddata", "jobs.json")
    columns = "task, queue, state, epoch, attempts, arguments, result"
    with contextlib.closing(sqlite3.connect(site.path / "reports.sqlite3")) as reports:
        there = reports.execute(f"SELECT {columns} FROM meanwhile_job ORDER BY id").fetchall()
    assert site.sql(f"SELECT {columns} FROM meanwhile_job ORDER BY id") == there


def _shown(site: Site, job: str) -> dict[str, object]:
    return json.loads(site.manage("meanwhile", "show", job, "--json").stdout)


# --- tenants ------------------------------------------------------------------------------------

BILL = """
from mysite.tenants import current
from reports.tasks import bill
for tenant in ("acme", None, "umbrella"):
    token = current.set(tenant)
    bill.enqueue()
    current.reset(token)
"""

NOTE = """

@task
async def waits():
    pass


@task
def note(text):
    from django.db import connection
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO note VALUES (%s)", [text])
        cursor.execute("SHOW search_path")
        return cursor.fetchone()[0]


@task
def path():
    from django.db import connection
    with connection.cursor() as cursor:
        cursor.execute("SHOW search_path")
        return cursor.fetchone()[0]
"""


def test_a_hook_carries_the_tenant(site: Site) -> None:
    """Three jobs of two tenants and of none, through one slot: each body finds its own, and nobody another's."""
    _clear(site)
    site.use(TENANTS)
    site.python(BILL)
    site.manage("meanwhile", "worker", "--drain", "--threads", "1", "--processes", "0")
    assert site.sql("SELECT result FROM meanwhile_job ORDER BY id") == [
        (f'"billed {tenant}"',) for tenant in ("acme", None, "umbrella")
    ]


def test_a_schema_for_each_tenant(site: Site) -> None:
    """Bodies of two tenants write to their own schema, the next job finds the shared one; an `async def` is refused."""
    if site.vendor != "postgresql":
        pytest.skip("schemas are PostgreSQL's")
    _clear(site)
    site.use(TENANTS)
    site.write("mysite/settings.py", 'MEANWHILE = {"CONTEXT": ["mysite.schemas.Schema"]}')
    tasks = next(block.text for block in TENANTS.blocks() if block.file == "reports/tasks.py")
    site.write("reports/tasks.py", tasks + NOTE)
    for schema in ("acme", "umbrella"):
        site.sql(f"CREATE SCHEMA {schema}")
        site.sql(f"CREATE TABLE {schema}.note (text text)")
    site.python(
        "from mysite.schemas import use; from mysite.tenants import current\n"
        "from reports.tasks import note, path, waits\n"
        "for tenant in ('acme', 'umbrella'):\n"
        "    token = current.set(tenant); use(tenant); note.enqueue('of ' + tenant); current.reset(token)\n"
        "path.enqueue()\n"
        "current.set('acme'); waits.enqueue()"
    )
    site.manage("meanwhile", "worker", "--drain", "--threads", "1", "--processes", "0")
    assert site.sql("SELECT result FROM meanwhile_job WHERE state = 4 ORDER BY id") == [
        ('"acme, public"',),
        ('"umbrella, public"',),
        (r'"\"$user\", public"',),
    ], site.failures()
    assert site.states() == {"SUCCESSFUL": 3, "FAILED": 1}
    assert site.sql("SELECT exception FROM meanwhile_attempt") == [("django_meanwhile.core.errors.ContextError",)]
    assert site.sql("SELECT text FROM acme.note UNION ALL SELECT text FROM umbrella.note") == [
        ("of acme",),
        ("of umbrella",),
    ]
