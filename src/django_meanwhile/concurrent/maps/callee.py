"""A child process of ``processes``: calls what it is sent, one call after the other, in its main thread.

::

    parent ──Job, pickled──▶ call ──Reply, pickled──▶ parent

``main`` is what its command line calls. It ends when its parent closes the connection or dies. Interpreters of Python
3.14 run ``answer`` as well. It decides nothing and keeps nothing: no connection to a database outlives a call.
"""

from __future__ import annotations

import contextvars
import os
import pickle
import select
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypedDict

import django

from ...core.errors import NotAllowed
from ...ties import die_with, keep_to_ourselves, leave_signals_to_the_parent

READY, BROKEN = b"ready", b"broken:"
"""The first message of a child: it has set up Django; or could not, with the traceback."""

is_callee = False
"""Whether this process is such a child, or this interpreter one of ``interpreters``."""

_obstacle: BaseException | None = None
"""Why Django is not set up in this interpreter."""


class Specification(TypedDict):
    """What a child is told at its start. JSON. Descriptors are inherited."""

    path: list[str]
    parent: int
    connection: int
    leash: int


@dataclass(frozen=True, slots=True)
class Job:
    """A call for each of ``items``, in order. Pickled by the caller."""

    function: Callable[[Any], Any]
    items: Sequence[Any]
    label: str
    context: str  # as the row of a queued job has it
    databases: Mapping[str, str]  # names by alias, as in force in the caller: those of a test, maybe


@dataclass(frozen=True, slots=True)
class Failure:
    """What a call raised. ``error`` is its pickle, or None if it has none that can be read; ``text`` its traceback."""

    error: bytes | None
    shown: str
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """Results up to the first failure. ``Job.items`` after it were not called."""

    results: bytes  # of a list
    count: int
    failure: Failure | None


def main(specification: Specification) -> None:
    """Run a child to its end."""
    global is_callee  # noqa: PLW0603 - that is what this process is
    is_callee = True
    die_with(specification["parent"], what="process")
    descriptors = specification["connection"], specification["leash"]
    keep_to_ourselves(descriptors)
    threading.Thread(target=_watch, args=(descriptors[1],), name="meanwhile-leash", daemon=True).start()
    leave_signals_to_the_parent()
    import faulthandler  # noqa: PLC0415 - not for interpreters, which cannot import it

    faulthandler.enable()
    connection = Connection(descriptors[0])
    try:
        set_up()
    except BaseException:  # noqa: BLE001 - whatever it is, the parent is told
        connection.send_bytes(BROKEN + traceback.format_exc().encode())  # which tells it
        sys.exit(1)
    connection.send_bytes(READY)
    while True:
        try:
            job = connection.recv_bytes()
        except EOFError:
            return
        connection.send_bytes(answer(job))


def set_up() -> None:
    """Set up Django, for calls."""
    django.setup()

    from ...connections import prepare_process  # noqa: PLC0415 - Django's set-up comes first

    prepare_process()


def set_up_interpreter(settings_module: str, path: list[str]) -> None:
    """Set up Django in an interpreter of this process. If that cannot be, each call is told why."""
    global is_callee, _obstacle  # noqa: PLW0603 - one for each interpreter
    is_callee = True
    sys.path[:] = path
    os.environ["DJANGO_SETTINGS_MODULE"] = settings_module
    try:
        set_up()
    except BaseException as error:  # noqa: BLE001 - what is raised here breaks the pool, for all calls to come
        _obstacle = error


def answer(pickled: bytes) -> bytes:
    """Call what a pickled ``Job`` asks for and return the pickled ``Reply``. Never raises."""
    results: list[Any] = []
    failure = None
    try:
        _refuse_if_not_set_up()
        _work(pickled, results)
    except BaseException as error:  # noqa: BLE001 - whatever it was, the caller is told
        failure = _failure(error)
    return pickle.dumps(_reply(results, failure), protocol=pickle.HIGHEST_PROTOCOL)


def _refuse_if_not_set_up() -> None:
    if _obstacle is not None:
        raise NotAllowed(
            f"Django cannot be set up in a subinterpreter: {type(_obstacle).__name__}: {_obstacle}. Many C extensions, "
            'psycopg2 and that of psycopg among them, cannot be imported there. Use executor="process".'
        ) from _obstacle


def _work(pickled: bytes, results: list[Any]) -> None:
    from ...connections import close_thread_connections  # noqa: PLC0415 - Django's set-up comes first

    try:
        job: Job = pickle.loads(pickled)  # noqa: S301 - of our parent
        _use(job.databases)
        contextvars.Context().run(_call, job, results)
    finally:
        close_thread_connections()


def _use(databases: Mapping[str, str]) -> None:
    from django.db import connections  # noqa: PLC0415 - Django's set-up comes first

    for alias, name in databases.items():
        connections.settings[alias]["NAME"] = name


def _call(job: Job, results: list[Any]) -> None:
    from ...surroundings import restored, restored_hooks  # noqa: PLC0415 - Django's set-up comes first
    from ..admission import outcome  # noqa: PLC0415 - as above

    with restored(job.context) as hooks, restored_hooks(hooks, job.label):
        for item in job.items:
            results.append(outcome(job.function(item)))  # noqa: PERF401 - those before an error are wanted


def _reply(results: list[Any], failure: Failure | None) -> Reply:
    try:
        return Reply(_dumps(results), len(results), failure)
    except Exception:
        kept: list[Any] = []
        for result in results:
            try:
                _dumps(result)
            except Exception as error:  # noqa: BLE001 - classes may raise anything there
                shown = f"it returned a {type(result).__qualname__}, which cannot be pickled: {error}"
                return Reply(_dumps(kept), len(kept), Failure(None, shown, traceback.format_exc()))
            kept.append(result)
        raise


def _failure(error: BaseException) -> Failure:
    text = "".join(traceback.format_exception(error))
    shown = f"it raised {type(error).__qualname__}: {error}"
    if not isinstance(error, Exception):  # SystemExit would end the caller
        return Failure(None, shown, text)
    try:
        pickled = _dumps(error)
        if type(pickle.loads(pickled)) is type(error):  # noqa: S301 - our own
            return Failure(pickled, shown, text)
    except Exception as problem:  # noqa: BLE001 - classes may raise anything there
        return Failure(None, f"{shown} (which cannot be pickled: {problem})", text)
    return Failure(None, shown, text)


def _dumps(value: Any) -> bytes:
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


def _watch(leash: int) -> None:
    select.select([leash], [], [])  # nobody ever writes: readable once the parent is gone
    os._exit(0)
