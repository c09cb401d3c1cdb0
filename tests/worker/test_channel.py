"""What a supervisor says to a child, over a pipe that may be full, cut or closed."""

import json
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_meanwhile.worker.channel import Receiver, Sender


@pytest.fixture
def ends():
    """The two ends of a pipe."""
    reader, writer = os.pipe()
    sender, receiver = Sender(writer), Receiver(reader)
    yield sender, receiver
    sender.close()
    os.close(reader)


STOP = {"op": "stop", "job": "018f", "epoch": 2**62, "reason": "Cancelled"}


def test_messages_arrive_whole_and_in_order(ends):
    """What was sent in several calls is received in one, message by message."""
    sender, receiver = ends
    for message in ({"op": "wake"}, STOP, {"op": "drain"}, {"op": "interrupt"}):
        assert sender.send(message)
    assert receiver.receive() == [{"op": "wake"}, STOP, {"op": "drain"}, {"op": "interrupt"}]


@given(st.lists(st.integers(1, 60), max_size=10))
def test_a_line_in_pieces_is_one_message(cuts):
    """However the bytes are cut up, the same messages come out, each once its line is whole."""
    data = b"".join(json.dumps(message).encode() + b"\n" for message in ({"op": "wake"}, STOP, {"op": "drain"}))
    reader, writer = os.pipe()
    try:
        receiver, received = Receiver(reader), []
        while data:
            length = cuts.pop() if cuts else len(data)
            os.write(writer, data[:length])
            data = data[length:]
            received += receiver.receive()
        assert received == [{"op": "wake"}, STOP, {"op": "drain"}]
    finally:
        os.close(reader)
        os.close(writer)


def test_a_full_pipe_does_not_block_the_supervisor(ends):
    """A child that does not read costs its messages, not the supervisor's beat; what fitted arrives whole."""
    sender, receiver = ends
    sent = []
    for message in (STOP, {"op": "wake"}):
        while sender.send(message):
            sent.append(message)
    received = []
    while len(received) < len(sent):
        received += receiver.receive()
    assert received == sent
    assert sender.send({"op": "wake"}), "once it has read, it can be told again"


def test_a_dead_child_is_noticed_and_not_raised(ends):
    """A pipe without a reader is a child that is gone: the reaper sees to it."""
    reader, writer = os.pipe()
    sender = Sender(writer)
    os.close(reader)
    assert not sender.send({"op": "wake"})
    sender.close()


def test_the_end_of_the_pipe_is_the_end_of_the_supervisor(ends):
    """After what was still sent, None: nobody is there any more. Half a line is no message."""
    sender, receiver = ends
    sender.send({"op": "wake"})
    os.write(sender._fd, b'{"op": "dr')
    sender.close()
    assert receiver.receive() == [{"op": "wake"}]
    assert receiver.receive() is None
    assert receiver.receive() is None


def test_closing_twice_and_sending_after_it_are_harmless(ends):
    """A closed descriptor's number may be another file's by now: nothing is written to it, nothing closed twice."""
    sender, _ = ends
    number = sender._fd
    reader, writer = os.pipe()
    sender.close()
    os.dup2(writer, number)  # somebody else has the number now
    try:
        assert not sender.send({"op": "wake"})
        sender.close()
        os.fstat(number)
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
    finally:
        for descriptor in (number, reader, writer):
            os.close(descriptor)


def test_a_closing_supervisor_never_writes_into_another_file():
    """While three threads send, the main thread closes: no byte ends up in the file that gets the number next."""
    for _ in range(200):
        reader, writer = os.pipe()
        sender = Sender(writer)
        barrier = threading.Barrier(4)

        def send(sender=sender, barrier=barrier):
            barrier.wait()
            while sender.send({"op": "wake"}):
                pass

        threads = [threading.Thread(target=send) for _ in range(3)]
        for thread in threads:
            thread.start()
        barrier.wait()
        sender.close()
        other_reader, other_writer = os.pipe()
        for thread in threads:
            thread.join()
        os.set_blocking(other_reader, False)
        with pytest.raises(BlockingIOError):
            os.read(other_reader, 1)
        for descriptor in (reader, other_reader, other_writer):
            os.close(descriptor)
