"""``meanwhile worker``: validates, prints the plan, and hands over to the supervisor."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterable, Mapping
from typing import Any

from django.core import checks
from django.core.management.base import CommandError, CommandParser
from django.db import connections

from ... import logs
from ...conf import Settings
from ...core.schema import Parse, seconds, whole
from ...worker.plan import WorkerPlan, make_plan
from ..backends import (
    Served,
    choose_backend,
    migrate_line,
    missing_migrations,
    problems,
    reachable,
    settings_in_force,
    store_on,
)
from ..wording import did_you_mean, duration, parse_duration
from .base import Subcommand

RANGES: dict[str, Parse] = {
    "threads": whole(0, 1000),
    "coroutines": whole(0, 10_000),
    "processes": whole(0, 1000),
    "max_tasks": whole(1, 1_000_000_000),
    "lease": seconds(1, 3600),
    "grace": seconds(0, 86_400),
}
"""As in the settings of the same names."""

_LEVELS = {0: logging.WARNING, 1: logging.INFO}


class Worker(Subcommand):
    """See the module."""

    name = "worker"
    summary = "run jobs until told to stop"
    description = """\
Runs jobs until told to stop. Several workers may run at once, on one host or on many: they share
the work, and take over from one another when one dies.

SIGTERM or Ctrl-C: takes no more jobs, lets the running ones end within the grace period, gives the
rest back to the queue uncharged, and exits. A second one: gives them back now.

Where a number is 0, jobs of that executor wait for another worker. Defaults come from MEANWHILE["WORKER"].
"""
    epilog = """\
examples:
  manage.py meanwhile worker                                        all queues, with the numbers of the settings
  manage.py meanwhile worker --queues mail,default --threads 16     two queues; mostly waiting for other servers
  manage.py meanwhile worker --threads 0 --coroutines 0 --processes 8    CPU-bound work, a process for each job
  manage.py meanwhile worker --drain                                do what is due, then exit (cron, CI)
  manage.py meanwhile worker --max-tasks 1000                       a fresh process after 1000 jobs (leaks of memory)

Logs go to stderr, unless the project's LOGGING has a handler for "django_meanwhile".

exit status: 0 stopped or drained, 1 the command line or the settings are wrong, 2 the database cannot be used
"""

    @classmethod
    def add_arguments(cls, parser: CommandParser) -> None:
        """See the base class."""
        parser.add_argument("--threads", type=int, metavar="N", help="jobs that run at once in threads (def)")
        parser.add_argument(
            "--coroutines", type=int, metavar="N", help="jobs that run at once in the event loop (async def)"
        )
        parser.add_argument(
            "--processes", type=int, metavar="N", help='processes for jobs of executor="process", one each'
        )
        parser.add_argument("--queues", metavar="A,B", help="only these queues (default: all)")
        parser.add_argument(
            "--backend", metavar="ALIAS", help="the backend of TASKS that it works for (default: default)"
        )
        parser.add_argument("--max-tasks", type=int, metavar="N", help="replace a child process after N jobs")
        parser.add_argument("--drain", action="store_true", help="exit as soon as no job is due")
        parser.add_argument(
            "--lease",
            type=parse_duration,
            metavar="TIME",
            help="how long after its death its jobs are taken over (setting LEASE)",
        )
        parser.add_argument(
            "--grace",
            type=parse_duration,
            metavar="TIME",
            help="how long running jobs may go on after SIGTERM (setting GRACE)",
        )

    def handle(self, options: Mapping[str, Any]) -> int:
        """See the base class. The status is the supervisor's."""
        served = choose_backend(options["backend"])
        plan = plan_of(served, options)
        self._refuse_errors(served)
        vendor = _usable(plan.database)
        if options["verbosity"]:
            self.heading(f'Worker for backend "{plan.backend}", on {platform.node()}, process {os.getpid()}')
            for line in describe(plan, vendor):
                self.say(line)
            self.stdout.flush()
        level = _LEVELS.get(options["verbosity"], logging.DEBUG)
        logs.ensure_handler(level)
        connections.close_all()  # what follows has connections of its own

        from ...worker.supervisor import run  # noqa: PLC0415 - the other subcommands do without a worker

        return run(plan, log_level=level)

    def _refuse_errors(self, served: Served) -> None:
        """Print the warnings of our system checks; errors end the command."""
        found = problems([served])
        if errors := [message for message in found if message.is_serious()]:
            raise CommandError("The worker cannot start:\n" + "\n".join(str(message) for message in errors))
        for message in found:
            if message.level >= checks.WARNING:
                self.warn(str(message))


def plan_of(served: Served, options: Mapping[str, Any]) -> WorkerPlan:
    """Validate the flags and make the plan; ``CommandError`` names the flag, the value and the rule."""
    settings = settings_in_force()
    flags: dict[str, Any] = {"drain": options["drain"]}
    for name, parse in RANGES.items():
        if options[name] is not None:
            try:
                flags[name] = parse(options[name])
            except ValueError as error:
                raise CommandError(f"--{name.replace('_', '-')} {options[name]:g}: {error}.") from None
    if options["queues"] is not None:
        flags["queues"] = _queue_names(options["queues"])
    _refuse_unknown_queues(flags.get("queues"), settings, served)
    plan = make_plan(settings, backend=served.backend, **flags)
    if not plan.executors:
        raise CommandError(
            "--threads, --coroutines and --processes are all 0: such a worker could run nothing. Give one of them "
            "a number, as in --threads 8."
        )
    return plan


def describe(plan: WorkerPlan, vendor: str) -> list[str]:
    """Return the plan in lines, for people."""
    shared, single = (sum(child.kind == kind for child in plan.children) for kind in ("shared", "process"))
    children = [f"{shared} for threads and coroutines"] * bool(shared) + [f"{single} of one slot"] * bool(single)
    lines = [
        ("database", f"{plan.database} ({vendor}), {room(plan)}"),
        ("queues", ", ".join(logs.escape(queue) for queue in plan.queues) or "all"),
        (
            "jobs at once",
            f"{plan.threads} in threads, {plan.coroutines} coroutines, {plan.processes} in processes of their own",
        ),
        ("processes", f"{1 + shared + single}: {', '.join(['a supervisor', *children])}"),
        ("lease", f"{duration(plan.lease)}, renewed every {duration(plan.beat)}, swept every {duration(plan.sweep)}"),
        ("ends", _ends(plan)),
    ]
    return [f"  {name:14}{value}" for name, value in lines]


def room(plan: WorkerPlan) -> str:
    """Return how many connections a plan takes, in words."""
    return f"up to {plan.connections} connections, {plan.peak_connections} while children are replaced or suspects run"


def _ends(plan: WorkerPlan) -> str:
    when = "as soon as nothing is due" if plan.drain else "on SIGTERM or Ctrl-C"
    recycled = f"; children replaced after {plan.max_tasks} jobs" if plan.max_tasks else ""
    return f"{when}, with {duration(plan.grace)} of grace for running jobs{recycled}"


def _queue_names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not all(names):
        raise CommandError(
            f"--queues {logs.escape(text)!r}: an empty name. Write the names with commas between them, as in "
            "--queues default,mail."
        )
    return names


def _refuse_unknown_queues(flag: Iterable[str] | None, settings: Settings, served: Served) -> None:
    """A queue that the backend does not have would never get a job: most likely a slip of the pen."""
    source, names = (
        ("--queues", flag) if flag is not None else ('MEANWHILE["WORKER"]["queues"]', settings.worker.queues)
    )
    for name in names:
        if served.queues and name not in served.queues:
            raise CommandError(
                f"{source} names {logs.escape(name)!r}, a queue that "
                f'TASKS["{served.backend}"]["QUEUES"] does not list. '
                f"{did_you_mean(logs.escape(name), served.queues)}"
            )


def _usable(database: str) -> str:
    """Return the vendor of a database that answers and has all our tables; else ``CommandError``."""
    store = store_on(database)
    with reachable(database):
        missing = missing_migrations(database)
    if missing:
        raise CommandError(
            f"Database {database!r} lacks migrations of django_meanwhile: {', '.join(missing)}. Run: "
            f"{migrate_line(database)}",
            returncode=2,
        )
    return store.vendor
