"""Reads the documentation: blocks, tables, headings and links of a Markdown page. Our pages are plain: no library."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"```(\w*|\{toctree\})\s*$")
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->")
_FILE = re.compile(r"# ((?:[\w-]+/)*[\w-]+(?:\.\w+)+)\s*$")
_LINK = re.compile(r"(?<!!)\[[^\]\[]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`[^`]*`")


@dataclass(frozen=True)
class Block:
    """A fenced block. ``file`` is the path that its first line names, as in ``# reports/tasks.py``."""

    page: str
    line: int
    language: str
    text: str
    not_run: str  # the reason, or nothing

    @property
    def file(self) -> str | None:
        """The file that it is, or None."""
        found = _FILE.match(self.text.splitlines()[0]) if self.text else None
        return found.group(1) if found else None

    @property
    def commands(self) -> list[str]:
        """Of a console block: what is typed."""
        return [line[2:].partition("  # ")[0].strip() for line in self.text.splitlines() if line.startswith("$ ")]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Table:
    """A table under a heading: rows of cells, the head first."""

    heading: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, name: str) -> list[str]:
        """Return one column, by its head."""
        place = self.head.index(name)
        return [row[place] for row in self.rows]


@dataclass
class Page:
    """One Markdown file."""

    path: Path
    text: str = field(init=False)

    def __post_init__(self) -> None:
        self.text = self.path.read_text(encoding="utf-8")

    @property
    def name(self) -> str:
        """Its path in the repository."""
        return str(self.path.relative_to(ROOT))

    def blocks(self) -> list[Block]:
        """Return its fenced blocks, in order."""
        found: list[Block] = []
        lines = self.text.splitlines()
        start, language = 0, None
        for number, line in enumerate(lines, start=1):
            if language is None:
                if line.startswith("```"):
                    match = _FENCE.match(line)
                    assert match, f"{self.name}:{number}: cannot read {line!r}"
                    start, language = number, match.group(1)
            elif line.startswith("```"):
                before = next((text for text in reversed(lines[: start - 1]) if text.strip()), "")
                reason = _NOT_RUN.search(before)
                text = "\n".join(lines[start : number - 1])
                if language != "{toctree}":  # that one is for the generator
                    found.append(Block(self.name, start, language, text, reason.group(1) if reason else ""))
                language = None
        assert language is None, f"{self.name}:{start}: a block that does not end"
        return found

    def files(self) -> dict[str, str]:
        """Return the files that its blocks are; those of one file are joined. Blocks that are not run are none."""
        files: dict[str, str] = {}
        for block in self.blocks():
            if block.file and not block.not_run:
                files[block.file] = f"{files.get(block.file, '')}{block.text}\n\n\n"
        return files

    def prose(self) -> Iterator[tuple[int, str]]:
        """Yield its lines outside of blocks, with their numbers."""
        inside = False
        for number, line in enumerate(self.text.splitlines(), start=1):
            if line.startswith("```"):
                inside = not inside
            elif not inside:
                yield number, line

    def links(self) -> list[tuple[int, str]]:
        """Return line and target of every link."""
        return [(number, target) for number, line in self.prose() for target in _LINK.findall(line)]

    def anchors(self) -> set[str]:
        """Return what a link to a heading of this page may say behind the #, as GitHub makes it."""
        return {slug(line.lstrip("#").strip()) for _, line in self.prose() if re.match(r"#+ ", line)}

    def tables(self) -> list[Table]:
        """Return its tables."""
        found: list[Table] = []
        heading, rows = "", list[tuple[str, ...]]()
        for _, line in [*self.prose(), (0, "")]:
            if line.startswith("|"):
                rows.append(_cells(line))
                continue
            if rows:
                head, _dashes, *body = rows
                assert all(len(row) == len(head) for row in body), f"{self.name}: uneven table under {heading!r}"
                found.append(Table(heading, head, tuple(body)))
                rows = []
            if line.startswith("#"):
                heading = line.lstrip("#").strip()
        return found

    def table(self, heading: str, *head: str) -> Table:
        """Return the table under a heading whose head begins like that."""
        for table in self.tables():
            if table.heading.replace("`", "") == heading and table.head[: len(head)] == head:
                return table
        raise AssertionError(f"{self.name}: no table {head} under {heading!r}")


def slug(heading: str) -> str:
    """Return GitHub's anchor of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def code(cell: str) -> list[str]:
    """Return what stands in backticks."""
    return [found[1:-1] for found in _CODE.findall(cell)]


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1])


README = Page(ROOT / "README.md")
ARCHITECTURE = Page(ROOT / "ARCHITECTURE.md")
PAGES = [
    README,
    ARCHITECTURE,
    *(Page(ROOT / name) for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *(Page(path) for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts),
]


def page(name: str) -> Page:
    """Return a page of `docs/`: `page("reference/tasks")`."""
    return Page(DOCS / f"{name}.md")
