"""The process's share of connections: never exceeded, first come first served, given back by who does not need it."""

import signal
import threading
from concurrent.futures import CancelledError

import pytest
from django.test import override_settings

from django_meanwhile.concurrent import ConnectionTimeout
from django_meanwhile.concurrent.threads import budget
from tests.concurrent.conftest import PATIENCE
from tests.playground import eventually


class Holder:
    """Holds and gives back as it is told."""

    def __init__(self, name, *, is_idle=False):
        self.name, self.is_idle, self.is_stopped = name, is_idle, False

    def describe(self):
        return f"holder {self.name!r}"

    def give_back(self, alias):
        if self.is_idle:
            self.is_idle = False
            threading.Thread(target=budget.release, args=(alias, self)).start()
            return True
        return False


def share(connections, timeout=PATIENCE):
    """Set the budget."""
    return override_settings(MEANWHILE={"CONCURRENT": {"connections": connections, "connection_timeout": timeout}})


@pytest.fixture(autouse=True)
def _empty(monkeypatch):
    monkeypatch.setattr(budget, "_shares", {})


class Acquiring(threading.Thread):
    """A thread that acquires, notes its name in ``order``, and holds."""

    def __init__(self, name, order):
        super().__init__()
        self.holder, self.order, self.error = Holder(name), order, None
        before = waiting()
        self.start()
        eventually(lambda: waiting() > before, what=f"{name} waits")

    def run(self):
        try:
            budget.acquire("db", self.holder)
        except Exception as error:
            self.error = error
        else:
            self.order.append(self.holder.name)


def waiting():
    found = budget._shares.get("db")
    return len(found.waiting) if found else 0


def test_a_share_is_never_exceeded_and_each_alias_has_its_own():
    """So many at once, per database; a holder needs one place however often it asks."""
    with share(2, timeout=0):
        one = Holder("one")
        budget.acquire("db", one)
        budget.acquire("db", one)
        budget.acquire("db", Holder("two"))
        budget.acquire("other", Holder("three"))
        with pytest.raises(ConnectionTimeout):
            budget.acquire("db", Holder("three"))
        assert budget.holders("db") == ["holder 'one'", "holder 'two'"]


def test_who_waits_longest_is_next():
    """First come, first served; nobody overtakes, whoever comes when a place is free."""
    order = []
    with share(1):
        first = Holder("first")
        budget.acquire("db", first)
        threads = [Acquiring(name, order) for name in ("a", "b", "c")]
        previous = first
        for thread in threads:
            budget.release("db", previous)
            thread.join(PATIENCE)
            previous = thread.holder
        assert order == ["a", "b", "c"]


def test_the_error_names_who_holds_and_what_to_do():
    """Alias, share, setting, seconds, the waiting one, and each holder."""
    with share(2, timeout=0.01):
        budget.acquire("db", Holder("one"))
        budget.acquire("db", Holder("two"))
        with pytest.raises(ConnectionTimeout) as raised:
            budget.acquire("db", Holder("three"))
    assert isinstance(raised.value, TimeoutError)
    for words in ("'three'", "'db'", "0.01 s", 'MEANWHILE["CONCURRENT"]["connections"]', "2", "'one'", "'two'"):
        assert words in str(raised.value)
    assert not waiting()


def test_an_idle_holder_gives_its_place_to_who_waits():
    """A connection that is only kept warm is no reason to wait."""
    with share(2):
        budget.acquire("db", Holder("busy"))
        budget.acquire("db", Holder("idle", is_idle=True))
        new = Holder("new")
        budget.acquire("db", new)
        assert budget.holders("db") == ["holder 'busy'", "holder 'new'"]


def test_a_stopped_call_waits_no_longer():
    """Its wait ends with CancelledError, and its place in the row goes to the next one."""
    order = []
    with share(1):
        first = Holder("first")
        budget.acquire("db", first)
        stopped, patient = Acquiring("stopped", order), Acquiring("patient", order)
        stopped.holder.is_stopped = True
        budget.interrupt(stopped.holder)
        stopped.join(PATIENCE)
        assert isinstance(stopped.error, CancelledError)
        budget.release("db", first)
        patient.join(PATIENCE)
        assert order == ["patient"]
        with pytest.raises(CancelledError):  # told before it began to wait
            budget.acquire("db", stopped.holder)


def test_hold_takes_a_place_for_others_and_gives_it_back():
    """Locks and coroutines hold their connections by name; an error in the block gives the place back as well."""
    with share(1, timeout=0):
        with budget.hold("db", "Lock('x')"):
            assert budget.holders("db") == ["Lock('x') in thread 'MainThread'"]
            with pytest.raises(ConnectionTimeout, match=r"Lock\('x'\) in thread"), budget.hold("db", "Lock('y')"):
                pytest.fail("two held a share of one")
        assert budget.holders("db") == []
        with pytest.raises(ZeroDivisionError), budget.hold("db", "Lock('x')"):
            raise ZeroDivisionError
        assert budget.holders("db") == []


def test_an_interrupted_wait_takes_no_place():
    """Ctrl-C while the main thread waits: nobody waits any more in its name, so the place is given to the next one."""

    def interrupt():
        eventually(waiting, what="the main thread waits")
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    try:
        with share(1):
            first = Holder("first")
            budget.acquire("db", first)
            interrupting = threading.Thread(target=interrupt)
            interrupting.start()
            with pytest.raises(KeyboardInterrupt), budget.hold("db", "Lock('x')"):
                pytest.fail("it was interrupted")
            interrupting.join(PATIENCE)
            assert not waiting()
            budget.release("db", first)
            assert budget.holders("db") == []
    finally:
        signal.signal(signal.SIGINT, handler)


def test_a_place_that_came_at_the_moment_of_the_interruption_goes_on_to_the_next():
    """What was granted to a wait that ends by an error is not lost."""

    class Granted(Holder):
        def give_back(self, alias):
            budget.release(alias, self)
            raise KeyboardInterrupt

    with share(1):
        budget.acquire("db", Granted("first"))
        with pytest.raises(KeyboardInterrupt):
            budget.acquire("db", Holder("second"))
        assert budget.holders("db") == []
        assert not waiting()


def test_many_threads_never_exceed_the_share_and_all_get_their_turn():
    """Under load: at most three at once, and none is forgotten."""
    inside, most, done = set(), [], []
    lock = threading.Lock()

    def work(holder):
        for _ in range(30):
            budget.acquire("db", holder)
            with lock:
                inside.add(holder)
                most.append(len(inside))
            with lock:
                inside.discard(holder)
            budget.release("db", holder)
        done.append(holder)

    with share(3):
        threads = [threading.Thread(target=work, args=(Holder(str(number)),)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(done) == 12
    assert 1 <= max(most) <= 3
    assert budget.holders("db") == []
