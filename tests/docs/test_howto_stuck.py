"""docs/how-to/stuck-job.md: each situation is made for real, and what the page quotes is what the command says."""

import os
import re
import signal

import pytest

from tests.playground import eventually

from .howto import shell
from .pages import README, Page, page
from .site import Site

PAGE, PRODUCTION = page("how-to/stuck-job"), page("how-to/production")

TASKS = """
import os, time
from django_meanwhile import ExponentialBackoff, task


@task
def send(seconds):
    time.sleep(seconds)


@task(max_attempts=3, backoff=ExponentialBackoff(first=3599, jitter=0))
def fails():
    raise OSError("the provider does not answer")


@task(executor="process")
def crashes():
    os.kill(os.getpid(), 9)
"""
GONE = """
@task
def gone():
    pass
"""


@pytest.fixture(params=["sqlite"], scope="module")
def _vendor_of_project(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def site(site: Site) -> Site:
    """The site with the tasks above, short leases, no worker and no job."""
    site.kill_everything()
    site.use(README)
    site.write("mysite/settings.py", 'MEANWHILE = {"LEASE": 5, "EMBEDDED": False}')
    site.write("reports/tasks.py", README.files()["reports/tasks.py"] + TASKS)
    for table in ("attempt", "job", "worker"):
        site.sql(f"DELETE FROM meanwhile_{table}")
    return site


def _quoted(beginning: str, of: Page = PAGE) -> list[str]:
    """Return the lines of the page's quotation with a line that begins like that."""
    found = [each.text for each in of.blocks() if re.search(rf"^\s*{re.escape(beginning)}", each.text, re.MULTILINE)]
    assert len(found) == 1, f"{len(found)} blocks of {of.name} quote {beginning!r}"
    return found[0].splitlines()


def _pattern(line: str) -> str:
    """Return what the line looks like whatever the id, the host, the numbers and the widths are."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "@I", " ".join(line.split()))
    text = re.sub(r"\d+(\.\d+)?", "@N", text.replace("web1", "@H"))
    patterns = {"@I": r"[0-9a-f-]{36}", "@H": r"\S+", "@N": r"\d+(\.\d+)?"}
    return re.sub("@[IHN]", lambda found: patterns[found.group()], re.escape(text))


def _says(site: Site, quoted: list[str], *command: str) -> str:
    """Run a command, and hold against it what the page quotes: every line, in this order."""
    output = site.manage("meanwhile", *command, check=False).stdout
    assert quoted
    lines = iter(" ".join(line.split()) for line in output.splitlines())
    for line in quoted:
        pattern = re.compile(_pattern(line))
        assert any(pattern.match(said) for said in lines), f"{line!r} is not, or not there, in:\n{output}"
    return output


def _enqueue(site: Site, call: str) -> str:
    code = f"from datetime import timedelta; from reports import tasks; print(tasks.{call}.id)"
    return site.python(code).stdout.strip()


def test_quotations_are_told_apart() -> None:
    """The comparison sees a changed word, and no difference in a number, an id or a host."""
    line = "    0190d2a4-7c1e-7b3a-9d55-0242ac120002  reports.tasks.send  4 s  cancel requested"
    said = "01a212e5-88fe-75d1-89fa-dea8cd9095e2 reports.tasks.send 12.5 s cancel requested"
    assert re.match(_pattern(line), said)
    assert not re.match(_pattern(line), said.replace("requested", "asked"))
    assert not re.match(_pattern("1 job due"), "1 job is due")


def test_nobody_works(site: Site) -> None:
    """Without a worker `status` says which queue and executor nobody works, and what to start; that mends it."""
    job = _enqueue(site, "generate_report.enqueue({'name': 'x'})")
    output = _says(site, _quoted("- Nobody works queue"), "status")
    advice = re.search(r"Run: manage.py (meanwhile worker .*)", output)
    assert advice
    site.manage(*advice.group(1).split(), "--drain")
    assert "SUCCESSFUL" in site.manage("meanwhile", "show", job).stdout


def test_there_is_no_such_job(site: Site) -> None:
    """A job whose transaction was rolled back is not found."""
    code = (
        "from django.db import transaction; from reports.tasks import generate_report as task\n"
        "with transaction.atomic():\n"
        "    print(task.enqueue({'name': 'x'}).id); transaction.set_rollback(True)"
    )
    done = site.manage("meanwhile", "show", site.python(code).stdout.strip(), check=False)
    assert done.returncode == 1
    assert "No job" in done.stderr


def test_unknown_and_suspect(site: Site) -> None:
    """A task that is gone from the code, and a job under suspicion, are told as the page quotes them."""
    site.write("reports/tasks.py", README.files()["reports/tasks.py"] + TASKS + GONE)
    _enqueue(site, "gone.enqueue()")
    site.write("reports/tasks.py", README.files()["reports/tasks.py"] + TASKS)
    quoted = _quoted("- 1 job waiting for a task")
    output = _says(site, quoted, "status")
    advice = re.search(r"manage.py (meanwhile cancel --task \S+)", output)
    assert advice
    assert advice.group(1) in quoted[-1]
    site.manage(*advice.group(1).split(), "--yes")
    assert site.states() == {"CANCELLED": 1}
    _enqueue(site, "send.enqueue(0)")
    site.sql("UPDATE meanwhile_job SET suspect = 1, deaths = 2 WHERE state = 2")
    _says(site, _quoted("- 1 job of queue"), "status")
    site.manage("meanwhile", "worker", "--drain")
    assert site.states() == {"CANCELLED": 1, "SUCCESSFUL": 1}


def test_scheduled_for_another_attempt(site: Site) -> None:
    """A failed attempt shows with the time of the next one; cancel and retry run the job at once."""
    job = _enqueue(site, "fails.enqueue()")
    worker = site.start_worker("--processes", "0")
    eventually(lambda: site.states() == {"SCHEDULED": 1}, within=30, what="the first attempt has failed")
    _says(site, [line.replace("58 s", "59 min 59 s") for line in _quoted("state         SCHEDULED")], "show", job)
    site.manage("meanwhile", "cancel", job)
    site.manage("meanwhile", "retry", job)
    eventually(lambda: len(site.sql("SELECT id FROM meanwhile_attempt")) == 2, what="it ran again")
    assert worker.stop() == 0


@pytest.mark.slow
def test_busy_cancelled_and_gone(site: Site) -> None:
    """One slot, a body that hears no cancel, then a child and a supervisor that are killed: as the page says it."""
    worker = site.start_worker("--threads", "1", "--processes", "0")
    deaf = _enqueue(site, "send.enqueue(600)")
    eventually(lambda: site.states().get("RUNNING"), what="it runs")
    _enqueue(site, "send.enqueue(0)")
    eventually(lambda: _behind(site), what="the queue is behind")
    _says(site, _quoted("WORKER"), "status", "--max-age", "1s")
    site.manage("meanwhile", "cancel", deaf)
    output = _says(site, _quoted("0190d2a4-7c1e-7b3a-9d55-0242ac120002  reports.tasks.send  4 s  cancel"), "status")
    pid = int(re.search(r"^shared +\S+ +(\d+)", output, re.MULTILINE).group(1))  # type: ignore[union-attr]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: site.states() == {"CANCELLED": 1, "SUCCESSFUL": 1}, what="its successor goes on")

    _enqueue(site, "send.enqueue(600)")
    eventually(lambda: site.states().get("RUNNING"), what="it runs")
    worker.kill()
    eventually(lambda: "are gone" in site.manage("meanwhile", "status", check=False).stdout)
    _says(site, _quoted("- 1 job RUNNING on workers that are gone"), "status")
    worker = site.start_worker("--processes", "0")
    eventually(lambda: site.sql("SELECT interruptions FROM meanwhile_job WHERE state = 3") == [(1,)])
    worker.kill()


def _behind(site: Site) -> bool:
    return "is behind" in site.manage("meanwhile", "status", "--max-age", "1s", check=False).stdout


def test_cron_mails_only_what_is_wrong(site: Site) -> None:
    """The crontab's command prints the findings while nobody works, and nothing while all is well."""
    line = _quoted("* * * * * mysite", PRODUCTION)[-1].removeprefix("* * * * * mysite ")
    line = line.replace("/srv/mysite", str(site.path)).replace("venv/bin/python", "python")
    assert shell(site, line).stdout == shell(site, line).stderr == ""
    _enqueue(site, "generate_report.enqueue({'name': 'x'})")
    assert "Nobody works queue" in shell(site, line).stdout
