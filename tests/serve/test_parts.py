"""Parts of ``serve`` that need no server: log records, the lifespan, what is an application."""

import asyncio
import logging
from typing import Any

import pytest

from django_meanwhile.serve import application, records
from django_meanwhile.serve.lifespan import with_lifespan


def _record(text: str) -> logging.LogRecord:
    return logging.LogRecord(records.SERVER, logging.ERROR, "", 0, text, None, None)


def test_the_end_of_a_process_is_news_until_the_server_ends() -> None:
    """An unexpected exit is kept out of the log once everything ends; advice that does not hold here always is."""
    ending = [False]
    kept = records._Server(lambda: ending[0]).filter
    assert kept(_record("Unexpected exit from worker-1"))
    ending[0] = True
    assert not kept(_record("Unexpected exit from worker-1"))
    assert kept(_record("Listening at: http://127.0.0.1:8000"))
    assert not kept(_record("Configured number of workers appears to be higher than the amount of CPU cores"))


@pytest.mark.parametrize(("status", "level"), [(200, "INFO"), (302, "INFO"), (404, "WARNING"), (500, "ERROR")])
def test_an_answer_is_one_line(caplog: pytest.LogCaptureFixture, status: int, level: str) -> None:
    """Level and colour go by the status; a line break that a client sent stays on its line."""
    told = {
        "method": "GET", "path": "/a\nb", "query_string": "x=1", "protocol": "HTTP/1.1", "status": status, "dt_ms": 1.4,
    }  # fmt: skip
    with caplog.at_level(logging.INFO, logger=records.REQUESTS):
        records._Requests().emit(logging.LogRecord("", logging.INFO, "", 0, records.ACCESS_FORMAT, (told,), None))
    record = next(each for each in caplog.records if each.name == records.REQUESTS)
    assert record.getMessage() == f'"GET /a\\nb?x=1 HTTP/1.1" {status} in 1 ms'
    assert record.levelname == level
    assert record.status_code == status  # type: ignore[attr-defined]


def _live(wanted: Any) -> list[str]:
    """Run a lifespan; return what was sent."""
    sent = []

    async def run() -> None:
        words = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> dict[str, str]:
            return {"type": next(words)}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await with_lifespan(wanted)({"type": "lifespan"}, receive, send)

    asyncio.run(run())
    return sent


COMPLETE = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_an_application_that_knows_no_lifespan_gets_one() -> None:
    """Django's own raises at once: the server hears that all is well."""
    from django.core.handlers.asgi import ASGIHandler

    assert _live(ASGIHandler()) == COMPLETE


def test_an_application_s_own_lifespan_is_its_own() -> None:
    """One that answers is asked once; one that fails after it has heard of the start fails the server."""

    async def knows(scope: Any, receive: Any, send: Any) -> None:
        for word in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{word}.complete"})

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise RuntimeError("no database")

    assert _live(knows) == COMPLETE
    with pytest.raises(RuntimeError, match="no database"):
        _live(fails)


async def _function(scope: Any, receive: Any, send: Any) -> None: ...


class _WithCall:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


def test_interfaces_are_told_apart() -> None:
    """Coroutine functions, objects with such a call, and functions of three arguments are ASGI; others are not."""
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler

    for each in (_function, _WithCall(), ASGIHandler.__call__, lambda scope, receive, send: None):
        assert application._is_asgi(each)
    for each in (WSGIHandler.__call__.__get__(object()), lambda environ, start_response: None, print):
        assert not application._is_asgi(each)


def test_an_error_is_one_line_with_its_place(tmp_path) -> None:
    """File, line, kind and text; of a syntax error the place that Python found."""
    (tmp_path / "broken.py").write_text("x = (\n")
    with pytest.raises(SyntaxError) as syntax:
        compile((tmp_path / "broken.py").read_text(), str(tmp_path / "broken.py"), "exec")
    assert application.describe(syntax.value).startswith(f"{tmp_path}/broken.py, line 1: SyntaxError: ")
    with pytest.raises(ZeroDivisionError) as division:
        _ = 1 / 0
    told = application.describe(division.value)
    assert told.startswith("ZeroDivisionError: division by zero (")
    assert "test_parts.py, line " in told
    assert "\n" not in application.describe(ValueError("two\nlines"))
