"""When the guard is on, and where it does nothing."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from django_meanwhile import conf, guard


@pytest.fixture(autouse=True)
def _off_again():
    yield
    guard.uninstall()


@pytest.mark.parametrize(
    ("debug", "meanwhile", "mode"),
    [(True, {}, "warn"), (False, {}, "off"), (True, {"GUARD": "off"}, "off"), (False, {"GUARD": "repair"}, "repair")],
)
def test_the_setting_counts_and_debug_without_it(settings, debug, meanwhile, mode):
    """Without it "warn" under DEBUG, "off" elsewhere; install() does what it says, and again when it has changed."""
    settings.DEBUG = debug
    settings.MEANWHILE = meanwhile
    assert conf.get_settings().guard == mode
    guard.install()
    assert guard._installed == mode
    settings.MEANWHILE = {"GUARD": "warn"}
    guard.install()
    assert guard._installed == "warn"


@pytest.mark.parametrize(
    ("module", "fake"),
    [
        ("gevent.monkey", SimpleNamespace(is_module_patched=lambda name: name == "threading")),
        ("eventlet.patcher", SimpleNamespace(is_monkey_patched=lambda name: name == "thread")),
    ],
)
def test_greenlets_in_place_of_threads_are_not_watched(monkeypatch, told, module, fake):
    """It stays off, and says which library is in the way."""
    monkeypatch.setitem(sys.modules, module, fake)
    guard.switch("repair")
    assert guard._installed == "off"
    assert told() == [
        f'MEANWHILE["GUARD"] does nothing in a process whose threads {module.partition(".")[0]} has replaced'
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({b"http": b":80"}, True),
        ({b"enable-threads": True}, False),
        ({b"threads": b"4"}, False),
        (None, False),
    ],
)
def test_uwsgi_without_threads_is_said(monkeypatch, told, settings, options, said):
    """Whatever the setting is; a module of the project that is called uwsgi, which has no options, is not it."""
    settings.MEANWHILE = {"GUARD": "off"}
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(opt=options))
    guard.install()
    assert [message.startswith("uWSGI runs without threads") for message in told()] == [True] * said


def test_outside_of_uwsgi_nothing_is_said(told):
    """There is no such module."""
    guard.install()
    assert told() == []
