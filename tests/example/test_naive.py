"""What the site says of the naive ways is so."""

import json

import pytest

from example.tour.server import Server, until
from example.tour.visitor import Visitor
from example.tour.ways import computing, start_endless_thread
from tests.example import site


def say(visitor: Visitor, way: str, place: str = "Hochau") -> str:
    """Press a naive button; return what the view says."""
    return visitor.post(f"/naive/{way}/", {"place": place, "resamples": 1000}, "text/plain").text


def test_the_views_answer(visitor: Visitor) -> None:
    """The blocking view answers when it is done, the one with a thread before; a browser gets the answer on a page."""
    assert say(visitor, "blocking") == "Report generated!"
    assert say(visitor, "thread") == "Report generation started!"
    page = visitor.post("/naive/thread/", {"place": "Hochau", "resamples": 1000})
    assert "“Report generation started!”" in page.text
    assert 'href="/naive/"' in page.text
    until(lambda: not computing(visitor), "the threads are done")


def test_a_thread_that_fails_says_nothing(server: Server, visitor: Visitor) -> None:
    """The answer is the same whether the thread succeeds or fails; only the server's log has the exception."""
    assert say(visitor, "thread", "Atlantis") == say(visitor, "thread")
    until(lambda: not computing(visitor), "the threads are done")
    until(lambda: "fmean requires at least one data point" in server.log.read_text(), "the log has the exception")


def test_a_queryset_that_nobody_reads_never_reaches_the_database(visitor: Visitor) -> None:
    """The function says that its query was executed, and has sent no statement."""
    assert say(visitor, "query") == "Query executed! Statements that reached the database: 0."


def test_a_thread_leaves_its_connection_open(server: Server) -> None:
    """When the thread's function returns, its database connection is open, and the request's end will not close it."""
    code = (
        "import threading; from django.db import connection, close_old_connections; from naive import views\n"
        "def job():\n"
        "    views.generate_report({'place': 'Hochau', 'resamples': 1000})\n"
        "    left.append(connection.connection)\n"
        "left = []; thread = threading.Thread(target=job); thread.start(); thread.join(); close_old_connections()\n"
        "print('still open:', left[0].execute('SELECT 1').fetchone()); left[0].close()\n"
    )
    assert "still open: (1,)" in server.manage("shell", "-c", code)


@pytest.mark.slow
def test_a_restart_loses_the_thread_and_no_job(tmp_path) -> None:
    """SIGKILL to the server in the middle: the next one knows nothing of the thread, and finishes the job."""
    with site.running(tmp_path) as server:
        visitor = Visitor(server.port)
        start_endless_thread(visitor)
        job = visitor.start("report", place="Hochau", resamples=100_000)
        job.until("runs", lambda seen: seen["state"] == "RUNNING")
        assert computing(visitor) == 1
        server.kill()
        server.start()
        assert computing(visitor) == 0
        seen = job.end()
        assert (seen["state"], seen["attempts"]) == ("SUCCESSFUL", 1)


def test_the_ping_does_nothing(visitor: Visitor) -> None:
    """What the meter asks for touches neither database nor session."""
    answer = visitor.get("/ping/")
    assert json.loads(answer.text) == {"pong": True}
    assert "Set-Cookie" not in answer.headers
