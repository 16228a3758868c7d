"""How Sphinx makes the site: `hatch run docs`, or `nox -s docs` as the strict check.

The source folder is the root of the repository, not `docs/`, so that the READMEs of the packages
are pages too and every relative link works the same here and on a code-hosting page.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))
from generated import fill_in

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "LLM service toolkit"
html_title = project
author = "The llm-service authors"
copyright = f"{author}, MIT licence"
root_doc = "docs/index"

include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/**.md",
    "packages/*/README.md",
    "packages/*/docs/*.md",
]
# Sphinx would walk through them, and there are environments of 100,000 files below.
exclude_patterns = [".*", "**/.*", "dist", "site", "packages/*/src", "packages/*/tests"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4
# `Limits` of the service and of the simulator are both meant where they are used; either is found.
suppress_warnings = ["ref.python"]

# A word in backticks links to what it names, where the reference has it.
default_role = "py:obj"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

# `--json` is an option, not a dash.
smartquotes = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
# The first page of the site is docs/index.html, and a reader asks for /.
html_additional_pages = {"index": "to_first_page.html"}
templates_path = ["_templates"]
highlight_language = "none"
pygments_style = "default"
pygments_dark_style = "github-dark"


def setup(app: Sphinx) -> None:
    """Fill the generated parts in when a page is read."""

    def on_read(app: Sphinx, document: str, source: list[str]) -> None:
        source[0] = fill_in(source[0])

    app.connect("source-read", on_read)
