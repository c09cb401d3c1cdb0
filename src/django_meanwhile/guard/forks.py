"""Forks while this process has connections or a pool.

Parent and child would then write to one socket, each into the other's answers; and a pool in the child has neither
its threads nor connections of its own. It is told in the parent, where no lock can have been left taken. With "repair"
the child forgets what it has inherited, so that its next query opens its own, and keeps the objects alive, so that no
destructor ends the parent's session.

Not told: what ``subprocess`` forks for a ``preexec_fn``, for that is another program at once.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from .. import logs
from .findings import Stack, count, stack, text
from .openings import is_open

logger = logs.get_logger("guard")

_UID = "django_meanwhile.guard.forks"


class _Settings:
    watches = False
    repairs = False


_backends: set[type] = set()
"""Classes of connections that were opened here: those of PostgreSQL hold the pools."""

_inherited: list[object] = []
"""What belongs to the parent, and must not be finalized here."""

_registered: list[bool] = []


def start(*, repairs: bool) -> None:
    """Look at every fork from now on."""
    connection_created.connect(_connected, dispatch_uid=_UID)
    _Settings.watches, _Settings.repairs = True, repairs
    if not _registered and hasattr(os, "register_at_fork"):  # there is no way to take that back
        os.register_at_fork(after_in_parent=_in_parent, after_in_child=_in_child)
        _registered.append(True)


def stop() -> None:
    """Look at none any more. Idempotent."""
    connection_created.disconnect(dispatch_uid=_UID)
    _Settings.watches = _Settings.repairs = False


def keep_for_ever(things: list[Any]) -> None:
    """In a child: never finalize these. They belong to threads of the parent, which are not here."""
    if _Settings.repairs:
        _inherited.extend(things)


def _connected(sender: type, **_: Any) -> None:
    _backends.add(sender)


def _live() -> Iterator[BaseDatabaseWrapper]:
    """Yield the open connections of the thread that forks, which the child's only thread takes for its own."""
    return (connection for connection in connections.all(initialized_only=True) if is_open(connection))


def _pools() -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each dictionary of pools with each alias in it. ``close_pool()`` takes a pool out of there."""
    for pools in {id(found): found for cls in _backends if (found := getattr(cls, "_connection_pools", None))}.values():
        yield from ((pools, alias) for alias in list(pools))


def _in_parent() -> None:
    if not _Settings.watches:
        return
    aliases = {connection.alias for connection in _live()} | {alias for _, alias in _pools()}
    if not aliases:
        return
    forked = stack()
    if _is_for_a_program(forked):
        return
    number = count(("fork", forked))
    if number is None:
        return
    done = (
        "the child has forgotten them and opens its own"
        if _Settings.repairs
        else "call connections.close_all() and close_pool() before it, or start a process by spawn"
    )
    logger.warning(
        "a fork while connections are open to %s: %s (time %d at this place). It was forked by:",
        ", ".join(repr(alias) for alias in sorted(aliases)), done, number, extra={"lines": text(forked)},
    )  # fmt: skip


def _in_child() -> None:
    if not _Settings.repairs:
        return
    for connection in list(_live()):
        _inherited.append(connection.connection)
        connection.connection = None
        if connection.in_atomic_block:  # the parent's transaction; here there is none
            del connections[connection.alias]
    for pools, alias in list(_pools()):
        _inherited.append(pools.pop(alias))


def _is_for_a_program(forked: Stack) -> bool:
    return any(code.co_filename == subprocess.__file__ and code.co_name == "_execute_child" for code, _ in forked)
