"""What of a map is under way, and what may be done next: the rules of ``parallel_map`` and its ``a`` twin, purely.

::

    iterable ─pull─▶ piece: running ─▶ ended ─▶ given to the consumer
                     └─ at most max_workers ┘
                     └────── at most 2 x max_workers ──────┘

It starts nothing, waits for nothing and knows no threads: ``mapping`` and ``amapping`` do.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False, slots=True)
class Piece:
    """Calls that are made in one go: those for ``chunk_size`` items. ``future`` is what runs them, if anything does."""

    future: Any = None
    results: list[Any] = field(default_factory=list)
    error: BaseException | None = None
    is_ended: bool = False

    def raise_error(self) -> None:
        """Raise its error, if it has one, and let go of it: it holds the frames that it came through."""
        error, self.error = self.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error, self


class Window:
    """The pieces that were started and not given to the consumer yet, in the order of the iterable."""

    def __init__(self, max_workers: int, *, ordered: bool) -> None:
        self.max_workers = max_workers
        self.ordered = ordered
        self.pieces: deque[Piece] = deque()
        self._ended: deque[Piece] = deque()  # in the order of their ends
        self._running = 0
        self.takes_no_more = False
        """After the last item, and after the first error."""

    def has_room(self) -> bool:
        """Whether another piece may be started."""
        full = self._running >= self.max_workers or len(self.pieces) >= 2 * self.max_workers
        return not (full or self.takes_no_more)

    def is_empty(self) -> bool:
        """Whether the consumer has everything, as far as was started."""
        return not self.pieces

    def add(self, piece: Piece) -> None:
        """Note that a piece was started; or that it cannot be, if it has ended already: with an error."""
        self.pieces.append(piece)
        self._running += 1
        if piece.is_ended:
            self.note_end(piece)

    def note_end(self, piece: Piece) -> None:
        """Note that a piece has ended; its results and its error are there."""
        piece.is_ended = True
        self._running -= 1
        self._ended.append(piece)
        if piece.error is not None:
            self.takes_no_more = True

    def is_ready(self) -> bool:
        """Whether the consumer can be given something now."""
        return self.pieces[0].is_ended if self.ordered and self.pieces else bool(self._ended)

    def take(self) -> Piece:
        """Return the next piece for the consumer. Only if one is ready."""
        piece = self.pieces[0] if self.ordered else self._ended[0]
        self._ended.remove(piece)
        self.pieces.remove(piece)
        return piece

    def abandon(self) -> list[Piece]:
        """Return those that have not ended, and forget all: nobody takes them any more."""
        left = [piece for piece in self.pieces if not piece.is_ended]
        self.takes_no_more = True
        self.pieces.clear()
        self._ended.clear()
        return left
