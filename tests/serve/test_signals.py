"""The first process hears a signal whatever its main thread does. In a process of its own: signals belong to one."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system has no pthread_kill()")

_HEARD = """
import os, signal, threading
from django_meanwhile.serve.signals import hear

def heed(number):
    print("heard", number, flush=True)
    os._exit(0)

hear([signal.SIGTERM], heed)
"""
_BY_ANOTHER_THREAD = """
def signal_this_thread():
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

threading.Thread(target=signal_this_thread).start()
threading.Event().wait()
"""


def _run(text: str) -> str:
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_a_signal_is_heard_while_the_main_thread_waits_for_a_lock() -> None:
    """It comes by another thread, so that nothing wakes the main thread: a handler alone would not be run."""
    assert _run(_HEARD + _BY_ANOTHER_THREAD) == f"heard {signal.SIGTERM:d}\n"
