"""The code that a page shows is the code that runs: read by `inspect`, coloured by Python's own tokenizer."""

from __future__ import annotations

import builtins
import inspect
import io
import keyword
import re
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from html import escape
from typing import Any

from django.conf import settings
from django.utils.safestring import SafeString, mark_safe

from .exhibits import Exhibit

_DIRECTORIES = re.compile(
    rf"(?<=File \"){re.escape(str(settings.BASE_DIR))}/|(?<=File \")\S*/(?=django_meanwhile/|site-packages/)"
)
_KINDS = {tokenize.STRING: "string", tokenize.COMMENT: "comment", tokenize.NUMBER: "number"}
# Before Python 3.12 an f-string is one STRING; since then it comes in pieces.
_KINDS |= {
    getattr(tokenize, name): "string"
    for name in ("FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END")
    if hasattr(tokenize, name)
}


@cache
def of(*functions: Callable[..., Any]) -> SafeString:
    """Return the source of functions as HTML, their decorators included."""
    return coloured("\n\n".join(inspect.getsource(inspect.unwrap(function)) for function in functions))


def with_short_paths(traceback: str) -> str:
    """Return a traceback without the directories that the site and its packages lie in."""
    return _DIRECTORIES.sub("", traceback)


def of_task(exhibit: Exhibit) -> SafeString:
    """Return the source of an exhibit's task, and of what belongs to it."""
    code = of(exhibit.task.func)
    return mark_safe(f"{code}\n{escape(inspect.cleandoc(exhibit.also))}") if exhibit.also else code


def coloured(code: str) -> SafeString:
    """Wrap what the tokenizer knows in spans; all else is only escaped."""
    lines = code.splitlines(keepends=True)
    pieces, row, column = [], 1, 0
    for kind, start, end in _spans(code):
        pieces += [escape(_between(lines, (row, column), start)),
                   f'<span class="{kind}">{escape(_between(lines, start, end))}</span>']  # fmt: skip
        row, column = end
    pieces.append(escape(_between(lines, (row, column), (len(lines) + 1, 0))))
    return mark_safe("".join(pieces))


def _spans(code: str) -> Iterator[tuple[str, tuple[int, int], tuple[int, int]]]:
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        kind = _KINDS.get(token.type, "")
        if token.type == tokenize.NAME:
            if keyword.iskeyword(token.string):
                kind = "keyword"
            elif before in {"def", "class"}:
                kind = "name"
            elif before == "@":
                kind = "decorator"
            elif hasattr(builtins, token.string) and before != ".":
                kind = "builtin"
        if kind and token.start != token.end:
            yield kind, token.start, token.end
        before = token.string


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    (first, left), (last, right) = start, end
    if first == last:
        return lines[first - 1][left:right]
    tail = lines[last - 1][:right] if last <= len(lines) else ""
    return lines[first - 1][left:] + "".join(lines[first : last - 1]) + tail
