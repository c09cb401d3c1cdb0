"""The project that a reader of the README has: made by Django's own commands, with the README's lines in its files."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import django

from django_meanwhile import JobState
from tests.playground import Project, Running, eventually

from .pages import README, Page

# What a test changes in the settings that the README makes: where the databases are, and the hosts.
_SETTINGS = """

import json, os
DATABASES = json.loads(os.environ["SITE_DATABASES"])
ALLOWED_HOSTS = ["127.0.0.1"]
"""


class Site(Project):
    """A project of startproject and startapp in ``path``; ``manage`` runs its manage.py."""

    @property
    def env(self) -> dict[str, str]:
        """As for every project of the tests, but with settings of its own."""
        databases = {
            "default": self.database,
            "reports": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(self.path / "reports.sqlite3")},
        }
        env = super().env | {"SITE_DATABASES": json.dumps(databases), "DJANGO_SETTINGS_MODULE": "mysite.settings"}
        return env | {"PYTHONPATH": os.pathsep.join([str(self.path), env["PYTHONPATH"]])}

    def create(self) -> None:
        """Make the project, with the README's files, and migrate."""
        env = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
        for command in (["startproject", "mysite", "."], ["startapp", "reports"]):
            subprocess.run([sys.executable, "-m", "django", *command], check=True, cwd=self.path, env=env)
        self._settings = (self.path / "mysite/settings.py").read_text()
        self.use(README)
        self.manage("migrate", "--verbosity", "0")

    def use(self, page: Page) -> None:
        """Put the files of a page in place, added to those of the README."""
        files = README.files()
        for name, text in page.files().items() if page.path != README.path else ():
            files[name] = text if name.endswith("settings.py") else files.get(name, "") + text
        for name, text in files.items():
            self.write(name, text)
        shutil.rmtree(self.path / "reports/__pycache__", ignore_errors=True)  # a file may change within one second

    def write(self, name: str, text: str) -> None:
        """Write a file; text for the settings is added to those of the README."""
        text = text if django.VERSION >= (6, 0) else text.replace('"django.tasks.', '"django_tasks.')
        if name == "mysite/settings.py":
            ours = README.files()[name]
            text = "\n".join([self._settings, ours, "" if text.strip() == ours.strip() else text, _SETTINGS])
        elif name.startswith("mysite/") and name.endswith("settings.py"):
            text = f"from mysite.settings import *\n{text}"
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def manage(self, *args: str, check: bool = True, within: float = 120) -> "subprocess.CompletedProcess[str]":
        """Run its manage.py."""
        return self._run([sys.executable, "manage.py", *args], check=check, within=within)

    def start(self, *args: str, **env: str) -> Running:
        """Start its manage.py and let it run."""
        return self._start([sys.executable, "manage.py", *args], args[0], env)

    def manage_all(self, commands: list[list[str]]) -> list[tuple[int, str]]:
        """Run several management commands as manage.py would, in one process; return exit status and output of each."""
        code = (
            "import contextlib, io, json, sys\n"
            "from django.core.management import ManagementUtility\n"
            "for words in json.loads(sys.stdin.read()):\n"
            "    status, output = 0, io.StringIO()\n"
            "    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):\n"
            "        try:\n"
            "            ManagementUtility(['manage.py', *words]).execute()\n"
            "        except SystemExit as exit:\n"
            "            status = exit.code or 0\n"
            "    print(json.dumps([status, output.getvalue()]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=self.env,
            cwd=self.path,
            input=json.dumps(commands),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return [tuple(json.loads(line)) for line in done.stdout.splitlines()]

    def start_worker(self, *args: str) -> Running:
        """Start a worker, and wait until its children have registered."""
        before = self.workers()
        worker = self.start("meanwhile", "worker", *args)
        eventually(lambda: self.workers() - before or not worker.is_running(), within=60, what="a child has registered")
        assert worker.is_running(), worker.log
        return worker

    def workers(self) -> set[Any]:
        """Return the ids in the worker table."""
        return {row[0] for row in self.sql("SELECT id FROM meanwhile_worker")}

    def states(self) -> dict[str, int]:
        """Return how many jobs there are in each state."""
        rows = self.sql("SELECT state, count(*) FROM meanwhile_job GROUP BY state")
        return {JobState(state).name: number for state, number in rows}

    def failures(self) -> list[Any]:
        """Return what went wrong in jobs, for an assertion's message."""
        return self.sql("SELECT exception, detail FROM meanwhile_attempt")

    def jobs(self) -> dict[str, str]:
        """Return a job that has ended and one that waits, for commands that want one of them."""
        code = (
            "import json; from datetime import timedelta\n"
            "from reports.tasks import generate_report as task\n"
            "later = task.using(run_after=timedelta(hours=1))\n"
            "ended, ended_2, waiting = (later.enqueue({'name': 'x'}) for _ in range(3))\n"
            "ended.cancel(); ended_2.cancel()\n"
            "print(json.dumps({'show': ended.id, 'retry': ended_2.id, 'cancel': waiting.id}))"
        )
        return json.loads(self.python(code).stdout.splitlines()[-1])


def make_site(project: Project) -> Site:
    """Make the site in the place and on the database of a bare project."""
    site = Site(project.vendor, Path(project.path), project.database, project._unblocked)
    site.create()
    return site
