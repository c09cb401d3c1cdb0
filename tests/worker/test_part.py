"""The start/stop contract of every long-lived part, in one stress test for all of them."""

import os
import random
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.db import connections

from django_meanwhile.conf import Retention, real_clock
from django_meanwhile.embedded.keeper import Keeper
from django_meanwhile.embedded.lock import try_lock
from django_meanwhile.store import wake
from django_meanwhile.worker.beat import Beat
from django_meanwhile.worker.channel import Receiver
from django_meanwhile.worker.completer import Completer
from django_meanwhile.worker.courier import Courier
from django_meanwhile.worker.herald import Herald
from django_meanwhile.worker.listener import Listener
from django_meanwhile.worker.part import Part
from django_meanwhile.worker.sentinel import Sentinel
from django_meanwhile.worker.slots import SlotTable
from django_meanwhile.worker.upkeep import Upkeep
from tests.worker.fakes import WITHIN, FakeChild, FakeStore, plan


def herald(clean):
    return Herald()


def beat(clean):
    return Beat(plan(beat=0.05), FakeStore(), real_clock(), lambda: [FakeChild()])


def upkeep(clean):
    return Upkeep(
        plan(),
        retention=Retention(),
        store=FakeStore(),
        clock=real_clock(),
        beat=beat(clean),
        herald=herald(clean),
        children=lambda: [FakeChild()],
    )


def listener(clean):
    return Listener(plan(), upkeep(clean), lambda: [FakeChild()])


def courier(clean):
    table = SlotTable.create(8)
    clean.append(table.close)
    store = FakeStore()
    return Courier(
        store=store,
        row=SimpleNamespace(id=None),
        lease=30.0,
        claimer=SimpleNamespace(due_in=lambda room: 1.0, claim=lambda room: 0),
        completer=Completer(store),
        executors=[],
        ledger=None,
        table=table,
        clock=real_clock(),
        on_registered=lambda sent: None,
        on_failure=lambda: None,
    )


def sentinel(clean):
    reader, writer = os.pipe()
    table = SlotTable.create(8)
    clean += [lambda: os.close(reader), lambda: os.close(writer), table.close]
    return Sentinel(
        receiver=Receiver(reader),
        table=table,
        clock=real_clock(),
        executors=[],
        courier=SimpleNamespace(),
        claimer=SimpleNamespace(is_spent=False),
        margin=6.0,
        stop_grace=1.0,
        grace=25.0,
    )


def keeper(clean):
    directory = tempfile.TemporaryDirectory()
    clean.append(directory.cleanup)
    path = Path(directory.name) / "taken.lock"
    held = try_lock(path)
    clean.append(lambda: os.close(held))

    class Waiting(Keeper):
        """Waits for a lock that another process has: what most keepers do, always."""

        def _keep(self, _path: Path) -> int | None:
            return super()._keep(path)

    return Waiting("default", "default")


PARTS = [herald, beat, upkeep, listener, courier, sentinel, keeper]


def threads_of(part):
    """The threads of a part that live."""
    return [thread for thread in threading.enumerate() if thread.name == f"meanwhile-{part.name}"]


@pytest.fixture
def clean():
    """What is to be called once the part has ended."""
    callbacks = []
    yield callbacks
    for callback in callbacks:
        callback()


@pytest.fixture(params=PARTS, ids=lambda make: make.__name__)
def part(request, clean):
    """Each part, never started; nothing of it outlives the test."""
    made = request.param(clean)
    assert not threads_of(made)
    yield made
    made.stop()
    assert made.join(WITHIN)
    assert not threads_of(made)


def test_every_part_is_here():
    """A part that is added to the worker must be added to this contract."""
    here = {make([]).__class__ for make in (herald, beat, upkeep, listener)} | {Courier, Sentinel, Keeper}
    ours = {cls for cls in Part.__subclasses__() if cls.__module__.startswith("django_meanwhile.")}
    assert ours == here


def test_a_part_is_started_once(part):
    """Three starts are one thread, a daemon with the part's name."""
    for _ in range(3):
        part.start()
    (thread,) = threads_of(part)
    assert thread.daemon
    assert part.is_alive
    assert not part.is_stopping


def test_stop_before_start_is_fine(part):
    """It is not stopped before it was born: a start after it starts."""
    part.stop()
    part.stop()
    assert part.join(0)
    part.start()
    assert part.is_alive
    assert not part.is_stopping


def test_stop_ends_it_and_may_be_said_twice(part):
    """Asked to end, it ends; nothing is left."""
    part.start()
    part.stop()
    part.stop()
    assert part.is_stopping
    assert part.join(WITHIN)
    assert not part.is_alive
    assert not threads_of(part)
    part.stop()


def test_a_stopped_part_can_be_started_again(part):
    """Five lives, one after the other, also without waiting for the end of the last."""
    for n in range(5):
        part.start()
        assert part.is_alive
        part.stop()
        if n % 2:
            assert part.join(WITHIN)
    part.start()
    assert len(threads_of(part)) == 1


def test_starts_and_stops_from_many_threads(part):
    """Eight threads start and stop it at random: there is never a second thread, and the last word counts."""
    barrier = threading.Barrier(8)
    most, errors = [], []

    def work(seed):
        chance = random.Random(seed)
        barrier.wait()
        try:
            for _ in range(6):
                chance.choice([part.start, part.stop])()
                most.append(len(threads_of(part)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN)
        assert not thread.is_alive(), "a deadlock between start and stop"
    assert not errors
    assert max(most) <= 1
    part.start()
    assert part.is_alive
    assert len(threads_of(part)) == 1


def test_a_start_that_races_a_stop_leaves_no_wake_up_behind(part):
    """The stop of one life never reaches into the next: what was started last goes on."""
    for _ in range(20):
        part.start()
        stopper = threading.Thread(target=part.stop)
        stopper.start()
        part.start()
        stopper.join()
    part.start()
    assert part.is_alive
    (thread,) = threads_of(part)
    thread.join(0.05)
    assert thread.is_alive()


# --- what every part gets from its base -----------------------------------------------------


class Sample(Part):
    """A part whose work a test gives."""

    name = "sample"

    def __init__(self, work):
        super().__init__()
        self.work = work
        self.failed = threading.Event()
        self.woken = threading.Event()

    def wake(self):
        self.woken.set()

    def run(self):
        self.work(self)

    def on_failure(self):
        self.failed.set()


def test_a_part_that_fails_says_so_and_can_be_started_again(caplog):
    """An error of its own is logged with its name, and its owner is told; it does not come back by itself."""

    def work(part):
        raise RuntimeError("a bug")

    part = Sample(work)
    part.start()
    assert part.failed.wait(WITHIN)
    assert part.join(WITHIN)
    assert not part.is_alive
    assert "the sample ended by an error of its own" in caplog.text
    part.work = lambda part: part.woken.wait(WITHIN)
    part.start()
    assert part.is_alive
    part.stop()
    assert part.join(WITHIN)


def test_a_part_cannot_wait_for_itself():
    """``join`` from within says that it has not ended, instead of waiting for ever."""
    answers = []
    part = Sample(lambda part: answers.append(part.join(WITHIN)))
    part.start()
    assert part.join(WITHIN)
    assert answers == [False]


def test_join_gives_up_after_its_time():
    """It says whether the thread has ended."""
    part = Sample(lambda part: part.woken.wait(WITHIN))
    part.start()
    assert not part.join(0.01)
    part.stop()
    assert part.join(WITHIN)


@pytest.mark.django_db(transaction=True)
def test_a_part_leaves_no_connection():
    """Whatever its thread has opened is closed when it ends, also after an error."""
    opened = []

    def work(part):
        connections["default"].ensure_connection()
        opened.append(connections["default"].connection)
        raise RuntimeError("a bug")

    part = Sample(work)
    part.start()
    assert part.join(WITHIN)
    with pytest.raises(Exception, match="closed"):
        opened[0].execute("SELECT 1")


def test_a_listener_listens_anew_with_each_start(monkeypatch):
    """A closed source hears nothing again: each life has its own, and closes it."""
    sources = []

    class Source(wake.WaitingListener):
        def __init__(self):
            super().__init__()
            self.waits = 0
            sources.append(self)

        def wait(self, timeout):
            self.waits += 1
            return super().wait(timeout)

    monkeypatch.setattr(wake, "make_listener", lambda alias: Source())
    part = listener([])
    for _ in range(3):
        part.start()
        part.stop()
        assert part.join(WITHIN)
    assert len(sources) == 3
    assert all(source._closed.is_set() for source in sources)
    assert max(source.waits for source in sources) <= 1, "a closed source is not asked again and again"
