"""For scripts that tests run in a project: what they all need, and what they count.

Threads of pools keep connections warm only outside of a test environment, so that is where these tests look.
"""

import threading
import time
from pathlib import Path

from django.db import connection

from django_meanwhile.concurrent import ThreadPoolExecutor, default_executor

__all__ = ["ThreadPoolExecutor", "ask", "connections_open", "default_executor", "descriptors", "eventually", "session"]

IS_POSTGRESQL = connection.vendor == "postgresql"


def ask(sql="SELECT 1", *parameters):
    """Run one query on the thread's connection and return its only value."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()[0]


def session():
    """Return what tells one connection to the database from another."""
    ask()
    return connection.connection.info.backend_pid if IS_POSTGRESQL else id(connection.connection)


def connections_open():
    """Count this process's connections: as the server sees them, or the descriptors of the SQLite file."""
    if not IS_POSTGRESQL:
        return sum(path == connection.settings_dict["NAME"] for path in descriptors())
    import psycopg

    parameters = connection.get_connection_params()
    parameters = {key: parameters[key] for key in ("dbname", "host", "port", "user", "password") if key in parameters}
    with psycopg.connect(**parameters) as other:
        return other.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()[0]


def descriptors():
    """Return what the process has open."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(descriptor.readlink()))
        except FileNotFoundError:  # the listing's own
            continue
    return found


def eventually(condition, what="", within=20):
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + within
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {within} s: {what}; the last answer was {answer!r}"
        time.sleep(0.005)
    return answer


def threads():
    """Return the names of the pools' threads."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("ThreadPool", "default_ex"))]
