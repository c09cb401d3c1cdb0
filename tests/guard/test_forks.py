"""Forks, in processes of their own: each place is told at powers of ten, and what was inherited is not finalized."""

from __future__ import annotations

import pytest

SETUP = """
import gc, logging, os, signal, threading
from django.db import connection
from django_meanwhile import guard
from django_meanwhile.guard import findings
logging.basicConfig(format="%(name)s %(message)s")

def connect():
    connection.ensure_connection()
    return connection.connection

def in_a_child(check):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # where a lock was left taken
        try:
            check()
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]

def failing(check):
    def run():
        if not check():
            os._exit(1)
    return run
"""


def _told(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("django_meanwhile.guard")]


def test_a_place_is_told_at_powers_of_ten_and_not_when_it_is_off_again(bare_project):
    """Twelve forks from one line: the first and the tenth. After uninstall() none."""
    bare_project.meanwhile = {"GUARD": "warn"}
    code = """
connect()
for number in range(24):
    if number == 12:
        guard.uninstall()
    assert in_a_child(lambda: None) == 0
connection.close()
"""
    told = _told(bare_project.python(SETUP + code).stderr)
    assert ["(time 1 " in told[0], "(time 10 " in told[1], len(told)] == [True, True, 2]


def test_a_child_finalizes_nothing_of_its_parents(bare_project):
    """Neither the connection of the thread that forks nor that of another, nor a pool: their ends might speak to the
    server in the parent's name.
    """
    bare_project.meanwhile = {"GUARD": "repair"}
    if bare_project.vendor == "postgresql":
        bare_project.database["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 3}}
    code = """
kinds, connected, go = [], threading.Event(), threading.Event()

def hold():
    connect()
    connected.set()
    go.wait(20)
    connection.close()

thread = threading.Thread(target=hold)
thread.start()
connected.wait(20)
kinds.append(type(connect()))
if connection.vendor == "postgresql":
    kinds.append(type(connection.pool))

def alive():
    # type(), for what an object says of itself may be lazy: Django's admin site would be made.
    return [id(each) for each in gc.get_objects() if issubclass(type(each), tuple(kinds))]

before = alive()
assert len(before) >= 1 + len(kinds)

def live():
    gc.collect()
    return connection.connection is None and set(before) <= set(alive())

assert in_a_child(failing(live)) == 0
go.set()
thread.join()
connection.close()
if connection.vendor == "postgresql":  # and now the pool has them all
    before = alive()
    assert in_a_child(failing(live)) == 0
    connection.close_pool()
"""
    bare_project.python(SETUP + code)


def test_a_child_tells_what_it_finds_itself(bare_project):
    """Though another thread of the parent had the lock, and the one that tells was busy telling."""
    bare_project.meanwhile = {"GUARD": "warn"}
    code = """
telling, go = threading.Event(), threading.Event()
findings.later(lambda: (telling.set(), go.wait(20)))
assert telling.wait(20)
held = threading.Event()

def hold():
    with findings._lock:
        held.set()
        go.wait(20)

thread = threading.Thread(target=hold)
thread.start()
assert held.wait(20)

def tells():
    told = threading.Event()
    findings.later(told.set)
    return findings.count("here") == 1 and told.wait(10)

status = in_a_child(failing(tells))
go.set()
thread.join()
assert status == 0, status
"""
    bare_project.python(SETUP + code)


@pytest.mark.parametrize("mode", ["warn", "repair"])
def test_hooks_of_the_parents_transaction_are_not_the_childs(bare_project, mode):
    """With repair a child that forks off inside atomic() is outside of it: nothing of the parent's runs there."""
    bare_project.meanwhile = {"GUARD": mode}
    bare_project.database.pop("OPTIONS", None)  # SQLite: two transactions that begin IMMEDIATE exclude each other
    code = f"""
from django.db import transaction
ran = []
with transaction.atomic():
    transaction.on_commit(lambda: ran.append(os.getpid()))

    def outside():
        return {{connection.in_atomic_block, bool(connection.run_on_commit)}} == {{{mode!r} == "warn"}}

    assert in_a_child(failing(outside)) == 0
assert ran == [os.getpid()]
connection.close()
"""
    bare_project.python(SETUP + code)
