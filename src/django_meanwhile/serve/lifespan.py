"""The start and the end of an ASGI server process, told to the application, or kept from one that does not know them.

Django's own application refuses the protocol called lifespan, which servers report as a warning. Wrapped around the
application by ``application``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]


def with_lifespan(application: Application) -> Application:
    """Return the application with a lifespan of its own, or with ours if it has none."""

    async def wrapped(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(application, scope, receive, send)
        else:
            await application(scope, receive, send)

    return wrapped


async def _live(application: Application, scope: Any, receive: Receive, send: Send) -> None:
    heard = False

    async def hear() -> Message:
        nonlocal heard
        heard = True
        return await receive()

    try:
        await application(scope, hear, send)
    except Exception:
        if heard:  # it knows the protocol, and failed
            raise
    if heard:
        return
    for word in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{word}.complete"})
