"""How the pages of `docs/` become a site: Sphinx and MyST, called by `make docs` and by `tests/docs/test_build.py`.

The pages are plain Markdown and read as well where nothing is built. So the two things that Sphinx wants besides are
made here while it reads: the table of contents, from the lists of links in the index pages, and the pages of the
repository's root (README, CHANGELOG ...), whose text takes the place of the stubs in `project/`. It imports nothing of
the package, and never writes into `docs/`.
"""
# ruff: noqa: INP001

import os
import re
import tomllib
import warnings
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

project = "django-meanwhile"
author = "The django-meanwhile contributors"
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

# MyST's own business with Sphinx, which would be printed among the warnings about our pages.
warnings.filterwarnings("ignore", message="'myst_parser", category=DeprecationWarning)
warnings.filterwarnings("ignore", message="'myst_parser", category=PendingDeprecationWarning)

extensions = ["myst_parser", "sphinx_copybutton"]
root_doc = "index"
exclude_patterns = ["_build"]
nitpicky = True  # a reference that leads nowhere is a warning, and a warning ends the build
myst_heading_anchors = 4

html_theme = "furo"
html_title = "django-meanwhile"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0a6665", "color-brand-content": "#0a6665"},
    "dark_css_variables": {"color-brand-primary": "#62cdc5", "color-brand-content": "#62cdc5"},
}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
copybutton_remove_prompts = True

_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")
_ENTRY = re.compile(r"- \[([^\]]*)\]\(([^)\s#:]+)\.md\)")
_STUBS = {ROOT / f"{path.stem.upper()}.md": path for path in (DOCS / "project").glob("*.md")}


def _read(_app: object, name: str, source: list[str]) -> None:
    """Sphinx is about to read a page: put the root's text into a stub, mend its links, add the table of contents."""
    place = DOCS / f"{name}.md"
    text, origin = source[0], place
    for page, stub in _STUBS.items():
        if place == stub:
            text, origin = page.read_text(encoding="utf-8"), page
    text = _LINK.sub(lambda match: _from_here(match.group(), origin, place), text)
    if place.name == "index.md":
        text += _contents(text)
    source[0] = text


def _from_here(target: str, origin: Path, place: Path) -> str:
    """Return a link of the page ``origin`` as it must be written in ``place``, where the root's pages are the stubs."""
    path = (origin.parent / target).resolve()
    return os.path.relpath(_STUBS.get(path, path), place.parent)


def _contents(text: str) -> str:
    """Return the hidden tables of contents of an index page: one for each heading with a list of links to pages."""
    found, caption = "", ""
    for section in re.split(r"^(?=#)", text, flags=re.MULTILINE):
        caption = section.partition("\n")[0].strip("# ")
        pages = [f"{title} <{page}>" for title, page in _ENTRY.findall(section)]
        if pages:
            lines = "\n".join(pages)
            found += f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n"
    return found


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's entry point."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
