"""Streaming responses that keep a connection until their client has read them.

Looked at when the handler has the response, after all middleware and before the server begins to iterate: what is open
then in the thread that answers stays open until the last chunk. With "repair" it is closed, and a stream that asks the
database by itself opens another.

Left alone, for it is in use: a connection with a transaction, or with a cursor that lives, as that of an ``iterator()``
which has begun. Not told: a connection that ``CONN_MAX_AGE`` keeps for a WSGI server's thread anyway; Django's test
client.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.base import BaseHandler
from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from .. import logs
from .findings import Stack, count, text
from .openings import in_transaction, is_being_read, is_open, my_ledger

logger = logs.get_logger("guard")

_get_response = BaseHandler.get_response
_get_response_async = BaseHandler.get_response_async


class _Settings:
    repairs = False


def start(*, repairs: bool) -> None:
    """Look at every response from now on."""
    _Settings.repairs = repairs
    BaseHandler.get_response = _get_response_and_look  # type: ignore[method-assign,assignment]
    BaseHandler.get_response_async = _get_response_async_and_look  # type: ignore[method-assign,assignment]


def stop() -> None:
    """Leave Django as it was. Idempotent."""
    BaseHandler.get_response = _get_response  # type: ignore[method-assign]
    BaseHandler.get_response_async = _get_response_async  # type: ignore[method-assign]


def _get_response_and_look(handler: BaseHandler, request: Any) -> Any:
    response = _get_response(handler, request)
    if response.streaming and _is_real(handler):
        _look(request)
    return response


async def _get_response_async_and_look(handler: BaseHandler, request: Any) -> Any:
    response = await _get_response_async(handler, request)
    if response.streaming and _is_real(handler):
        await sync_to_async(_look, thread_sensitive=True)(request)  # where the view's connections are
    return response


def _is_real(handler: BaseHandler) -> bool:
    return not any(cls.__module__.startswith("django.test.") for cls in type(handler).__mro__)


def _look(request: Any) -> None:
    for connection in connections.all(initialized_only=True):
        if not is_open(connection) or connection.allow_thread_sharing:
            continue
        if connection.settings_dict["CONN_MAX_AGE"] != 0 and not isinstance(request, ASGIRequest):
            continue
        done = ""
        if _Settings.repairs:
            done = _mend(connection)
        view = _view(request)
        number = count(("stream", view or request.path, connection.alias))
        if number is not None:
            opened = my_ledger().opened.get(connection.alias)
            _tell(f"{view} ({request.path})" if view else request.path, connection.alias, done, number,
                  opened.stack if opened is not None else None)  # fmt: skip


def _mend(connection: BaseDatabaseWrapper) -> str:
    if in_transaction(connection):
        return "it stays open, for it is inside a transaction"
    if is_being_read(connection):
        return "it stays open, for a cursor on it is in use"
    try:
        connection.close()
    except Error as error:
        return f"closing it failed: {error}"
    return "it was closed"


def _view(request: Any) -> str | None:
    match = getattr(request, "resolver_match", None)
    if match is None:
        return None
    view = getattr(match.func, "view_class", match.func)
    return f"{view.__module__}.{getattr(view, '__qualname__', type(view).__qualname__)}"


def _tell(response: str, alias: str, done: str, number: int, stack: Stack | None) -> None:
    logger.warning(
        "the streaming response of %s keeps a connection to database %r until its client has read it: "
        "%s (time %d at this place). It was opened by:",
        response, alias, done or "call connections.close_all() before the view returns", number,
        extra={"lines": text(stack) if stack is not None else ""},
    )  # fmt: skip
