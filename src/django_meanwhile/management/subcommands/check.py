"""``meanwhile check``: what a worker would start, what the settings are, and whether the database allows it.

Beside the system checks it says what takes a database to know: E030 no plan can be made, E031 the database does not
answer, E032 it lacks migrations, W030 its server has too few connections left; and W012, which ``manage.py check`` says
with ``--database``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, DatabaseError

from ...checks.connections import too_many
from ...conf import Settings, read_settings
from ...logs import escape
from ...worker.plan import WorkerPlan, make_plan
from ..backends import (
    Served,
    choose_backend,
    migrate_line,
    missing_migrations,
    our_backends,
    problems,
    reachable,
    store_on,
)
from ..budget import Budget, is_counted, make_budget, verdict
from ..capacity import Capacity, capacity_of
from ..wording import table
from .base import Subcommand
from .worker import describe


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """One backend: what a worker would be (None: impossible), what its server allows (None: it did not answer)."""

    served: Served
    plan: WorkerPlan | None = None
    vendor: str = ""
    capacity: Capacity | None = None
    problems: list[checks.CheckMessage]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What may be open to one database, and what its server allows (None: it did not answer)."""

    budget: Budget
    capacity: Capacity | None


class Check(Subcommand):
    """See the module."""

    name = "check"
    summary = "show what a worker would start, and whether the settings allow it"
    description = """\
Shows, for each backend, what "manage.py meanwhile worker" would start; every setting in force, and
whether it is the default; the database, its migrations, and how many connections one worker may
open against how many the server allows; the sum of the connections that web server, threads and
workers may open; and the problems that the system checks of django_meanwhile see.
"""
    epilog = """\
examples:
  manage.py meanwhile check
  manage.py meanwhile check --backend reports
  manage.py meanwhile check --deploy          ask also whether a living worker serves every queue
  manage.py meanwhile check --json            for programs

exit status: 0 no errors (there may be warnings), 1 errors, or a database that cannot be used
"""

    @classmethod
    def add_arguments(cls, parser: CommandParser) -> None:
        """See the base class."""
        parser.add_argument("--backend", metavar="ALIAS", help="only this backend of TASKS")
        parser.add_argument("--deploy", action="store_true", help="run the checks for a deployment as well")
        parser.add_argument("--json", action="store_true", help="as JSON, for programs")

    def handle(self, options: Mapping[str, Any]) -> int:
        """See the base class."""
        settings, _ = read_settings()
        served = [choose_backend(options["backend"])] if options["backend"] else our_backends()
        found = problems(served, deploy=options["deploy"])
        looked = [look(each, settings) for each in served]
        found += [problem for each in looked for problem in each.problems]
        ours = {each.database for each in served}
        budgets = list(compare(settings, ours if options["backend"] else ours | {DEFAULT_DB_ALIAS}))
        found += [problem for each in budgets if each.capacity for problem in too_many(each.budget, each.capacity)]
        status = int(any(problem.is_serious() for problem in found))
        if options["json"]:
            self.say_json(as_json(looked, budgets, settings, found))
            return status
        for each in looked:
            self._backend(each)
        for compared in budgets:
            self._budget(compared)
        self._settings(settings)
        self._problems(found)
        return status

    def _backend(self, looked: Looked) -> None:
        self.heading(f'Backend "{looked.served.backend}": a worker would be')
        if looked.plan is None:
            self.say(f"  {'impossible':14}{escape(looked.problems[0].msg)}")
            return
        for line in describe(looked.plan, looked.vendor):
            self.say(line)
        self.say(f"  {'queue names':14}{', '.join(map(escape, looked.served.queues)) or 'any'}")
        self.say(f"  {'connections':14}{_words(looked.plan, looked.capacity)}")
        self.say()

    def _budget(self, compared: Compared) -> None:
        budget, capacity = compared.budget, compared.capacity
        self.heading(f'Connections to database "{escape(budget.database)}" that may be open at once, on one host')
        rows = [(row.what, row.arithmetic, f"{row.connections}{'+' * row.at_least}", row.source) for row in budget.rows]
        rows.append(("together", "", f"{budget.total}{'+' * budget.at_least}", ""))
        for line in table(("WHO", "HOW MANY", "SUM", "BY"), rows):
            self.say(f"  {line}")
        if capacity is None:
            self.say("  the database did not answer: how many its server allows is unknown")
        else:
            self.say(f"  the server allows {capacity.usable}: {capacity.arithmetic}; {capacity.in_use} are in use now")
            self.say(f"  {verdict(budget, capacity)}")
        self.say("  not in the sum: processes of parallel_map, and what jobs open that use django_meanwhile.concurrent")
        self.say()

    def _settings(self, settings: Settings) -> None:
        self.heading("Settings in force (durations in seconds)")
        rows = [(name, repr(value), "set" if is_set else "default") for name, value, is_set in in_force(settings)]
        for line in table(("SETTING", "VALUE", ""), rows):
            self.say(f"  {line}")
        self.say()

    def _problems(self, found: Iterable[checks.CheckMessage]) -> None:
        shown = sorted(found, key=lambda problem: -problem.level)
        if not shown:
            self.say(self.style.SUCCESS("No problems."))
            return
        self.heading("Problems")
        for problem in shown:
            paint = self.style.ERROR if problem.is_serious() else self.style.WARNING
            self.say(paint(str(problem)))


def look(served: Served, settings: Settings) -> Looked:
    """Make the plan of one backend, and ask its database whether that can be."""
    try:
        plan = make_plan(settings, backend=served.backend)
        vendor = store_on(served.database).vendor
    except (CommandError, ImproperlyConfigured) as error:
        return Looked(served=served, problems=[checks.Error(str(error), id="meanwhile.E030")])
    try:
        with reachable(served.database):
            missing = missing_migrations(served.database)
            capacity = capacity_of(served.database)
    except CommandError as error:
        problem = checks.Error(str(error), id="meanwhile.E031")
        return Looked(served=served, plan=plan, vendor=vendor, problems=[problem])
    return Looked(
        served=served,
        plan=plan,
        vendor=vendor,
        capacity=capacity,
        problems=[*_missing(served, missing), *_too_many(served, plan, capacity)],
    )


def compare(settings: Settings, aliases: Collection[str]) -> Iterable[Compared]:
    """Add up the connections to each of these databases whose server counts them."""
    for alias in sorted(aliases):
        if not is_counted(alias):
            continue
        budget = make_budget(alias, settings, our_backends())
        try:
            yield Compared(budget=budget, capacity=capacity_of(alias))
        except DatabaseError:  # told by E031, if jobs are in it
            yield Compared(budget=budget, capacity=None)


def as_json(
    looked: Iterable[Looked],
    budgets: Iterable[Compared],
    settings: Settings,
    found: Collection[checks.CheckMessage],
) -> dict[str, Any]:
    """Return what ``check --json`` prints. Keys are added in later versions, not removed or renamed."""
    return {
        "errors": sum(problem.is_serious() for problem in found),
        "backends": [
            {
                "backend": each.served.backend,
                "database": each.served.database,
                "vendor": each.vendor or None,
                "queues": list(each.served.queues),
                "worker": None if each.plan is None else _plan_as_json(each.plan),
                "server_connections": None if each.capacity is None else asdict(each.capacity),
            }
            for each in looked
        ],
        "budgets": [
            {
                **asdict(each.budget),
                "total": each.budget.total,
                "allowed": None if each.capacity is None else each.capacity.usable,
            }
            for each in budgets
        ],
        "settings": [{"name": name, "value": value, "set": is_set} for name, value, is_set in in_force(settings)],
        "problems": [
            {"id": problem.id, "serious": problem.is_serious(), "message": problem.msg, "hint": problem.hint}
            for problem in found
        ],
    }


def _plan_as_json(plan: WorkerPlan) -> dict[str, Any]:
    return {
        **{name: getattr(plan, name) for name in ("threads", "coroutines", "processes", "max_tasks", "lease", "grace")},
        "queues": list(plan.queues),
        "connections": plan.connections,
        "peak_connections": plan.peak_connections,
    }


def in_force(settings: Settings) -> list[tuple[str, Any, bool]]:
    """Return (the name of a setting as one writes it, its value, whether it was set) for all of them."""
    raw = getattr(django_settings, "MEANWHILE", {})
    rows: list[tuple[str, Any, bool]] = []
    for item in fields(settings):
        key, value = item.name.upper(), getattr(settings, item.name)
        given = raw.get(key) if isinstance(raw, Mapping) else None
        if is_dataclass(value):
            inner = given if isinstance(given, Mapping) else {}
            rows += [(f"{key}: {leaf.name}", getattr(value, leaf.name), leaf.name in inner) for leaf in fields(value)]
        else:
            rows.append((key, value, isinstance(raw, Mapping) and key in raw))
    return rows


def _words(plan: WorkerPlan, capacity: Capacity | None) -> str:
    if capacity is None:
        return "unknown: the database did not answer"
    if capacity.allowed is None:
        return f"{plan.connections} at most for one worker; the database does not limit them"
    return (
        f"{plan.connections} at most for one worker ({plan.peak_connections} for a while); the server allows "
        f"{capacity.allowed}, keeps {capacity.reserved} for superusers, has given out {capacity.in_use}: "
        f"{capacity.free} are free"
    )


def _missing(served: Served, missing: list[str]) -> Iterable[checks.CheckMessage]:
    if missing:
        yield checks.Error(
            f"The database {served.database!r} lacks migrations of django_meanwhile: {', '.join(missing)}.",
            hint=f"Run: {migrate_line(served.database)}",
            id="meanwhile.E032",
        )


def _too_many(served: Served, plan: WorkerPlan, capacity: Capacity) -> Iterable[checks.CheckMessage]:
    """Warn where one more worker does not fit; connections in use may be those of workers that run already."""
    if capacity.free is not None and plan.peak_connections > capacity.free:
        yield checks.Warning(
            f'A worker for backend "{served.backend}" may open {plan.peak_connections} connections ({plan.connections} '
            f"for good, the others while children are replaced or suspects run), and the server has {capacity.free} "
            "left.",
            hint='Write smaller numbers, as in MEANWHILE["WORKER"] = {"threads": 4}, or raise max_connections.',
            id="meanwhile.W030",
        )
