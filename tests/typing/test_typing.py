"""Our types, seen from a user's code: a wrong call is an error before it runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="mypy is not installed (it is in the dependency group dev)")

HERE = Path(__file__).parent
SOURCES = [HERE / "calls.py", HERE / "mapping.py", HERE / "parallel.py"]


@pytest.mark.parametrize("source", SOURCES, ids=[source.name for source in SOURCES])
def test_a_users_code(tmp_path, source):
    """With or without Django's stubs, strict mypy accepts the right lines of a file and refuses the others."""
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\nstrict = True\n[mypy-django_meanwhile.*]\nfollow_imports = silent\n")
    command = [sys.executable, "-m", "mypy", "--config-file", config, "--cache-dir", tmp_path / "cache", source]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"MYPYPATH": str(HERE.parent.parent / "src"), "PATH": ""},
    )
    found = set()
    for line in done.stdout.splitlines():
        match = re.match(rf"{re.escape(str(source))}:(\d+): error: .*\[([\w-]+)\]$", line)
        if match:
            found.add((int(match[1]), match[2]))
    wanted = {
        (number, code)
        for number, line in enumerate(source.read_text().splitlines(), start=1)
        for code in line.partition("# error: ")[2].split(", ")
        if code
    }
    assert found == wanted, done.stdout + done.stderr
