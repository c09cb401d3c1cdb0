"""Nothing outlives a test run: a small process that cleans up after one, however it ended.

The test process imports this module and calls ``run_directory()``; that starts a watchdog, a second interpreter running
this file as a script, which holds the reading end of a pipe. When the test process ends (even by SIGKILL) the pipe
closes, and the watchdog kills every process whose environment carries the run's mark, stops the database servers whose
data lies in the run's directory, and removes that directory.
"""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import psutil

MARK = "MEANWHILE_TEST_RUN"


@cache
def run_directory() -> Path:
    """Return the temporary directory of this test process; the first call starts the watchdog."""
    directory = Path(tempfile.mkdtemp(prefix="meanwhile-tests-")).resolve()
    directory.chmod(0o755)  # a database server of ours runs as another user
    _start(directory)
    return directory


def run_mark() -> dict[str, str]:
    """Return what the environment of every process started by a test must carry."""
    return {MARK: run_directory().name}


def _start(directory: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, __file__, str(directory)], stdin=subprocess.PIPE, start_new_session=True, cwd="/"
    )
    owner = os.getpid()

    def finish() -> None:  # the reference to the pipe, too: it stays open as long as this process lives
        if os.getpid() == owner:
            process.communicate()

    atexit.register(finish)


def marked_processes(name: str, value: str) -> list[psutil.Process]:
    """Return the living processes whose environment says ``name=value``."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or another user's
    return found


def _clean_up(directory: Path) -> None:
    for process in marked_processes(MARK, directory.name):
        try:
            process.kill()
        except psutil.Error:
            continue
    for pid_file in directory.glob("pg-*/data/postmaster.pid"):
        try:
            os.kill(int(pid_file.read_text().split("\n", 1)[0]), signal.SIGQUIT)
        except (OSError, ValueError):
            continue
    deadline = time.monotonic() + 5
    while any(directory.glob("pg-*/data/postmaster.pid")) and time.monotonic() < deadline:
        time.sleep(0.05)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.buffer.read()  # returns when the test process is no more
    _clean_up(Path(sys.argv[1]))
