"""A named lock inside a TestCase: among the threads of the process, without a connection."""

import threading

from django.db import connection
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from django_meanwhile.concurrent import Lock
from django_meanwhile.concurrent.locks import hold as lock_hold
from django_meanwhile.concurrent.locks import line as lock_line


class TestInATestCase(TestCase):
    """The test's transaction hides everything from other connections, so that none is opened."""

    def test_a_lock_in_a_test(self):
        """It is held, numbered, and refused to others of this process; no query is sent."""
        with CaptureQueriesContext(connection) as queries, Lock("printer") as lock:
            first = lock.fence
            refused = []

            def other():
                grip = lock_hold.AloneGrip("default", "printer")
                refused.append(grip.holder())
                # This thread is in no test's transaction; the line in front of the lock is the same.
                turn = lock_line.join(("default", "printer"), lock_line.Owner.current(), lambda: True, wait=False)
                refused.append(turn)

            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            assert refused[0].thread == threading.current_thread().name
            assert refused[1] is None
            lock.raise_if_lost()
            assert Lock("printer").holder() == refused[0]
        assert len(queries) == 0
        with Lock("printer", 0) as lock:
            assert lock.fence > first
