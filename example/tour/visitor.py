"""Somebody with a browser: cookies, forms with their CSRF token, the page of a job. Follows no redirect by itself."""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.parse
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any

from .server import PATIENCE, until

_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


@dataclass(frozen=True)
class Answer:
    """One response, and how long it took."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float

    @property
    def text(self) -> str:
        """The body."""
        return self.body.decode()

    @property
    def beginning(self) -> str:
        """Return what an error message shows of the body."""
        return " ".join(self.text.split())[:300]

    @property
    def location(self) -> str:
        """Where it redirects to."""
        return self.headers["Location"] or ""


class Visitor:
    """Not for several threads at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cookies: dict[str, str] = {}
        self._token = ""

    def get(self, path: str, accept: str = "text/html") -> Answer:
        """Ask for a page."""
        return self._ask("GET", path, accept)

    def post(self, path: str, data: dict[str, Any] | None = None, accept: str = "text/html") -> Answer:
        """Send a form, with the token that its page has given."""
        if not self._token:
            self._token = _TOKEN.findall(self.get("/endings/").text)[0]
        body = urllib.parse.urlencode({"csrfmiddlewaretoken": self._token, **(data or {})})
        return self._ask("POST", path, accept, body)

    def start(self, exhibit: str, **data: Any) -> Job:
        """Press the button of an exhibit."""
        answer = self.post(f"/start/{exhibit}/", data)
        if answer.status != 302:
            raise RuntimeError(
                f"POST /start/{exhibit}/ {data}: expected a redirect, got {answer.status}: {answer.beginning}"
            )
        return Job(self, answer.location, answer.seconds)

    def _ask(self, method: str, path: str, accept: str, body: str | None = None) -> Answer:
        headers = {"Accept": accept, "Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        begun = time.perf_counter()
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read(), time.perf_counter() - begun)
        finally:
            connection.close()
        for header in answer.headers.get_all("Set-Cookie") or []:
            self._cookies |= {name: morsel.value for name, morsel in SimpleCookie(header).items()}
        return answer


class Job:
    """A job, as its page's script sees it."""

    def __init__(self, visitor: Visitor, path: str, answered_after: float) -> None:
        self.visitor = visitor
        self.path = path
        self.answered_after = answered_after

    def status(self) -> dict[str, Any]:
        """Return what the page polls."""
        answer = self.visitor.get(f"{self.path}status/", "application/json")
        if answer.status != 200:
            raise RuntimeError(f"GET {self.path}status/: expected 200, got {answer.status}: {answer.beginning}")
        seen: dict[str, Any] = json.loads(answer.body)
        return seen

    def until(self, what: str, condition: Any) -> dict[str, Any]:
        """Poll until the condition is true of the status; return that."""
        return until(lambda: (seen := self.status()) and condition(seen) and seen, f"the job {what}")

    def end(self) -> dict[str, Any]:
        """Wait until the job has ended."""
        return self.until("has ended", lambda seen: seen["finished"])

    def cancel(self) -> None:
        """Press cancel."""
        self.visitor.post(f"{self.path}cancel/")
