"""A request as a server hands it to Django, without a server: through the project's WSGI or ASGI application.

Used by the measures of what goes on inside a request. Unlike a test client these are the real entry points: Django's
signals at begin and end of a request are sent, and so connections are closed as they are in production.
"""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import Any

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application


class Wsgi:
    """Requests one after the other, in the thread that calls."""

    def __init__(self) -> None:
        self._application = get_wsgi_application()

    def get(self, path: str) -> bytes:
        """Return the body of the answer; RuntimeError unless its status is 200."""
        statuses: list[str] = []
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(),
            "wsgi.errors": BytesIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        response = self._application(environ, lambda status, headers, *rest: statuses.append(status))
        try:
            body = b"".join(response)
        finally:
            response.close()
        if not statuses[0].startswith("200"):
            raise RuntimeError(f"GET {path}: {statuses[0]}: {body[:200]!r}")
        return body


class Asgi:
    """Requests on the running event loop."""

    def __init__(self) -> None:
        self._application = get_asgi_application()

    async def get(self, path: str) -> bytes:
        """Return the body of the answer; RuntimeError unless its status is 200."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "query_string": b"",
            "headers": [],
            "server": ("127.0.0.1", 80),
        }
        answered = asyncio.Event()
        sent: list[dict[str, Any]] = []
        asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> dict[str, Any]:
            for message in asked:
                return message
            await answered.wait()  # a client that stays until it has its answer
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        try:
            await self._application(scope, receive, send)
        finally:
            answered.set()
        body = b"".join(message.get("body", b"") for message in sent)
        if sent[0]["status"] != 200:
            raise RuntimeError(f"GET {path}: {sent[0]['status']}: {body[:200]!r}")
        return body
