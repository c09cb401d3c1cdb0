"""docs/how-to/upgrading.md: jobs of the old code, run by the new one, and the other way round."""

import pytest

from .pages import README, page
from .site import Site

PAGE = page("how-to/upgrading")
BLOCKS = [block.text for block in PAGE.blocks() if block.file == "reports/tasks.py"]
OLD = """
# reports/tasks.py
from django_meanwhile import task


@task
def make_report(name):
    return f"old report for {name}"


@task
def send_report(name):
    return name


@task
def moves(where):
    return where


@task
def loses(one, two):
    return one


@task
def gains(one):
    return one


@task
def gains_default(one):
    return one


@task(priority=5)
def falls():
    pass
"""
NEW = (
    "\n\n".join(BLOCKS)
    + """

@task(executor="process", queue_name="default")
def moves(where):
    return where


@task
def loses(one):
    return one


@task
def gains(one, two):
    return one


@task
def gains_default(one, two=2):
    return [one, two]


@task(priority=-5)
def falls():
    pass


@task
def is_new():
    return "new"
"""
)


@pytest.fixture(params=["sqlite"], scope="module")
def _vendor_of_project(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def site(site: Site) -> Site:
    """The site without jobs."""
    site.use(README)
    site.sql("DELETE FROM meanwhile_attempt")
    site.sql("DELETE FROM meanwhile_job")
    return site


def _enqueue(site: Site, *calls: str) -> None:
    site.python("from reports.tasks import *\n" + "\n".join(calls))


def _drain(site: Site) -> None:
    """Let a worker run that knows all executors."""
    site.manage("meanwhile", "worker", "--drain", "--threads", "1", "--processes", "1")


def _jobs(site: Site) -> dict[str, tuple[object, ...]]:
    rows = site.sql("SELECT task, state, result, executor, attempts, interruptions, rank FROM meanwhile_job")
    return {row[0].rpartition(".")[2]: row[1:] for row in rows}


def test_todays_code_runs_yesterdays_jobs(site: Site) -> None:
    """Each line of the table of changes: what the old code enqueued ends, or waits, as the page says."""
    site.write("reports/tasks.py", OLD)
    _enqueue(
        site,
        "make_report.enqueue('x'); send_report.enqueue(name='x'); moves.enqueue('x'); loses.enqueue(1, 2)",
        "gains.enqueue(1); gains_default.enqueue(1); falls.enqueue()",
    )
    site.write("reports/tasks.py", NEW)
    _drain(site)
    jobs = _jobs(site)
    assert jobs["make_report"][:2] == (4, '"report for x"'), "found by its alias"
    assert jobs["send_report"][:2] == (4, '"by-name-x"'), "both forms are accepted"
    assert jobs["moves"][:5] == (4, '"x"', "process", 1, 0), "moved, uncharged"
    assert jobs["gains_default"][:2] == (4, "[1,2]")
    assert jobs["falls"][5] == -5, "the priority stays that of the enqueue"
    failed = site.sql("SELECT exception FROM meanwhile_attempt")
    assert failed == [("builtins.TypeError",)] * 2
    assert {name for name, row in jobs.items() if row[0] == 5} == {"loses", "gains"}
    assert site.manage("meanwhile", "status").returncode == 0


def test_the_old_code_keeps_what_it_does_not_know(site: Site) -> None:
    """After a step back, a job of a task that only the new code has waits, uncharged, is named, and runs later."""
    site.write("reports/tasks.py", NEW)
    _enqueue(site, "is_new.enqueue()")
    site.write("reports/tasks.py", OLD)
    _drain(site)
    assert _jobs(site)["is_new"][:1] == (1,)
    assert _jobs(site)["is_new"][3] == 0, "no attempt"
    assert "reports.tasks.is_new" in site.manage("meanwhile", "status", check=False).stdout
    site.write("reports/tasks.py", NEW)
    job = site.sql("SELECT due_at FROM meanwhile_job")
    assert job
    site.sql("UPDATE meanwhile_job SET due_at = '2020-01-01 00:00:00.000000'")
    _drain(site)
    assert _jobs(site)["is_new"][:2] == (4, '"new"')
