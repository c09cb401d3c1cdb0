"""A server process that is too old or too big is replaced: nobody notices, and the worker it brought along goes on."""

import pytest

from tests.embedded.servers import EMBEDDED, supervisors
from tests.playground import Project, eventually
from tests.processes.harness import said

from .served import BOTH, Served, ask_slowly, serve, with_code

pytestmark = pytest.mark.slow

PATIENT = "--graceful-timeout=600"
"""For the request that runs in the old process until the successor's worker has done a job, on a busy machine too."""

BIG = """
from django.http import HttpResponse
from django.urls import include, path

kept = []

def eat(request, mebibytes):
    kept.append(b"x" * (mebibytes * 1024 * 1024))
    return HttpResponse("eaten")

urlpatterns = [path("", include("tests.project.urls")), path("eat/<int:mebibytes>/", eat)]
"""


def _is_replaced(site: Project, served: Served, within: float, *, cause: str = "/ping/") -> None:
    """A request runs all the time; then its process gets a successor, which brings its own worker; then it ends.

    ``cause``: a page to ask for first.
    """
    eventually(lambda: supervisors(site), within=30, what="the worker is there")
    (old,), old_workers = served.workers(), supervisors(site)
    thread, answers = ask_slowly(served, "last")
    assert served.get(cause)
    (new,) = eventually(lambda: [each for each in served.workers() if each != old], within=within, what="a successor")
    eventually(lambda: not set(supervisors(site)) <= set(old_workers), within=60, what="the successor's worker")
    assert served.get("/enqueue/pause/?args=%5B%22done%22%5D")
    eventually(lambda: said(site, "end", "done"), within=60, what="a job is done")
    assert old.is_running()
    assert thread.is_alive()
    (site.path / "last").touch()
    thread.join(20)
    assert answers == ["at last"]
    eventually(lambda: served.workers() == [new], within=20, what="the old process has ended")
    assert len(supervisors(site)) == 1
    assert served.running.stop() == 0
    eventually(lambda: not site.processes(), what="nothing is left")
    assert "Unexpected exit" not in served.running.log


@pytest.mark.parametrize("interface", BOTH)
def test_a_process_is_replaced_when_its_time_has_come(site: Project, interface: str) -> None:
    """``worker_lifetime``, of which a minute is the least that Granian takes."""
    site.meanwhile = EMBEDDED
    _is_replaced(site, serve(site, interface, "--worker-lifetime=60", PATIENT), within=90)


def test_a_process_is_replaced_when_it_is_too_big(site: Project) -> None:
    """``worker_max_rss``: Granian looks every 30 s. A process that stays below goes on."""
    site.meanwhile = EMBEDDED
    env = with_code(site, site_urls=BIG)
    served = serve(site, "--worker-max-rss=300", PATIENT, settings={"ROOT_URLCONF": "site_urls"}, **env)
    _is_replaced(site, served, within=60, cause="/eat/300/")
