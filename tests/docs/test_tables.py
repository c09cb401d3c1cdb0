"""The tables of `docs/` are compared with the code: settings, flags, options, states, limits, constants."""

import argparse
import inspect
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from importlib import import_module
from typing import Any

import pytest
from django.test import override_settings

from django_meanwhile import JobState, TaskContext, TaskResult, conf
from django_meanwhile.core import codec, options
from django_meanwhile.core.identifiers import uuid7
from django_meanwhile.core.job import Run
from django_meanwhile.core.outcome import MAX_CRASHES, MAX_SHARED_DEATHS, Charged, Decision, End, Outcome, decide
from django_meanwhile.core.states import TERMINAL, TRANSITIONS, Executor
from django_meanwhile.core.text import MAX_DETAIL
from django_meanwhile.management.commands.meanwhile import Command
from django_meanwhile.management.subcommands import SUBCOMMANDS
from django_meanwhile.run.handle import MAX_PROGRESS_MESSAGE
from django_meanwhile.store import rows
from django_meanwhile.tasks import backend_checks, decorator
from django_meanwhile.tasks.result import status_of
from django_meanwhile.tasks.task import Task
from django_meanwhile.worker import upkeep
from django_meanwhile.worker.plan import make_plan

from .pages import ROOT, code, page

SETTINGS, COMMANDS, STATES, TASKS = (page(f"reference/{name}") for name in ("settings", "commands", "states", "tasks"))
LEASES, EXECUTORS = page("explanation/leases"), page("explanation/executors")
PRODUCTION, STUCK, SCALING = (page(f"how-to/{name}") for name in ("production", "stuck-job", "scaling"))
SOURCE = {path: path.read_text() for path in (ROOT / "src/django_meanwhile").rglob("*.py")}


def _first_code(cell: str) -> str:
    found = code(cell)
    assert found, f"no name in {cell!r}"
    return found[0]


# --- settings -----------------------------------------------------------------------------------

SECTIONS = [
    ("MEANWHILE", conf._SCHEMA, conf.Settings()),
    ('MEANWHILE["WORKER"]', conf._WORKER, conf.WorkerSettings()),
    ('MEANWHILE["RETENTION"]', conf._RETENTION, conf.Retention()),
]


def _default(value: Any) -> str:
    if value == () or hasattr(value, "__dataclass_fields__"):
        return "[]" if value == () else "{}"
    return f"{value:g}" if isinstance(value, float) and value < 100_000 else str(value).removesuffix(".0")


@pytest.mark.parametrize(("heading", "schema", "defaults"), SECTIONS, ids=[name for name, *_ in SECTIONS])
def test_settings_are_those_of_the_schema(heading: str, schema: dict[str, Any], defaults: Any) -> None:
    """Every key of the schema has its row, in order, with default and range as they are; no other key has one."""
    table = SETTINGS.table(heading, "key", "default", "range")
    assert [_first_code(key) for key in table.column("key")] == list(schema)
    for key, default, accepted in zip(table.column("key"), table.column("default"), table.column("range"), strict=True):
        name = _first_code(key)
        if name not in {"EMBEDDED", "GUARD"}:  # whose defaults depend on DEBUG: tests of their own show it
            assert default == _default(getattr(defaults, name.lower())), name
        parse, bounds = schema[name], re.match(r"([\d.]+) to ([\d.]+)(, or None)?$", accepted)
        if bounds:
            low, high = (float(text) if "." in text else int(text) for text in bounds.groups()[:2])
            assert parse(low) == low
            assert parse(high) == high
            for outside in (low - 1, high + 1):
                with pytest.raises(ValueError, match=r"must be"):
                    parse(outside)
            assert bool(bounds.group(3)) == _accepts(parse, None)
        elif accepted.startswith('"'):
            for word in re.findall(r'"(\w+)"', accepted):
                assert parse(word) == word
        else:
            lists = {"a list of names", "a list of modules", "a list of classes"}
            assert accepted in {"True or False", *lists, "see below"}, name


def _accepts(parse: Any, value: Any) -> bool:
    try:
        parse(value)
    except ValueError:
        return False
    return True


@override_settings(MEANWHILE={"LEASE": 6})
def test_beat_and_sweep_follow_the_lease() -> None:
    """Set alone, LEASE takes BEAT and SWEEP with it, by the shares that the page gives."""
    settings = conf.get_settings()
    assert (settings.beat, settings.sweep) == (6 / 3, 6 / 4)
    assert "If only `LEASE` is set: a third of it" in SETTINGS.text
    assert "If only `LEASE` is set: a quarter of it, at most 5" in SETTINGS.text


def test_backend_options_are_those_that_are_known() -> None:
    """The table of OPTIONS has the keys that the backend's check knows."""
    table = SETTINGS.table("TASKS", "key of `OPTIONS`")
    assert {_first_code(key) for key in table.column("key of `OPTIONS`")} == set(backend_checks.KNOWN_OPTIONS)


# --- commands -----------------------------------------------------------------------------------


def _parsers() -> dict[str, argparse.ArgumentParser]:
    parser = Command().create_parser("manage.py", "meanwhile")
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(subparsers.choices)


def _flags(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for group in parser._action_groups:
        if group.title != "options of every command":
            yield from (action for action in group._group_actions if action.option_strings and action.dest != "help")


@pytest.mark.parametrize("name", [subcommand.name for subcommand in SUBCOMMANDS])
def test_flags_are_those_of_the_parser(name: str) -> None:
    """The table of a subcommand has the flags that its parser has, as --help shows them, and no other."""
    table = COMMANDS.table(name, "flag", "default", "meaning")
    expected = [f"{action.option_strings[-1]} {action.metavar or ''}".strip() for action in _flags(_parsers()[name])]
    assert sorted(_first_code(cell) for cell in table.column("flag")) == sorted(expected)


def test_subcommands_are_those_that_exist() -> None:
    """The page's list and sections are the subcommands, in the order of the help."""
    listed = [_first_code(cell) for cell in COMMANDS.table("Commands", "command").column("command")]
    assert listed == [subcommand.name for subcommand in SUBCOMMANDS]


@pytest.mark.parametrize("subcommand", SUBCOMMANDS, ids=lambda subcommand: subcommand.name)
def test_exit_statuses_are_those_of_the_help(subcommand: Any) -> None:
    """A subcommand's table of exit statuses has the numbers that its --help explains."""
    table = COMMANDS.table(subcommand.name, "exit status")
    in_help = re.findall(r"(?:^|[\s,])(\d) [a-z]", subcommand.epilog.partition("exit status:")[2])
    assert table.column("exit status") == in_help


def test_status_codes_are_explained() -> None:
    """Whatever `status` can say is in the table of the page on stuck jobs, with its code."""
    path = next(path for path in SOURCE if path.name == "diagnosis.py")
    table = STUCK.table("What status says", "it says", "code")
    assert {_first_code(cell) for cell in table.column("code")} == set(re.findall(r"code=\"([\w-]+)\"", SOURCE[path]))


# --- states -------------------------------------------------------------------------------------


def test_transitions_are_the_legal_ones() -> None:
    """The table of transitions has every pair of states of core's table, and no other."""
    table = STATES.table("Who changes what", "from", "to")
    told = set(zip(table.column("from"), table.column("to"), strict=True)) - {
        ("(new)", "SCHEDULED"),
        ("(new)", "READY"),
    }
    assert told == {(before.name, after.name) for before, afters in TRANSITIONS.items() for after in afters}


def test_the_projection_is_ours() -> None:
    """Each state is shown to Django's API as the page says."""
    table = STATES.table("What Django's API shows", "state")
    told = {row[0]: row[1].partition(";")[0] for row in table.rows}
    assert told == {state.name: status_of(state).name for state in JobState}


def _decision(end: End, **outcome: Any) -> Decision:
    fresh = Charged(run=Run(uuid7(), 1), crashes=0, deaths=0, suspect=False, retry_on_crash=True)
    return decide(fresh, Outcome(end=end, **outcome))


def test_the_counters_are_those_of_decide() -> None:
    """What each ending of a run adds to the counters, its next state and its attempt row are what `decide` returns."""
    retries = {"FAILED, retry with a delay": {"retry_in": 5.0}, "FAILED, retry at once": {"retry_in": 0.0}}
    table = STATES.table("The counters", "ending of a run")
    ends = set()
    for ending, state, *numbers, row in table.rows:
        end = End[ending.partition(",")[0]]
        ends.add(end)
        decision = _decision(end, **retries.get(ending, {}))
        added = (decision.attempts, decision.crashes, decision.interruptions, decision.deaths)
        assert added == tuple(map(int, numbers)), ending
        assert decision.state.name == re.split(r"[ ,]", state)[0], ending
        assert row == (decision.kind.value if decision.kind else "none"), ending
    assert ends == set(End)


def test_poison_is_counted_as_told() -> None:
    """Two deaths in company and three alone: the words of the page are the numbers of the code."""
    assert (MAX_SHARED_DEATHS, MAX_CRASHES) == (2, 3)
    assert "at most five processes: two in company, three alone" in STATES.text
    crashed = Charged(run=Run(uuid7(), 1), crashes=2, deaths=0, suspect=False, retry_on_crash=True)
    assert decide(crashed, Outcome(end=End.CRASHED)).state is JobState.QUARANTINED
    for end in (End.INTERRUPTED, End.SHARED_DEATH, End.CRASHED):
        once = Charged(run=Run(uuid7(), 1), crashes=0, deaths=0, suspect=False, retry_on_crash=False)
        assert decide(once, Outcome(end=end)).state is JobState.FAILED
    assert len(TERMINAL) == 4


# --- tasks --------------------------------------------------------------------------------------


def test_options_are_those_of_the_decorator() -> None:
    """The table of options has what `@task` accepts, with the defaults of `Task`."""
    table = TASKS.table("Options", "option", "default")
    told = {_first_code(name): default for name, default, _ in table.rows}
    assert set(told) == set(decorator.KNOWN)
    defaults = {each.name: each.default if each.default is not MISSING else {} for each in fields(Task)}
    for name in ("max_attempts", "priority", "takes_context", "aliases", "metadata"):
        assert told[name] == str(defaults[name])
    for name in ("on_crash", "queue_name", "backend"):
        assert told[name] == f'`"{defaults[name]}"`'
    assert defaults["timeout"] is None


def test_parameters_of_using_are_those_of_using() -> None:
    """The table of `using()` names each of its parameters."""
    table = TASKS.table("Using", "parameter")
    told = {name for cell in table.column("parameter") for name in code(cell)}
    assert told == {name for name in inspect.signature(Task.using).parameters if name not in {"self", "unknown"}}


@pytest.mark.parametrize(
    ("heading", "owner"),
    [("Enqueueing", Task), ("Results", TaskResult), ("Inside a body", TaskContext)],
    ids=["tasks", "results", "context"],
)
def test_attributes_exist(heading: str, owner: type) -> None:
    """Every method and attribute that the page explains can be had, under that name and with these parameters."""
    (table,) = (table for table in TASKS.tables() if table.heading == heading)
    known = {each.name for each in fields(owner)} | set(dir(owner))
    for cell in (row[0] for row in table.rows):
        for shown in code(cell):
            name, _, parameters = shown.removeprefix("context.").partition("(")
            assert name in known, shown
            told = re.findall(r"(\w+)(?:=|[,)])", parameters)
            real = set(inspect.signature(getattr(owner, name)).parameters) if parameters else set()
            assert set(told) <= real | {"args", "kwargs", "id", "None"}, shown


def test_limits_are_those_of_the_code() -> None:
    """Bytes, depth and characters of the table are the constants that refuse what is larger."""
    table = TASKS.table("Arguments and results", "limit")
    told = {limit: int(value.split()[0].rstrip(";")) for limit, value in table.rows}
    assert list(told.values()) == [
        codec.MAX_ARGUMENTS_BYTES,
        codec.MAX_RESULT_BYTES,
        codec.MAX_DEPTH,
        MAX_PROGRESS_MESSAGE,
        options.MAX_METADATA,
        options.MAX_NAME,
        options.MAX_ALIAS,
    ]
    assert f"longer than {MAX_DETAIL} characters" in TASKS.text
    assert f"one statement for each {rows.BATCH_ROWS}" in TASKS.text
    assert f"at most {options.MAX_METADATA} characters" in TASKS.text


def test_executors_are_those_that_exist() -> None:
    """The executors page has a column for each executor."""
    table = next(table for table in EXECUTORS.tables() if table.heading == "Executors")
    assert {_first_code(cell) for cell in table.head[1:]} == {executor.value for executor in Executor}


# --- leases and operations ----------------------------------------------------------------------


def test_constants_are_those_of_the_code() -> None:
    """Each constant of the leases page stands in the module that it names, with that value."""
    table = LEASES.table("The numbers in the code", "constant", "seconds")
    for cell, seconds in zip(table.column("constant"), table.column("seconds"), strict=True):
        module, _, name = _first_code(cell).rpartition(".")
        assert getattr(import_module(f"django_meanwhile.{module}"), name) == float(seconds), cell


def test_times_follow_from_the_defaults() -> None:
    """The seconds that the leases page gives for the defaults are what the formulas in it yield."""
    settings = conf.Settings()
    lease, margin, sweep, beat = settings.lease, settings.margin, settings.sweep, settings.beat
    values = {
        "lease - margin": lease - margin,
        "lease - margin / 2": lease - margin / 2,
        "lease": lease,
        "lease + sweep": lease + sweep,
        "the rest of the lease + sweep": lease + sweep,
    }
    for heading, column in (
        ("Self-fencing", "time since the last good renewal was sent"),
        ("How long recovery takes", "READY again within"),
    ):
        table = LEASES.table(heading)
        for formula, seconds in zip(table.column(column), table.column("with the defaults"), strict=True):
            if formula in values:
                assert seconds == f"{values[formula]:g} s", formula
    assert max(lease, sweep + 2 * beat) + sweep == lease + sweep, (
        "the formula for SQLite gives the same with the defaults"
    )
    plan = make_plan(settings)
    assert plan.margin == margin
    assert f"a {['', 'half', 'third', 'quarter', 'fifth'][round(lease / margin) - 1]} of the lease" in LEASES.text


def test_connections_are_those_of_the_plan() -> None:
    """The examples of connections are what `check` would print."""
    table = PRODUCTION.table("Connections", "`--threads`")
    for threads, coroutines, processes, connections in (map(int, row) for row in table.rows):
        plan = make_plan(conf.Settings(), threads=threads, coroutines=coroutines, processes=processes)
        assert plan.connections == connections


def test_the_pace_of_retention_is_told() -> None:
    """The scaling section counts with the batches that the code makes."""
    prune = inspect.signature(import_module("django_meanwhile.store.contract").Store.prune)
    assert (
        f"up to {upkeep.PRUNE_BATCHES} batches of {prune.parameters['limit'].default} for each state once a minute"
        in SCALING.text
    )
    a_day = upkeep.PRUNE_BATCHES * prune.parameters["limit"].default * 86_400 / upkeep.PRUNE_EVERY
    assert 14e6 < a_day < 15e6
    assert "fourteen\nmillion" in SCALING.text
