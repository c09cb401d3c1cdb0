"""What cannot be served is one line, a status other than 0, and no process."""

import pytest

from tests.playground import Project, eventually
from tests.ports import free_port

from .served import serve, start, with_code

pytestmark = pytest.mark.slow

ASGI_ONLY = "async def application(scope, receive, send):\n    raise NotImplementedError\n"


def _refused(site: Project, *flags: str, within: float = 60, **keywords: object) -> str:
    """Start it, and return the one line that it ends with."""
    served = start(site, *flags, **keywords)  # type: ignore[arg-type]
    assert served.running.wait(within) == 1, served.running.log
    eventually(lambda: not site.processes(), what="nothing is left")
    assert "Traceback" not in served.running.log
    return served.running.log.strip().splitlines()[-1]


def test_an_address_that_is_taken(site: Project) -> None:
    """A second server on the same port is refused, with the next step, and the first one goes on."""
    served = serve(site)
    second = site.start("serve", f"127.0.0.1:{served.port}")
    assert second.wait(30) == 1
    line = second.log.strip()
    assert line.startswith(f"CommandError: Cannot listen on 127.0.0.1:{served.port}: another process listens there")
    assert f"manage.py serve 127.0.0.1:{served.port + 1}" in line
    assert len(line.splitlines()) == 1
    assert served.get("/ping/") == "pong"
    served.running.stop()


def test_an_application_for_the_other_interface(site: Project) -> None:
    """WSGI_APPLICATION that is an ASGI application, and the other way round, are named with the way out."""
    env = with_code(site, ours=ASGI_ONLY)
    line = _refused(site, settings={"WSGI_APPLICATION": "ours.application"}, **env)
    assert "ours.application is an application for ASGI, and the interface is WSGI" in line
    assert "--interface asgi" in line
    line = _refused(site, settings={"ASGI_APPLICATION": "tests.project.wsgi.application"})
    assert "tests.project.wsgi.application is an application for WSGI, and the interface is ASGI" in line


def test_an_application_that_does_not_load(site: Project) -> None:
    """File, line and reason in one line; all of the traceback with ``--traceback``."""
    env = with_code(site, broken="import nothing_of_that_name\n")
    settings = {"WSGI_APPLICATION": "broken.application"}
    line = _refused(site, settings=settings, **env)
    assert "ModuleNotFoundError: No module named 'nothing_of_that_name'" in line
    assert "broken.py, line 1" in line
    served = start(site, "--traceback", settings=settings, **env)
    assert served.running.wait(60) == 1
    assert "Traceback" in served.running.log


def test_an_application_that_is_not_there(site: Project) -> None:
    """A path without a module, and a module without the application."""
    assert "there is no module 'nowhere.wsgi'" in _refused(site, settings={"WSGI_APPLICATION": "nowhere.wsgi.app"})
    line = _refused(site, settings={"WSGI_APPLICATION": "tests.project.wsgi.app"})
    assert "tests.project.wsgi has no application 'app'" in line


def test_settings_that_are_wrong(site: Project) -> None:
    """A mistake in MEANWHILE["SERVER"] is told before anything starts, with what may have been meant."""
    site.meanwhile |= {"SERVER": {"worker": 4}}
    served = start(site)
    assert served.running.wait(30) == 1
    assert 'Did you mean "workers"?' in served.running.log
    site.meanwhile["SERVER"] = {"workers": 0}
    served = start(site)
    assert served.running.wait(30) == 1
    assert "must be a whole number from 1 to 512" in served.running.log


def test_a_process_that_dies_at_once_each_time(site: Project) -> None:
    """Server processes that end as soon as they are started: given up after a second try, and nothing is left."""
    env = with_code(site, deadly="import os\nos._exit(3)\n")
    line = _refused(site, settings={"WSGI_APPLICATION": "deadly.application"}, **env)
    assert "server processes end as soon as they are started" in line


def test_hosts_must_be_allowed(site: Project) -> None:
    """Without DEBUG and ALLOWED_HOSTS every request would be refused: told at once, as by runserver."""
    assert "ALLOWED_HOSTS" in _refused(site, settings={"ALLOWED_HOSTS": []})


def test_a_certificate_that_is_none(site: Project) -> None:
    """A file that holds no certificate is named."""
    (site.path / "site.pem").write_text("nothing")
    line = _refused(site, f"--tls-certificate={site.path / 'site.pem'}", f"--tls-key={site.path / 'site.pem'}")
    assert "site.pem" in line


def test_two_addresses(site: Project) -> None:
    """One by position and one by flag: which one was meant?"""
    assert "name one" in _refused(site, f"--bind=127.0.0.1:{free_port()}")
