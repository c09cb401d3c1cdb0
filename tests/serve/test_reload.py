"""New code: by SIGHUP in production, by a changed file in development; broken code takes nothing away."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable

import pytest

from tests.embedded.servers import EMBEDDED, supervisors
from tests.playground import Project, eventually

from .served import BOTH, Served, ask_slowly, is_refusal, serve, with_code

pytestmark = pytest.mark.slow

URLS = """
from django.http import HttpResponse
from django.urls import include, path
urlpatterns = [path("", include("tests.project.urls")), path("code/", lambda request: HttpResponse("{}"))]
"""
EXTRA = {"ROOT_URLCONF": "site_urls"}


def _serve(site: Project, *flags: str) -> Served:
    return serve(site, *flags, settings=EXTRA, **with_code(site, site_urls=URLS.format("old")))


@pytest.mark.parametrize("interface", BOTH)
def test_sighup_brings_new_code_and_refuses_nobody(site: Project, interface: str) -> None:
    """SIGHUP: the new code answers; meanwhile no connection is refused, and what has begun is answered.

    A connection whose request has not arrived when its process ends may be closed: that is a reset, and rare.
    """
    served = _serve(site, interface, "--workers=2")
    old = {process.pid for process in served.workers()}
    over, answers, failures, closed = threading.Event(), [], [], []
    thread, slow = ask_slowly(served, "begun")

    def ask() -> None:
        while not over.is_set():
            try:
                answers.append(served.get("/code/"))
            except OSError as error:
                (failures if is_refusal(error) else closed).append(error)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for each in asking:
        each.start()
    with_code(site, site_urls=URLS.format("new"))
    served.running.send(signal.SIGHUP)
    eventually(lambda: "new" in answers, within=60)
    (site.path / "begun").touch()
    eventually(lambda: not old & {process.pid for process in served.workers()}, within=60, what="all are new")
    over.set()
    for each in asking:
        each.join()
    thread.join(20)
    assert slow == ["at last"]
    assert not failures
    assert set(answers) == {"old", "new"}
    assert len(closed) <= len(answers) / 20, closed
    assert served.get("/code/") == "new"
    assert served.running.stop() == 0, served.running.log
    eventually(lambda: not site.processes(), what="nothing is left")


def test_sighup_with_broken_code_changes_nothing(site: Project) -> None:
    """Code that does not load is refused, with file, line and reason; the old code goes on; mended code loads."""
    served = _serve(site, "--log-level=info")
    old = served.pid()
    with_code(site, site_urls="x = (\n")
    served.running.send(signal.SIGHUP)
    log = served.running.wait_for("not reloaded, the old code goes on")
    (line,) = [line for line in log.splitlines() if "not reloaded" in line]
    assert "site_urls.py, line 1: SyntaxError" in line
    assert served.pid() == old
    with_code(site, site_urls=URLS.format("mended"))
    served.running.send(signal.SIGHUP)
    eventually(lambda: served.answer("/code/") == "mended", within=60)
    served.running.stop()


@pytest.mark.parametrize("interface", BOTH)
def test_a_changed_file_brings_new_code(site: Project, interface: str) -> None:
    """With ``--reload`` a saved file is served; a broken one answers with its error until it is mended."""
    served = _serve(site, interface, "--reload")
    assert served.get("/code/") == "old"
    for text, expected in [
        (URLS.format("new"), "new"),
        ("def broken(:\n", "SyntaxError"),
        (URLS.format("mended"), "mended"),
    ]:
        _save_until(served, lambda expected=expected: expected in served.answer("/code/"), text=text, what=expected)
    assert len(served.workers()) == 1
    assert served.running.stop() == 0, served.running.log
    eventually(lambda: not site.processes(), what="nothing is left")


def _save_until(served: Served, condition: Callable[[], object], *, text: str = "", what: str) -> None:
    """Save the file; a save that the reloader does not watch for yet goes unseen: then it is saved once more."""
    path = served.project.path / "site_urls.py"
    modified = path.stat().st_mtime
    if text:
        path.write_text(text)
    for _ in range(10):
        modified += 10  # the reloader goes by times alone
        os.utime(path, (modified, modified))
        with contextlib.suppress(AssertionError):
            eventually(condition, within=8)
            return
    pytest.fail(f"not after ten saves: {what}\n{served.running.log}")


def test_reload_is_one_process_and_follows_debug(site: Project) -> None:
    """Under DEBUG files are watched without being asked for, by one process whatever ``workers`` says."""
    site.meanwhile |= {"SERVER": {"workers": 3}}
    served = serve(site, settings={"DEBUG": True})
    assert "1 process (workers: 3 counts with --no-reload), started anew when a file changes" in served.running.log
    assert len(served.workers()) == 1
    served.running.stop()
    served = serve(site, "--noreload", settings={"DEBUG": True})
    eventually(lambda: len(served.workers()) == 3)
    served.running.stop()


def test_a_reload_brings_a_new_worker_along(site: Project) -> None:
    """The embedded worker runs the new code too: it is replaced with its server process, and there is one at a time."""
    site.meanwhile = EMBEDDED
    served = _serve(site, "--reload")
    (old,) = eventually(lambda: supervisors(site), within=30)
    _save_until(served, lambda: [each for each in supervisors(site) if each != old], what="another worker")
    assert served.running.stop() == 0
    eventually(lambda: not site.processes())
