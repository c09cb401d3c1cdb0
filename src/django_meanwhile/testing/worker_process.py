"""The first steps of a worker that a test has started: ``python -m django_meanwhile.testing.worker_process ARGS``.

It ends with the test process, however that ends: its standard input is a pipe from there.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from django.core.management import execute_from_command_line


def main() -> None:
    """Run ``meanwhile worker`` until told to stop."""
    threading.Thread(target=_end_with_the_test, daemon=True).start()
    execute_from_command_line(["manage.py", "meanwhile", "worker", *sys.argv[1:]])


def _end_with_the_test() -> None:
    os.read(sys.stdin.fileno(), 1)  # returns when the other end is closed
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
