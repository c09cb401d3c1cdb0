"""`make site`: the example site, left running until Ctrl-C. ARGS="8080" names a port; otherwise 8000, or a free one.

What it was used for stays in `var/` beside this file.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

from tour.server import Server, free_port

DIRECTORY = Path(os.environ.get("EXAMPLE_DIRECTORY", Path(__file__).parent / "var"))


def port_to_use(args: list[str]) -> int:
    """Return the port that was asked for, or 8000 if nobody has it, or any."""
    if args:
        if not (args[0].isdecimal() and 0 < int(args[0]) < 65536):
            sys.exit(f"{args[0]!r} is no port: a number from 1 to 65535, as in make site ARGS=8080")
        return int(args[0])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 8000))
        except OSError:
            return free_port()
    return 8000


def main() -> int:
    """Serve until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with Server(DIRECTORY, port_to_use(sys.argv[1:])) as server:
        try:
            server.manage("migrate", "--verbosity", "0")
            server.start()
            print(f"The example site is at {server.url}/ - Ctrl-C ends it. What it says is in {server.log}", flush=True)
            return server.wait()
        except KeyboardInterrupt:
            print("\nEnding it ...", flush=True)
        except RuntimeError as error:
            sys.exit(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
