"""The socket, or one line that says why there is none."""

import contextlib
import errno
import os
import select
import socket
import sys
from collections import Counter

import pytest
from django.core.management.base import CommandError

from django_meanwhile.core.address import Address, parse_address
from django_meanwhile.serve.listening import listen, remove


def test_it_listens_and_is_inherited() -> None:
    """Connections are taken in at once, before any server process is there; the descriptor passes to processes."""
    (made,) = listen(Address(host="127.0.0.1", port=0), 128)
    with made as listener:
        assert listener.get_inheritable()
        with socket.create_connection(listener.getsockname(), timeout=5):
            pass


def test_ipv6() -> None:
    """Brackets make it IPv6."""
    if not socket.has_ipv6:
        pytest.skip("this Python has no IPv6")
    (made,) = listen(parse_address("[::1]:0"), 128)
    with made as listener:
        assert listener.family == socket.AF_INET6


def test_a_port_that_somebody_has() -> None:
    """Refused with a port that may be free; though the other one shares its port by SO_REUSEPORT."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CommandError, match=rf"another process listens .* manage.py serve 127.0.0.1:{port + 1}"):
            listen(Address(host="127.0.0.1", port=port), 128)
        with pytest.raises(CommandError, match="another process listens"):
            listen(Address(host="127.0.0.1", port=port), 128, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux spreads connections among sockets")
def test_connections_are_spread_among_the_sockets_of_the_processes() -> None:
    """Each has its share of a hundred: one that has none would be the bad luck of 1 to 10 to the 29th."""
    listeners = listen(Address(host="127.0.0.1", port=0), 128, 2)
    assert len(listeners) == 2
    with contextlib.ExitStack() as stack:
        for listener in listeners:
            stack.enter_context(listener)
        assert len({listener.getsockname() for listener in listeners}) == 1
        for _ in range(100):
            stack.enter_context(socket.create_connection(listeners[0].getsockname(), timeout=5))
        accepted = Counter()
        while accepted.total() < 100:  # a connection may be there for its client first
            ready, _, _ = select.select(listeners, [], [], 20)
            assert ready, accepted
            for listener in ready:
                listener.accept()[0].close()
                accepted[listener] += 1
        assert set(accepted) == set(listeners)


@pytest.mark.parametrize(
    ("number", "address", "said"),
    [
        (errno.EACCES, Address(host="127.0.0.1", port=80), "Ports below 1024 .* manage.py serve 127.0.0.1:8000"),
        (errno.EACCES, Address(path="/run/site.sock"), "this user may not write there"),
        (errno.EADDRNOTAVAIL, Address(host="192.0.2.1", port=80), "no such address. 0.0.0.0"),
        (errno.EMFILE, Address(host="127.0.0.1", port=80), "Too many open files"),
    ],
)
def test_what_the_system_refuses(monkeypatch: pytest.MonkeyPatch, number: int, address: Address, said: str) -> None:
    """The reason in words, and a next step where there is one."""

    def refuse(self: socket.socket, place: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("django_meanwhile.serve.listening.socket.socket.bind", refuse)
    with pytest.raises(CommandError, match=said):
        listen(address, 128)


def test_a_host_that_nobody_knows() -> None:
    """A name that does not resolve."""
    with pytest.raises(CommandError, match="the host is unknown"):
        listen(Address(host="nowhere.invalid", port=80), 128)


def test_a_unix_socket_of_a_server_that_lives(tmp_path) -> None:
    """Is left alone; one that a dead server left behind is replaced; ours is removed at the end, not another's."""
    address = Address(path=str(tmp_path / "s.sock"))
    (first,) = listen(address, 128)
    with pytest.raises(CommandError, match="another process listens there already"):
        listen(address, 128)
    first.close()  # killed: the file stays
    (second,) = listen(address, 128)
    remove(address, first)
    assert (tmp_path / "s.sock").exists()
    second.close()
    remove(address, second)
    assert not (tmp_path / "s.sock").exists()


def test_a_directory_that_is_not_there(tmp_path) -> None:
    """Named as such."""
    with pytest.raises(CommandError, match="there is no such directory"):
        listen(Address(path=str(tmp_path / "none" / "s.sock")), 128)
