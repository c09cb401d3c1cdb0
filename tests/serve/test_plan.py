"""What is served, decided by the settings and the flags alone."""

import os
from dataclasses import fields
from importlib import metadata

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings

from django_meanwhile.conf import SERVER, ServerSettings, get_settings, read_settings
from django_meanwhile.management.commands import serve as command
from django_meanwhile.serve.plan import find_application, make_plan


@pytest.fixture(autouse=True)
def _project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.project.settings")


def plan(**flags: object):
    return make_plan(ServerSettings(), flags)


def test_every_setting_is_a_flag_and_the_other_way_round() -> None:
    """Schema, dataclass and command line name the same things."""
    parser = command.Command().create_parser("manage.py", "serve")
    flags = {action.dest for action in parser._actions if action.option_strings}
    assert set(SERVER) == {field.name for field in fields(ServerSettings)}
    assert set(SERVER) <= flags


def test_a_flag_wins_over_the_setting() -> None:
    """And what is not given comes from the setting, else from the default."""
    with override_settings(MEANWHILE={"SERVER": {"workers": 3, "threads": 5}}):
        made = make_plan(get_settings().server, {"workers": 2})
    assert (made.workers, made.threads, made.settings.backlog) == (2, 5, 1024)


def test_what_follows_debug() -> None:
    """Without the keys, files are watched and requests are logged under DEBUG only; a key says otherwise."""
    for debug in (True, False):
        with override_settings(DEBUG=debug, MEANWHILE={}):
            server = get_settings().server
            assert (server.reload, server.access_log) == (debug, debug)
        with override_settings(DEBUG=debug, MEANWHILE={"SERVER": {"reload": not debug}}):
            server = get_settings().server
            assert (server.reload, server.access_log) == (not debug, debug)


def test_threads_are_what_the_interface_makes_of_them() -> None:
    """WSGI: 8 of Python, whatever the cores; ASGI: one of Rust, and no more than there are cores."""
    cores = os.cpu_count() or 1
    assert (plan(interface="wsgi").threads, plan(interface="asgi").threads) == (8, 1)
    assert (plan(interface="wsgi", threads=900).threads, plan(interface="asgi", threads=900).threads) == (900, cores)
    assert plan(interface="wsgi", threads=4, workers=3).at_once == 12
    assert plan(interface="asgi").at_once is None


def test_the_interface() -> None:
    """What is written; else ASGI if the settings have an ASGI application, even beside a WSGI one; else WSGI."""
    assert plan().interface == "wsgi"
    with override_settings(
        ASGI_APPLICATION="tests.project.asgi.application", WSGI_APPLICATION="tests.project.wsgi.application"
    ):
        assert plan().interface == "asgi"
        assert plan(interface="wsgi").interface == "wsgi"


def test_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting's; else that of the module beside the settings, or above them; else Django's own."""
    beside = "the module beside the settings"
    with override_settings(WSGI_APPLICATION="tests.project.wsgi.application"):
        assert find_application("wsgi") == ("tests.project.wsgi.application", "WSGI_APPLICATION")
        assert find_application("asgi") == ("tests.project.asgi.application", beside)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.project.settings.production")
    assert find_application("wsgi") == ("tests.project.wsgi.application", beside)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "settings")
    assert find_application("wsgi") == ("", "")


@pytest.mark.parametrize("path", ["application", "tests.project.", "nowhere.wsgi.application", "tests.nowhere.x"])
def test_an_application_that_cannot_be(path: str) -> None:
    """A path that is none, and a module that is not there, name the setting and its value."""
    with override_settings(WSGI_APPLICATION=path), pytest.raises(CommandError, match="WSGI_APPLICATION is"):
        plan(interface="wsgi")


def test_watched_files_need_one_process() -> None:
    """With ``reload`` there is one server process."""
    assert plan(workers=4, reload=True).workers == 1
    assert plan(workers=4, reload=False).workers == 4


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("workers", 0, "a whole number from 1 to 512"),
        ("threads", 1001, "a whole number from 1 to 1000"),
        ("interface", "rsgi", "'auto' or 'wsgi' or 'asgi'"),
        ("bind", "nowhere", "host:port"),
        ("worker_lifetime", 59.0, "a number of seconds from 60"),
        ("url_path_prefix", "shop", "must begin with a slash"),
        ("log_level", "loud", "'debug' or"),
    ],
)
def test_a_flag_obeys_the_setting_s_rule(name: str, value: object, rule: str) -> None:
    """The error names flag, value and rule; the setting's own problem says the same."""
    with pytest.raises(CommandError) as refused:
        plan(**{name: value})
    assert str(refused.value).startswith(f"--{name.replace('_', '-')} {value}: must")
    assert rule in str(refused.value)
    with override_settings(MEANWHILE={"SERVER": {name: value}}):
        (problem,) = read_settings()[1]
    assert rule in problem.message


def test_tls_takes_two_files(tmp_path) -> None:
    """One without the other is refused, and so is a file that is not there."""
    file = tmp_path / "site.pem"
    with pytest.raises(CommandError, match="tls_key is missing"):
        plan(tls_certificate=str(file))
    with pytest.raises(CommandError, match="there is no such file"):
        plan(tls_certificate=str(file), tls_key=str(file))


@pytest.mark.parametrize(("version", "said"), [(None, "not installed"), ("2.8.5", "2.8.5 is installed"), ("x", "x is")])
def test_without_granian_there_is_one_line(monkeypatch: pytest.MonkeyPatch, version: str | None, said: str) -> None:
    """Missing or too old: a CommandError with the line to install it, before anything else is tried."""

    def of(name: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(command.metadata, "version", of)
    with (
        override_settings(DEBUG=True),
        pytest.raises(CommandError, match=r"pip install .*django-meanwhile\[serve\]") as no,
    ):
        call_command("serve", "unix:/nowhere/at/all", skip_checks=True)
    assert said in str(no.value)


@pytest.mark.parametrize("version", ["2.8.6", "2.8.10", "2.10.1", "3.0rc1"])
def test_newer_ones_are_taken(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """From 2.8.6 on, compared as numbers."""
    monkeypatch.setattr(command.metadata, "version", lambda name: version)
    assert command.granian_version() == version
