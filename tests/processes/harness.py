"""What the tests of real workers share: a worker to kill, the ground truth, and a watch on every recorded ending."""

from __future__ import annotations

import json
import signal
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from tests.playground import Project, Running, eventually

if TYPE_CHECKING:
    from collections.abc import Iterable

FAST = {"LEASE": 2, "BEAT": 0.6, "SWEEP": 0.5, "GRACE": 5}
"""The times that the issue demands the figures for."""

CALM = FAST | {"LEASE": 10, "BEAT": 1}
"""For tests that count runs and are not about leases: no pause of a busy machine is as long as such a lease."""

TERMINAL = (4, 5, 6, 7)

_AUDIT = {
    "sqlite": """
        CREATE TABLE audit (job text, state int, epoch int);
        CREATE TRIGGER audit_endings AFTER UPDATE OF state ON meanwhile_job
        WHEN NEW.state IN (4, 5, 6, 7) AND OLD.state NOT IN (4, 5, 6, 7)
        BEGIN INSERT INTO audit VALUES (NEW.id, NEW.state, NEW.epoch); END""",
    "postgresql": """
        CREATE TABLE audit (job uuid, state int, epoch int);
        CREATE FUNCTION note_ending() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO audit VALUES (NEW.id, NEW.state, NEW.epoch); RETURN NULL; END $$;
        CREATE TRIGGER audit_endings AFTER UPDATE OF state ON meanwhile_job FOR EACH ROW
        WHEN (NEW.state IN (4, 5, 6, 7) AND OLD.state NOT IN (4, 5, 6, 7)) EXECUTE FUNCTION note_ending()""",
}


@dataclass(frozen=True)
class Line:
    """One line of the ground truth."""

    word: str
    key: str
    pid: int
    at: float


def truth(project: Project) -> list[Line]:
    """Return what the bodies wrote, in the order of writing."""
    path = project.path / "truth.log"
    if not path.exists():
        return []
    whole, _, _ = path.read_text().rpartition("\n")  # of the last one, a part may be there
    lines = (line.split() for line in whole.splitlines())
    return [Line(word, key, int(pid), float(at)) for word, key, pid, at in lines]


def said(project: Project, word: str, key: str, times: int = 1) -> list[Line]:
    """Return the lines of that word and key once there are that many, or nothing."""
    found = [line for line in truth(project) if (line.word, line.key) == (word, key)]
    return found if len(found) >= times else []


def audit_endings(project: Project) -> None:
    """Have the database itself count every recorded ending."""
    if project.vendor == "sqlite":
        with project.connect() as connection:
            connection.executescript(_AUDIT["sqlite"])
        connection.close()
    else:
        project.sql(_AUDIT["postgresql"])


def recorded_twice(project: Project) -> list[tuple[str, int]]:
    """Return the jobs whose ending was recorded more than once."""
    return project.sql("SELECT job, count(*) FROM audit GROUP BY job HAVING count(*) > 1")


def states(project: Project) -> Counter[int]:
    """Return how many jobs are in each state."""
    return Counter(dict(project.sql("SELECT state, count(*) FROM meanwhile_job GROUP BY state")))


def all_ended(project: Project) -> bool:
    """Whether no job is live."""
    return not project.sql("SELECT 1 FROM meanwhile_job WHERE state IN (1, 2, 3) LIMIT 1")


def enqueue(project: Project, *calls: str) -> list[str]:
    """Enqueue in a process of its own; a call is ``task.enqueue(…)`` as text. Returns the job ids."""
    code = "from tests.project.tasks import *\nimport json\n"
    code += "print(json.dumps([r.id for r in (" + "".join(f"{call}," for call in calls) + ")]))"
    ids: list[str] = json.loads(project.python(code).stdout.splitlines()[-1])
    return ids


def job(project: Project, job_id: str) -> dict[str, object]:
    """Return the columns of a job that tests look at."""
    names = (
        "state", "epoch", "attempts", "crashes", "interruptions", "deaths", "suspect", "result", "progress", "executor"
    )  # fmt: skip
    key = job_id.replace("-", "") if project.vendor == "sqlite" else job_id
    rows = project.sql(f"SELECT {', '.join(names)} FROM meanwhile_job WHERE id = %s", (key,))
    return dict(zip(names, rows[0], strict=True))


def attempts(project: Project, job_id: str) -> list[tuple[str, str, str]]:
    """Return (kind, exception, detail) of the attempt rows, in order."""
    key = job_id.replace("-", "") if project.vendor == "sqlite" else job_id
    return project.sql("SELECT kind, exception, detail FROM meanwhile_attempt WHERE job_id = %s ORDER BY epoch", (key,))


def start_worker(project: Project, *flags: str, **env: str) -> Running:
    """Start a worker and wait until its children are ready."""
    before = living(project)
    worker = project.start("meanwhile", "worker", *flags, **env)
    eventually(lambda: living(project) - before, within=60, what="a child has registered")
    return worker


def living(project: Project) -> set[str]:
    """Return the ids of worker rows that are not dead."""
    return {str(row[0]) for row in project.sql("SELECT id FROM meanwhile_worker WHERE dead_at IS NULL")}


def children(worker: Running) -> list[psutil.Process]:
    """Return the living children of a worker."""
    try:
        found = psutil.Process(worker.pid).children()
    except psutil.NoSuchProcess:
        return []
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def kill(processes: Iterable[psutil.Process], number: int = signal.SIGKILL) -> None:
    """SIGKILL them all, or send another signal; some may go with those before them."""
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def is_gone(pid: int) -> bool:
    """Whether that process has ended, reaped by anybody or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
