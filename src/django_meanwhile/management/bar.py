"""A progress bar on a terminal; nothing anywhere else. Used by commands that change many jobs."""

from __future__ import annotations

import os
from typing import Any, Self

_WIDTH = 30


class Bar:
    """``[#####.........] 400 of 1200``, redrawn in place on a terminal, erased at the end.

    ``total`` may be unknown (None) or prove too small; it is only a display.
    """

    def __init__(self, stream: Any, total: int | None = None) -> None:
        self._stream = stream
        self._total = total
        self._done = 0
        self._shown = bool(getattr(stream, "isatty", lambda: False)()) and os.environ.get("TERM") != "dumb"

    def __enter__(self) -> Self:
        self._draw()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._shown:
            self._write("\r\x1b[K")

    def advance(self, number: int) -> None:
        """Say that ``number`` more are done."""
        self._done += number
        self._draw()

    def _draw(self) -> None:
        if not self._shown:
            return
        if not self._total or self._done > self._total:
            self._write(f"\r\x1b[K{self._done}")
            return
        filled = _WIDTH * self._done // self._total
        self._write(f"\r\x1b[K[{'#' * filled}{'.' * (_WIDTH - filled)}] {self._done} of {self._total}")

    def _write(self, text: str) -> None:
        self._stream.write(text, str, "")  # str: as it is, for Django paints all of stderr red
        self._stream.flush()
