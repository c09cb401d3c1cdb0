"""The report: from the button to the file, for its owner alone, without JavaScript."""

import re

import pytest

from example.tour.server import Server
from example.tour.visitor import Visitor

LONG = 1_000_000


@pytest.fixture
def report(visitor: Visitor):
    """A report that is done."""
    job = visitor.start("report", place="Hochau", resamples=1000)
    assert job.end()["state"] == "SUCCESSFUL"
    return job


def test_the_way_from_the_form_to_the_file(visitor: Visitor) -> None:
    """Without JavaScript, the page of a job reloads itself while it runs, and links to the file once it is done."""
    job = visitor.start("report", place="Corrano", resamples=LONG)
    page = visitor.get(job.path).text
    assert '<noscript><meta http-equiv="refresh"' in page
    assert "<progress" in page
    assert f'action="{job.path}cancel/"' in page
    job.cancel()
    assert job.end()["state"] == "CANCELLED"

    job = visitor.start("report", place="Corrano", resamples=1000)
    assert job.end()["state"] == "SUCCESSFUL"
    page = visitor.get(job.path).text
    assert "http-equiv" not in page
    link = re.findall(r'href="([^"]+/file/)"', page)[0]
    file = visitor.get(link)
    assert file.status == 200
    assert file.headers["Content-Disposition"] == 'attachment; filename="climate-of-Corrano.html"'
    assert file.text.startswith("<!doctype html>")
    assert file.text.rstrip().endswith("</html>")
    assert "<svg" in file.text


def test_progress_reaches_the_page_while_the_job_runs(visitor: Visitor) -> None:
    """A running report says how far it is, in the status that the script polls and in the page itself."""
    job = visitor.start("report", place="Fjellby", resamples=LONG)
    seen = job.until("says how far it is", lambda seen: seen["percent"])
    assert seen["state"] == "RUNNING"
    assert seen["message"] == "resampling six years of Fjellby"
    assert "resampling six years of Fjellby" in visitor.get(job.path).text
    job.cancel()
    job.end()


def test_only_its_owner_sees_a_job(server: Server, report) -> None:
    """Page, status and file of a job are not there for another visitor, and so are its buttons: 404, whoever asks."""
    stranger = Visitor(server.port)
    stranger.start("fan-out").end()  # has a cookie and a job, but not this one
    for visitor in (Visitor(server.port), stranger):
        asked = [visitor.get(f"{report.path}{page}").status for page in ("", "status/", "file/")]
        pressed = [visitor.post(f"{report.path}{button}/").status for button in ("cancel", "again")]
        assert asked + pressed == [404] * 5
    assert report.status()["state"] == "SUCCESSFUL"
    assert report.visitor.get(f"{report.path}file/").status == 200


def test_a_file_that_is_not_there_is_not_found(visitor: Visitor) -> None:
    """A job that writes no file, and one that has not written it yet, have none to download: 404."""
    other = visitor.start("fan-out")
    other.end()
    running = visitor.start("report", place="Aldermere", resamples=LONG)
    assert [visitor.get(f"{job.path}file/").status for job in (other, running)] == [404, 404]
    running.cancel()
    running.end()


def test_running_twice_leaves_one_whole_file(server: Server, report) -> None:
    """A report that is run again replaces its file by the same one, and leaves no unfinished file."""
    before = report.visitor.get(f"{report.path}file/").body
    epoch = report.status()["epoch"]
    report.visitor.post(f"{report.path}again/")
    assert (
        report.until("has run again", lambda seen: seen["epoch"] > epoch and seen["finished"])["state"] == "SUCCESSFUL"
    )
    assert report.visitor.get(f"{report.path}file/").body == before
    assert not list((server.directory / "files").rglob("*.part"))


def test_a_form_that_is_filled_in_wrongly_is_shown_again(visitor: Visitor) -> None:
    """A wrong value is answered with 422, the form and what is wrong with it; no job is made."""
    answer = visitor.post("/start/report/", {"place": "Atlantis", "resamples": 0})
    assert answer.status == 422
    assert "Atlantis is not one of the available choices" in answer.text
    assert "greater than or equal to 1000" in answer.text
    assert "None yet." in visitor.get("/").text


def test_a_button_needs_its_token(server: Server) -> None:
    """A form without its CSRF token starts nothing: 403."""
    visitor = Visitor(server.port)
    visitor._token = "x" * 64
    assert visitor.post("/start/report/", {"place": "Hochau", "resamples": 1000}).status == 403


def test_the_first_page_lists_the_jobs_of_its_visitor(server: Server, report) -> None:
    """Who has started a job finds it on the first page, and nobody else does."""
    assert report.path in report.visitor.get("/").text
    assert report.path not in Visitor(server.port).get("/").text
