"""Granian as ``serve`` needs it: names of its that are private, and an end that is asked for until it is there."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management.base import CommandError
from granian.constants import Interfaces

from django_meanwhile.conf import ServerSettings
from django_meanwhile.serve import main, server
from django_meanwhile.serve.plan import make_plan


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        yield made


def _main(listener: socket.socket) -> main.Main:
    return main.Main(make_plan(ServerSettings(), {"interface": "wsgi"}), [listener])


def test_the_private_names_are_there() -> None:
    """If this fails, a newer Granian has dropped a name: see the table in ``serve/server.py`` for what it was for."""
    assert server.missing() == []


def test_what_granian_keeps_of_its_sockets() -> None:
    """Four attributes, which our ``_init_shared_socket`` sets in place of its own: a newer one may want a fifth."""
    granian = server.Granian("site", port=0, interface=Interfaces.WSGI)
    before = set(vars(granian))
    granian._init_shared_socket()
    assert {"_sfd", "_shd", "_ssp"} <= before
    assert set(vars(granian)) - before == {"_sso"}


def test_a_granian_that_lacks_one_is_refused(monkeypatch: pytest.MonkeyPatch, listener: socket.socket) -> None:
    """One line with what is missing, the version, those that were tested, and what to write; nothing is started."""
    monkeypatch.delattr("granian._granian.SocketHolder")
    monkeypatch.delattr("granian._signals.set_loop_signals")
    with pytest.raises(
        CommandError, match=r"lacks granian\._granian\.SocketHolder, granian\._signals\.set_loop_"
    ) as no:
        _main(listener)
    assert f"was tested with {server.TESTED}" in str(no.value)
    assert "pip install" in str(no.value)


def test_granian_cannot_forget_that_the_end_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    """Its loop clears the event between two of its questions, after a reload for instance; so it is told again."""
    told_again = []

    def serve(self: server.Server, **_: Any) -> None:
        self.main_loop_interrupt.wait(20)
        self.main_loop_interrupt.clear()
        told_again.append(self.main_loop_interrupt.wait(20))

    monkeypatch.setattr(server.Granian, "serve", serve)
    monkeypatch.setattr("multiprocessing.set_start_method", lambda *_, **__: None)
    first = _main(listener)
    running = threading.Thread(target=first.run)
    running.start()
    first._ask_to_end()
    running.join(30)
    for thread in threading.enumerate():
        if thread.name == "meanwhile-end":  # while it lives, it ends whatever this process starts by multiprocessing
            thread.join(30)
    assert told_again == [True]
    assert not first.failure
