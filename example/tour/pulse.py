"""What other requests feel meanwhile: asks for an empty page again and again, and keeps how long each took."""

from __future__ import annotations

import http.client
import threading
import time
from typing import Self

from .server import PATIENCE

VISITORS, PAUSE = 2, 0.02


class Pulse:
    """Measures as long as its block lasts; `took` is guarded by nothing but the GIL, and read after the block."""

    def __init__(self, port: int) -> None:
        self.took: list[float] = []
        self._port = port
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._over.clear()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(VISITORS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _ask(self) -> None:
        # A connection for each request: on one that is kept, Nagle's algorithm and delayed acknowledgements add 40 ms.
        while not self._over.is_set():
            begun = time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
            try:
                connection.request("GET", "/ping/", headers={"Connection": "close"})
                connection.getresponse().read()
            finally:
                connection.close()
            self.took.append(time.perf_counter() - begun)
            self._over.wait(PAUSE)
