"""Which processes serve requests, told by command lines and by who sends the signal."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_started
from django.test.client import AsyncClientHandler, ClientHandler
from django.test.utils import _TestState

from django_meanwhile import embedded
from django_meanwhile.embedded import keeper, serving
from django_meanwhile.embedded.lock import NoWorker
from django_meanwhile.management import backends

RUNSERVER = [
    (["manage.py", "runserver"], {"RUN_MAIN": "true"}, True),
    (["manage.py", "runserver"], {}, False),
    (["manage.py", "runserver", "--noreload"], {}, True),
    (["/x/django/__main__.py", "runserver", "0:8000", "--noreload"], {}, True),
    (["manage.py", "runserver", "--help"], {"RUN_MAIN": "true"}, False),
    (["manage.py", "runserver_plus"], {"WERKZEUG_RUN_MAIN": "true"}, True),
    (["manage.py", "migrate"], {"RUN_MAIN": "true"}, False),
    (["manage.py", "serve"], {"RUN_MAIN": "true"}, True),
    (["manage.py", "serve"], {}, False),
    (["manage.py", "serve", "--noreload"], {}, False),
    (["manage.py"], {"RUN_MAIN": "true"}, False),
    ([], {}, False),
]


@pytest.mark.parametrize(("argv", "environment", "expected"), RUNSERVER)
def test_runserver_is_known_by_its_command_line(monkeypatch, argv, environment, expected) -> None:
    """What counts is the process that serves: not the one that watches the files, and not a call for help."""
    monkeypatch.setattr(sys, "argv", argv)
    for name in ("RUN_MAIN", "WERKZEUG_RUN_MAIN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert serving.is_runserver() is expected


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/venv/bin/uvicorn", "x:y"], True),
        (["/venv/lib/site-packages/uvicorn/__main__.py", "x:y"], True),
        (["C:/venv/Scripts/granian.exe"], True),
        (["/venv/bin/gunicorn"], False),
        (["manage.py", "shell"], False),
        ([""], False),
        ([], False),
    ],
)
def test_servers_are_known_by_name(monkeypatch, argv, expected) -> None:
    """An enqueue before the first request counts where every process serves; the first one of gunicorn does not."""
    monkeypatch.setattr(sys, "argv", argv)
    assert serving.is_known_server() is expected


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        (WSGIHandler, True),
        (ASGIHandler, True),
        (type("Ours", (WSGIHandler,), {}), True),
        (ClientHandler, False),
        (AsyncClientHandler, False),
        (type("Theirs", (ClientHandler,), {}), False),
        (object, False),
        (None, False),
        ("WSGIHandler", False),
    ],
)
def test_only_handlers_of_servers_are_real(sender, expected) -> None:
    """A request of the test client, or a signal that somebody sent by hand, is no request of a server."""
    assert serving.is_real(sender) is expected


def test_nothing_is_brought_under_pytest() -> None:
    """A test runner's process, such as the one that runs this, never has a worker."""
    assert serving.never_serves()


@pytest.mark.parametrize("argv", [["manage.py", "test"], ["manage.py", "testserver"]])
def test_commands_that_test_never_serve(monkeypatch, argv) -> None:
    """``test`` and ``testserver`` use a database of their own, which a worker would not."""
    monkeypatch.delattr(_TestState, "saved_data")
    monkeypatch.setattr(serving, "_OF_A_WORKER", ())
    monkeypatch.setattr(sys, "argv", ["manage.py", "shell"])
    assert not serving.never_serves()
    monkeypatch.setattr(sys, "argv", argv)
    assert serving.never_serves()


def test_a_worker_never_serves(monkeypatch) -> None:
    """A body that handles a request in a worker's process does not bring another worker."""
    monkeypatch.delattr(_TestState, "saved_data")
    monkeypatch.setattr(sys, "argv", ["-c"])
    for module in serving._OF_A_WORKER:
        monkeypatch.setitem(sys.modules, module, sys)
        assert serving.never_serves()


def test_settings_without_a_module_are_refused(monkeypatch, caplog) -> None:
    """settings.configure() cannot reach another process: said once, with the variable to set."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    assert not serving.is_possible()
    assert "DJANGO_SETTINGS_MODULE" in caplog.text
    assert "settings.configure()" in caplog.text


@pytest.fixture
def a_server(monkeypatch):
    """Let this process pass for a server's; put everything back."""
    monkeypatch.delattr(_TestState, "saved_data")
    monkeypatch.setattr(serving, "_OF_A_WORKER", ())
    monkeypatch.setattr(embedded, "_due", 0.0)
    request_started.connect(embedded._on_request)
    yield
    request_started.disconnect(embedded._on_request)
    embedded._keepers.clear()


def test_mail_that_was_sent_is_no_test(a_server) -> None:
    """An outbox, which the locmem backend makes with the first mail, does not make a test runner of a server."""
    from django.core import mail

    assert hasattr(mail, "outbox")
    assert not serving.never_serves()


@pytest.mark.django_db
def test_a_server_that_cannot_have_one_is_told_once(a_server, monkeypatch, caplog) -> None:
    """Where there can be no embedded worker, the first request says so, and later ones say nothing."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    for _ in range(3):
        request_started.send(WSGIHandler, environ={})
    assert caplog.text.count("settings.configure()") == 1


@pytest.mark.django_db
def test_a_start_that_fails_fails_no_request(a_server, monkeypatch, caplog) -> None:
    """Whatever a router or the system raises: the request goes on, and the next ones do not try again at once."""

    def broken() -> None:
        raise RuntimeError("no tenant outside of a request")

    monkeypatch.setattr(backends, "our_backends", broken)
    for _ in range(3):
        request_started.send(WSGIHandler, environ={})
    assert caplog.text.count("could not be arranged; tried again by a request in 30 s") == 1
    assert "no tenant outside of a request" in caplog.text


@pytest.mark.parametrize(
    ("module", "question"), [("gevent.monkey", "is_module_patched"), ("eventlet.patcher", "is_monkey_patched")]
)
def test_replaced_threads_are_refused(monkeypatch, caplog, module, question) -> None:
    """Greenlets in place of threads: refused, with the way out, once they really are in place."""
    for patched in (False, True):
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{question: lambda _name, is_it=patched: is_it}))
        assert serving.is_possible() is not patched
    assert caplog.text.count("manage.py meanwhile worker") == 1


@pytest.mark.parametrize("executable", ["/usr/bin/uwsgi", "/usr/sbin/apache2", ""])
def test_the_interpreter_is_a_python(monkeypatch, executable) -> None:
    """Where the server embeds Python, the worker is started with this Python's own program, which is there."""
    monkeypatch.setattr(sys, "executable", executable)
    code = "import sys; print(sys.version_info[:2])"
    done = subprocess.run([keeper.interpreter(), "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(sys.version_info[:2])


def test_a_python_that_is_nowhere_is_named(monkeypatch) -> None:
    """The message lists where it was looked for."""
    for name in ("executable", "prefix", "base_prefix"):
        monkeypatch.setattr(sys, name, "/nowhere")
    with pytest.raises(NoWorker, match="/nowhere/bin/python"):
        keeper.interpreter()
