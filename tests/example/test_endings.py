"""Every ending that the site promises comes about, and its page says what happened."""

from example.tour.visitor import Visitor


def test_a_retry(visitor: Visitor) -> None:
    """The task that fails twice succeeds at its third attempt, and the page shows both failures."""
    job = visitor.start("retry")
    seen = job.end()
    assert (seen["state"], seen["attempts"], seen["failures"]) == ("SUCCESSFUL", 3, ["Retry", "Retry"])
    page = visitor.get(job.path).text
    assert page.count("<details") == 2
    assert "the forecast service is busy" in page


def test_a_timeout(visitor: Visitor) -> None:
    """The task that never returns fails with TaskTimeout."""
    job = visitor.start("timeout")
    seen = job.end()
    assert (seen["state"], seen["failures"]) == ("FAILED", ["TaskTimeout"])
    assert "TaskTimeout" in visitor.get(job.path).text


def test_a_cancel(visitor: Visitor) -> None:
    """A job that runs is cancelled by its button; the button of a job that has ended changes nothing."""
    job = visitor.start("cancel")
    job.until("runs", lambda seen: seen["state"] == "RUNNING")
    job.cancel()
    assert job.end()["state"] == "CANCELLED"
    assert "It was asked to stop" in visitor.get(job.path).text
    job.cancel()
    assert job.status()["state"] == "CANCELLED"


def test_a_poison(visitor: Visitor) -> None:
    """The task that kills its process is put in quarantine after its third crash, and the page says why."""
    job = visitor.start("poison")
    seen = job.end()
    assert (seen["state"], seen["failures"]) == ("QUARANTINED", ["Crashed"] * 3)
    page = visitor.get(job.path).text
    assert "killed the process that ran it too often" in page
    assert "Exit status: 13." in page


def test_a_fan_out(visitor: Visitor) -> None:
    """One coroutine waits for a hundred things together, not one after another."""
    seen = visitor.start("fan-out").end()
    assert seen["value"]["stations"] == 100
    assert seen["value"]["seconds"] < 100 * 0.5


def test_a_slow_query(visitor: Visitor) -> None:
    """The rows of the query are the job's result, best first, and the page shows them all."""
    job = visitor.start("query", wet="0")
    rows = job.end()["value"]
    assert len(rows) == 12
    assert [row["difference"] for row in rows] == sorted(row["difference"] for row in rows)
    assert visitor.get(job.path).text.count("<tr>") == 1 + len(rows)
