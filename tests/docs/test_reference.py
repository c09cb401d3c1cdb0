"""The pages on checks, errors, signals, log records and tables, held against the code that they describe."""

import inspect
import re
from importlib import import_module
from typing import Any, get_args

import pytest
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper as PostgreSQL
from django.db.backends.sqlite3.base import DatabaseWrapper as SQLite

import django_meanwhile
from django_meanwhile import JobState, MeanwhileError, compat, concurrent
from django_meanwhile.core.states import AttemptKind
from django_meanwhile.models import Attempt, Job, Lock, Worker
from django_meanwhile.worker.plan import ChildKind

from .pages import ROOT, code, page
from .records import Record, records

CHECKS, ERRORS, SIGNALS, LOGS, TABLES, TASKS = (
    page(f"reference/{name}") for name in ("checks", "errors", "signals", "logs", "tables", "tasks")
)
SOURCE = {path: path.read_text() for path in sorted((ROOT / "src/django_meanwhile").rglob("*.py"))}
# Not logged by us in processes of a project: what users of the testing tools see has a page of its own.
RECORDS = set(records({path: text for path, text in SOURCE.items() if "testing" not in path.parts}))


# --- checks -------------------------------------------------------------------------------------


def test_checks_are_those_of_the_code() -> None:
    """Every check id that the code can emit has one row, and no other has."""
    in_code = {found for text in SOURCE.values() for found in re.findall(r"\"(meanwhile\.[EW]\d+)\"", text)}
    told = [code(row[0])[0] for table in CHECKS.tables() for row in table.rows]
    assert sorted(told) == sorted(in_code)


def test_errors_are_called_e_and_warnings_w() -> None:
    """An id that begins with E is made with `Error`, one with W with `Warning`: the page says that this is the rule."""
    made = set()
    for text in SOURCE.values():
        for call in re.findall(r"\b(Error|Warning)\((?:[^()]|\([^()]*\))*?id=\"meanwhile\.([EW])\d+\"", text):
            made.add(call)
    assert made == {("Error", "E"), ("Warning", "W")}


# --- errors -------------------------------------------------------------------------------------

_CONCURRENT = "Errors of django_meanwhile.concurrent"


def _errors() -> dict[str, type[MeanwhileError]]:
    return {
        name: value
        for name in django_meanwhile.__all__
        if inspect.isclass(value := getattr(django_meanwhile, name)) and issubclass(value, MeanwhileError)
    }


def test_errors_are_those_of_the_package() -> None:
    """Each error that can be imported from the package has a row, and the bases that the row names."""
    dialect = ERRORS.table("Errors of the dialect", "error").column("error")
    others = [*dialect, *ERRORS.table(_CONCURRENT, "error").column("error")]
    rows = [row for table in ERRORS.tables() for row in table.rows if row[0] not in others]
    told = {code(row[0])[0]: code(row[0])[1:] for row in rows}
    errors = _errors()
    assert set(told) == set(errors) - {"MeanwhileError"}
    builtins = {"ValueError": ValueError, "TimeoutError": TimeoutError, "LookupError": LookupError}
    for name, bases in told.items():
        assert {base for base, cls in builtins.items() if issubclass(errors[name], cls)} == set(bases), name


def test_errors_of_concurrency_are_those_of_the_code() -> None:
    """Each error below ConcurrencyError has a row under its own heading, with the built-in class that it also is."""
    told = {code(cell)[0]: code(cell)[1:] for cell in ERRORS.table(_CONCURRENT, "error").column("error")}
    builtins = {"TypeError": TypeError, "TimeoutError": TimeoutError}
    assert told == {
        name: [base for base, cls in builtins.items() if issubclass(error, cls)]
        for name in concurrent.__all__
        if inspect.isclass(error := getattr(concurrent, name))
        and issubclass(error, concurrent.ConcurrencyError)
        and name != "ConcurrencyError"
    }


def test_errors_of_the_dialect_are_where_the_page_says() -> None:
    """Each is found under the name, and in the module, that the page gives for the Django in force."""
    place = f"{compat.DIALECT}.exceptions"
    assert f"`{place}`" in ERRORS.text
    for cell in ERRORS.table("Errors of the dialect", "error").column("error"):
        names = code(cell)
        name = names[0] if compat.DIALECT == "django.tasks" else names[-1]
        assert hasattr(import_module(place), name), name


def test_the_tree_of_errors_is_that_of_the_classes() -> None:
    """The tree names each public error, with the built-in class that it also is."""
    tree = next(block.text for block in ERRORS.blocks() if block.language == "text")
    told = dict(re.findall(r"^[├└]── (\w+)(?: \((\w+)\))?$", tree, re.MULTILINE))
    errors = _errors()
    assert set(told) == set(errors) - {"MeanwhileError"}
    assert all(base in {cls.__name__ for cls in errors[name].__mro__} for name, base in told.items() if base)


def test_public_names_can_be_imported() -> None:
    """The table of public names has all of the package's, and each of its names is where it says."""
    table = TASKS.table("Public names", "name", "from")
    told = set()
    for names, module, _ in table.rows:
        for name in code(names):
            told.add(name)
            assert hasattr(import_module(code(module)[0]), name), name
    assert set(django_meanwhile.__all__) - set(_errors()) <= told


# --- the embedded worker ------------------------------------------------------------------------


def test_the_embedded_worker_is_as_told() -> None:
    """The seconds, the priority, the servers and the calls of the page are those of the code."""
    from django_meanwhile import embedded
    from django_meanwhile.embedded import boot, keeper, leash, serving

    text = " ".join(page("reference/embedded").text.split())
    assert f"{boot.GRACE:g} s in all" in text
    assert f"(nice {boot.NICENESS})" in text
    assert leash.GONE_WITHIN < embedded.GONE_WITHIN == 3
    assert f"gone within {embedded.GONE_WITHIN:g} s" in text
    assert f"doubles from {keeper.RESTART_FIRST:g} s to {keeper.RESTART_LAST:g} s" in text
    assert f"the next one comes after {keeper.RESTS_FOR:g} s" in text
    for server in serving.KNOWN_SERVERS:
        assert server.partition("-")[0] in text
    calls = page("reference/embedded").table("Who starts it", "call").column("call")
    for name, call in zip(embedded.__all__, calls, strict=True):
        assert code(call)[0].startswith(f"{name}(")
        for parameter, value in inspect.signature(getattr(embedded, name)).parameters.items():
            assert f"{parameter}={value.default}" in call


# --- signals ------------------------------------------------------------------------------------


def test_signals_are_those_that_are_sent() -> None:
    """The table has the signals of the dialect, and each of them is sent somewhere, robustly."""
    told = [code(cell)[0] for cell in SIGNALS.table("Signals", "signal").column("signal")]
    sent = {found for text in SOURCE.values() for found in re.findall(r"(task_\w+)\.send_robust\(", text)}
    assert set(told) == sent
    assert not [path for path, text in SOURCE.items() if re.search(r"task_\w+\.a?send\(", text)]


# --- log records --------------------------------------------------------------------------------


def _told() -> dict[tuple[str, str], set[str]]:
    """Return the levels by logger and message, as the page has them."""
    told: dict[tuple[str, str], set[str]] = {}
    for table in LOGS.tables():
        logger = code(table.heading)[0]
        for levels, message, _ in table.rows:
            key = logger, code(message)[0]
            assert key not in told, f"{key}: twice"
            told[key] = set(levels.split(", "))
    return told


def test_log_records_are_those_of_the_code() -> None:
    """Each message that the code can log stands on the page, under its logger and with its levels; no other does."""
    emitted: dict[tuple[str, str], set[str]] = {}
    for record in RECORDS:
        emitted.setdefault((record.logger, record.message), set()).update(record.levels)
    told = _told()
    places = {(record.logger, record.message): record.place for record in RECORDS}
    assert not {key: places[key] for key in set(emitted) - set(told)}, "these need a row"
    assert not set(told) - set(emitted), "nobody logs these any more"
    assert told == emitted


def test_the_reader_of_records_sees_what_is_logged() -> None:
    """A literal, a name that holds one, an f-string, and two levels by a choice are all read; values are ellipses."""
    text = (
        'logger = get_logger("jobs")\n'
        "def f():\n"
        '    logger.warning("a %s of %d", 1, 2)\n'
        '    told = "b %r"\n'
        "    logger.exception(told, 3)\n"
        "    log = logger.info if x else logger.debug\n"
        '    log("c %.1f", 4)\n'
        '    self._say(f"d {x}")\n'
    )
    found = {(record.message, record.levels) for record in records({ROOT / "x.py": text})}
    assert found == {
        ("a … of …", frozenset({"WARNING"})),
        ("b …", frozenset({"ERROR"})),
        ("c …", frozenset({"INFO", "DEBUG"})),
        ("d …", frozenset({"INFO"})),
    }
    assert Record("django_meanwhile.jobs", frozenset({"WARNING"}), "a … of …", "x.py:3") in set(
        records({ROOT / "x.py": text})
    )


# --- tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [Job, Attempt, Worker, Lock], ids=lambda model: model._meta.db_table)
def test_columns_are_those_of_the_models(model: Any) -> None:
    """Each column has a row, in order, with its type on either vendor and whether it may be null."""
    settings = {**connections["default"].settings_dict, "NAME": "none"}
    wrappers = SQLite(settings, "none"), PostgreSQL(settings, "none")
    table = TABLES.table(model._meta.db_table, "column", "SQLite", "PostgreSQL", "null", "stable")
    told = [(code(row[0])[0], *row[1:4]) for row in table.rows]
    assert told == [
        (field.column, *(field.db_type(wrapper) for wrapper in wrappers), "yes" if field.null else "no")
        for field in model._meta.concrete_fields
    ]
    assert set(table.column("stable")) <= {"yes", "no"}


def test_states_have_their_numbers() -> None:
    """The numbers of the states are those that are stored."""
    table = TABLES.table("States", "number", "state")
    assert table.rows == tuple((str(state.value), state.name) for state in JobState)


def test_kinds_of_attempts_and_children_are_named() -> None:
    """What a `kind` column may hold is what the code writes."""
    for name, kinds in (
        ("meanwhile_attempt", {kind.value for kind in AttemptKind}),
        ("meanwhile_worker", set(get_args(ChildKind))),
    ):
        table = TABLES.table(name, "column")
        meanings = dict(zip(table.column("column"), table.column("meaning"), strict=True))
        assert set(code(meanings["`kind`"])) == kinds
