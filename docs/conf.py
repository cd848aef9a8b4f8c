"""How the site is made of these pages: `python3 run.py docs`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

from _site import commands, diagrams, docstrings, messages, states

import spdmkit

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "spdmkit"
release = version = spdmkit.__version__
author = project_copyright = ""
html_show_copyright = False

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_site"]
root_doc = "index"
language = "en"
smartquotes = False  # two dashes begin an option
nitpicky = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
# A type named like two classes that are documented, and meaning a third.
suppress_warnings = ["ref.python"]

autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# Our docstrings mark code with one back-quote.
default_role = "code"

html_theme = "alabaster"
html_title = f"spdmkit {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {
    "description": "SPDM over TCP: attest, provision and debug devices",
    "fixed_sidebar": True,
    "page_width": "76rem",
    "sidebar_width": "17rem",
    "show_powered_by": False,
}

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"\]\((?!\w+:|#|/)([^)]+)\)")
_PAGES = {"../examples/README.md": "/examples.md", "../vectors/README.md": "/vectors.md"}
"""Pages of the site for files that stand outside docs/, by their place seen from docs/."""


def _elsewhere(name: str) -> str:
    """The text of a page outside docs/, its links as seen from a page in docs/."""
    path = ROOT / name

    def moved(link: re.Match[str]) -> str:
        target = (path.parent / link[1]).resolve().relative_to(ROOT)
        inside = target.is_relative_to("docs")
        return f"]({target.relative_to('docs') if inside else '../' / target})"

    return _LINK.sub(moved, path.read_text())


GENERATED: dict[str, Callable[[], str]] = {
    "messages": messages.page,
    "states": states.page,
    "commands": commands.page,
    "changes": lambda: _elsewhere("CHANGELOG.md"),
    "examples": lambda: _elsewhere("examples/README.md"),
    "vectors": lambda: _elsewhere("vectors/README.md"),
}
"""What stands in a page as `<!-- generated: NAME -->`, and what makes it."""
_MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
_MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def fill_in(_app: object, _page: str, source: list[str]) -> None:
    """Put what is generated, and the diagrams, into a page as it is read."""
    text = _MARK.sub(lambda mark: GENERATED[mark[1]](), source[0])
    text = _MERMAID.sub(lambda mark: diagrams.sequence_diagram(mark[1]), text)
    for place, page in _PAGES.items():
        text = re.sub(rf"\]\((\.\./)*{re.escape(place)}\)", f"]({page})", text)
    source[0] = text


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", fill_in)
    # Before napoleon, which takes the sections apart.
    app.connect("autodoc-process-docstring", docstrings.mark_code, priority=100)
