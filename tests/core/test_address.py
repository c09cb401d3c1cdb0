"""Where a server listens: what may be written, and what is meant by it."""

import pytest

from django_meanwhile.core.address import Address, parse_address

MEANT = {
    "127.0.0.1:8000": Address(host="127.0.0.1", port=8000),
    "8000": Address(host="127.0.0.1", port=8000),
    "0:9000": Address(host="0.0.0.0", port=9000),
    "localhost:80": Address(host="localhost", port=80),
    "my-host.example:65535": Address(host="my-host.example", port=65535),
    "[::]:8000": Address(host="::", port=8000),
    "[fe80::1%eth0]:0": Address(host="fe80::1%eth0", port=0),
    "unix:/run/site.sock": Address(path="/run/site.sock"),
}


@pytest.mark.parametrize("text", MEANT)
def test_what_may_be_written(text: str) -> None:
    """Host and port, a port alone, IPv6 in brackets, a Unix socket."""
    assert parse_address(text) == MEANT[text]


@pytest.mark.parametrize("text", MEANT)
def test_an_address_is_written_as_it_can_be_read(text: str) -> None:
    """What ``str()`` makes of an address means the same address."""
    assert parse_address(str(MEANT[text])) == MEANT[text]


@pytest.mark.parametrize(
    "text", ["", ":", "host", "host:", ":8000", "::1:8000", "127.0.0.1:65536", "a b:1", "unix:", "8000\n", 8000, None]
)
def test_what_is_refused(text: object) -> None:
    """Anything else, with the forms that are accepted; a bare colon before a port does not say on which addresses."""
    with pytest.raises(ValueError, match=r"must be .*unix:/path"):
        parse_address(text)
