"""The Sphinx configuration: `make docs` builds the site in build/site."""

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
(PACKAGE,) = (path.parent for path in ROOT.glob("src/*/__init__.py"))
sys.path.insert(0, str(PACKAGE.parent))  # so that autodoc can import an uninstalled package

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

# One page for each module. Each build writes these pages again, so git ignores them.
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
exclude_patterns = ["reference/modules.rst"]  # index.md lists the package instead

autodoc_default_options = {"exclude-members": "model_config"}
autodoc_inherit_docstrings = False  # torch's docstrings would fill most pages
autodoc_member_order = "bysource"
default_role = "literal"  # `x` in a docstring is code, as in Markdown
napoleon_use_ivar = True  # otherwise attributes in docstrings duplicate those of the class
highlight_language = "none"  # blocks without a language are shell commands or output
myst_heading_anchors = 3  # links such as page.md#heading work, as on GitHub and GitLab
python_maximum_signature_line_length = 88
viewcode_follow_imported_members = False  # shows no source code of Python's standard library


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", is_field)
    app.connect("source-read", adapt)


def is_field(
    app: Any, what: str, name: str, member: Any, skipped: bool, options: Any
) -> bool | None:
    """Skip fields without a docstring: autodoc shows a generic text, and the signature has them."""
    return True if type(member).__module__.startswith("sphinx.") else None


def adapt(app: Any, page: str, source: list[str]) -> None:
    """Title a module's page with its last name; make links to files outside docs/ downloads."""
    if page.startswith("reference/"):
        source[0] = re.sub(r"^(\S+\.)?(\S+) (module|package)\n", r"\2\n", source[0])
    source[0] = re.sub(r"\]\((?=\.\./)", "](path:", source[0])
