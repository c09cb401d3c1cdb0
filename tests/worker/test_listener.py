"""Wake-ups, passed on to children: whom they reach, and that none is a condition."""

import threading

import pytest

from django_meanwhile.store import wake
from django_meanwhile.store.wake import ANYTHING, CANCEL
from django_meanwhile.worker.listener import Listener
from tests.worker.fakes import WITHIN, FakeChild, plan


class Source:
    """Announces what the test says, then waits to be closed."""

    def __init__(self, *announcements):
        self.announcements = list(announcements)
        self.drained = threading.Event()
        self.closed = threading.Event()

    def wait(self, timeout):
        if self.announcements:
            return self.announcements.pop(0)
        self.drained.set()
        self.closed.wait(timeout)
        return set()

    def close(self):
        self.closed.set()


class Upkeep:
    """Counts questions after cancels."""

    cancels = 0

    def look_for_cancels(self):
        self.cancels += 1


@pytest.fixture
def hear(monkeypatch):
    """Let a listener of these queues hear announcements; return (cancels looked for, wake-ups of each child)."""

    def hear_them(*announcements, queues=()):
        source, upkeep, children = Source(*announcements), Upkeep(), [FakeChild(), FakeChild()]
        monkeypatch.setattr(wake, "make_listener", lambda alias: source)
        listener = Listener(plan(queues=queues), upkeep, lambda: children)
        listener.start()
        assert source.drained.wait(WITHIN)
        listener.stop()
        assert listener.join(WITHIN)
        assert source.closed.is_set()
        assert all(message == {"op": "wake"} for child in children for message in child.sent)
        return upkeep.cancels, [len(child.sent) for child in children]

    return hear_them


@pytest.mark.parametrize(
    ("announced", "queues", "cancels", "wakes"),
    [
        ({"mail"}, (), 0, 1),
        ({"mail"}, ("mail", "default"), 0, 1),
        ({"other"}, ("mail",), 0, 0),
        ({"other", "mail"}, ("mail",), 0, 1),
        ({CANCEL}, ("mail",), 1, 0),
        ({CANCEL, "mail"}, ("mail",), 1, 1),
        ({ANYTHING}, ("mail",), 1, 1),
        ({ANYTHING}, (), 1, 1),
        (set(), (), 0, 0),
    ],
)
def test_an_announcement_reaches_whom_it_concerns(hear, announced, queues, cancels, wakes):
    """New work in a queue of ours wakes every child; a cancel makes the upkeep look; other queues are not ours."""
    assert hear(announced, queues=queues) == (cancels, [wakes, wakes])


def test_each_announcement_is_passed_on(hear):
    """Three in a row are three wake-ups; the children's claimers know how to wait."""
    assert hear({"a"}, {"b"}, {"c"}) == (0, [3, 3])
