"""How Sphinx makes the site: `make docs` builds it into build/site."""

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
(PACKAGE,) = (path.parent for path in ROOT.glob("src/*/__init__.py"))
sys.path.insert(0, str(PACKAGE.parent))  # autodoc imports it, installed or not

project = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
html_title = project
html_theme = "furo"
extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]

# A page for each module, written anew by each build: git need not see them.
reference = ROOT / "docs" / "reference"
reference.mkdir(exist_ok=True)
(reference / ".gitignore").write_text("*\n")
apidoc_modules = [
    {
        "path": str(PACKAGE),
        "destination": "reference",
        "module_first": True,
        "separate_modules": True,
    }
]
exclude_patterns = ["reference/modules.rst"]  # its one line is in index.md

autodoc_default_options = {"exclude-members": "model_config"}
autodoc_inherit_docstrings = False  # torch's own would fill most pages
autodoc_member_order = "bysource"
default_role = "literal"  # `x` in a docstring is code, as in Markdown
napoleon_use_ivar = True  # the attributes that a docstring lists are also found in the class
highlight_language = "none"  # a block that names no language is of the shell, or output
myst_heading_anchors = 3  # page.md#heading leads there, as it does on GitHub and GitLab
python_maximum_signature_line_length = 88
viewcode_follow_imported_members = False  # not into Python itself, for names of its types


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", is_field)
    app.connect("source-read", adapt)


def is_field(
    app: Any, what: str, name: str, member: Any, skipped: bool, options: Any
) -> bool | None:
    """Leave out fields without a docstring, for which autodoc has a stand-in: see the signature."""
    return True if type(member).__module__.startswith("sphinx.") else None


def adapt(app: Any, page: str, source: list[str]) -> None:
    """Call a module's page by its last name; offer files outside docs/, which are no pages."""
    if page.startswith("reference/"):
        source[0] = re.sub(r"^(\S+\.)?(\S+) (module|package)\n", r"\2\n", source[0])
    source[0] = re.sub(r"\]\((?=\.\./)", "](path:", source[0])
