"""docs/reference/lock.md: the tables and numbers of the page, and its query, held against the code."""

import inspect
import re

from django_meanwhile import conf
from django_meanwhile.concurrent import Lock
from django_meanwhile.concurrent.locks import lock
from django_meanwhile.store import locks_postgresql, locks_sqlite
from tests.servers import Server

from .pages import code, page

PAGE = page("reference/lock")


def test_parameters_are_those_of_the_class() -> None:
    """Each parameter has a row, with its default."""
    parameters = dict(inspect.signature(Lock).parameters)
    table = PAGE.table("Parameters", "parameter", "default")
    assert [code(row[0])[0] for row in table.rows] == list(parameters)
    for row in table.rows:
        default = parameters[code(row[0])[0]].default
        if code(row[1]):
            assert code(row[1])[0] == str(default)
    assert PAGE.text.startswith("# `Lock`\n\n`Lock(name, timeout=None, *, using=None, outside_transaction=False)`")


def test_methods_are_those_of_the_class() -> None:
    """Each public name of a lock has a row, and each row is one of them."""
    told = {
        shown.partition("(")[0] for row in PAGE.table("Methods", "method or attribute").rows for shown in code(row[0])
    }
    public = {name for name in dir(Lock) if not name.startswith("_")}
    assert told - {"with", "async with"} == public


def test_numbers_are_those_of_the_code() -> None:
    """Characters, seconds and the share of a lease."""
    assert f"1 to {lock.LONGEST_NAME} characters" in PAGE.text
    assert f"a wait begins again after {locks_postgresql.LONGEST_WAIT:g} s" in PAGE.text
    assert f"for {locks_postgresql.LONGEST_WAIT:g} s at most" in PAGE.text
    assert f"`LEASE`](settings.md) seconds ({conf.Settings().lease:g})" in PAGE.text
    assert f"at most {conf.Settings().lease:g} s later" in PAGE.text
    assert f"beyond its `timeout` by {locks_sqlite.PATIENCE:g} s at most" in PAGE.text
    assert locks_sqlite.LONGEST_PAUSE == 0.1, "ten times a second"
    assert f"`{locks_postgresql.NAMESPACE}`" in PAGE.text


def test_the_query_finds_the_holder(postgresql_server: Server) -> None:
    """The statement of the page, for the lock that it names, returns the session that holds it."""
    statement = next(block.text for block in PAGE.blocks() if block.language == "sql")
    (name,) = re.findall(re.escape(locks_postgresql.NAMESPACE) + r"(\w+)", statement)
    with postgresql_server.connect() as holder, holder.transaction():
        holder.execute("SELECT pg_advisory_xact_lock(%s)", (locks_postgresql.key_of(name),))
        rows = postgresql_server.execute(statement)
        assert [(row[0], row[3]) for row in rows] == [(holder.info.backend_pid, True)]
    assert postgresql_server.execute(statement) == []
