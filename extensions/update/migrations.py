"""Changes to the owner's files that a version offers, with a folder per version:

    migrations/vX.Y.Z/migrate.py    `FILES`, patterns as in ownership.yml, and `migrate(files, answers)`, which gets the
                                    texts of these files by path and returns the new ones
    migrations/vX.Y.Z/words.md      what no script can change; the report shows it

An update edits no file of the owner. It names the files that a script would change; `--migrate` changes them.
"""

import contextlib
import difflib
import re
import runpy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from packaging.version import Version

from .git import Refusal, git, listed
from .project import Project
from .rules import LISTS, is_owned, regex
from .versions import as_version, rendered

FOLDER = LISTS / "migrations"


@dataclass
class Changes:
    """Offered changes: old and new texts by path, the paths by version, and the words by version."""

    old: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)
    paths: dict[str, list[str]] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)

    def diff(self) -> str:
        lines: list[str] = []
        for path in sorted(self.new):
            old, new = (text[path].splitlines(keepends=True) for text in (self.old, self.new))
            lines += difflib.unified_diff(old, new, f"a/{path}", f"b/{path}")
        return "".join(lines)


def folders(old: Version | None, new: Version) -> list[Path]:
    """The folders of the versions after `old` (None: of all), up to `new`; oldest first."""
    found = {Version(folder.name): folder for folder in FOLDER.glob("v*")}
    return [found[version] for version in sorted(found) if (old is None or old < version) and version <= new]


def changes(
    chosen: Iterable[Path],
    paths: Iterable[str],
    read: Callable[[list[str]], Mapping[str, bytes]],
    answers: Mapping[str, Any],
) -> Changes:
    """Run the scripts of these folders on the owner's files; nothing is written.

    `read` returns the contents of files, all at once: a process of git for each would take longer than the merge.
    """
    made, paths = Changes(), list(paths)
    for folder in chosen:
        page, script = folder / "words.md", folder / "migrate.py"
        if page.exists():
            made.words[folder.name] = page.read_text(encoding="utf-8").strip()
        if not script.exists():
            continue
        given = runpy.run_path(str(script))
        wanted = re.compile("|".join(regex(pattern) for pattern in given["FILES"]))
        matching, texts = list(filter(wanted.fullmatch, paths)), {}
        contents = read([path for path in matching if path not in made.new])
        for path in matching:
            with contextlib.suppress(KeyError, UnicodeDecodeError):  # no file, or a binary one
                texts[path] = made.new[path] if path in made.new else contents[path].decode()
        try:
            new = {path: text for path, text in given["migrate"](texts, answers).items() if text != texts[path]}
        except Exception as error:  # a failing script must not stop the update
            made.words[f"{folder.name} (its script)"] = f"The script failed on your files: {error!r}"
            continue
        if new:
            made.old |= {path: texts[path] for path in new if path not in made.old}
            made.new |= new
            made.paths[folder.name] = sorted(new)
    return made


def read_files(folder: Path, paths: Iterable[str]) -> dict[str, bytes]:
    """The contents of the files that exist."""
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):
            found[path] = (folder / path).read_bytes()
    return found


def migrate(project: Project, version: str, answers: Mapping[str, Any], preview: bool) -> str:
    """Apply the scripts of all versions up to the project's to the owner's files on disk; returns a report."""
    if git("ls-files", "--unmerged", "--", ".", cwd=project.path):
        raise Refusal("the project has unresolved conflicts: resolve them first (see `git status`)")
    template = rendered(project, version, answers)
    tracked = listed(git("ls-files", "-z", "--", ".", cwd=project.path))
    own = [path for path in tracked if is_owned(path) or path not in template]
    own = [path for path in own if not (project.path / path).is_symlink()]
    made = changes(folders(None, as_version(version)), own, partial(read_files, project.path), answers)
    unsaved = listed(git("diff", "--name-only", "-z", "--relative", cwd=project.path))
    if mixed := sorted(set(unsaved) & set(made.new)):
        raise Refusal(f"{mixed[0]} has unstaged changes: git add it first")
    if not made.new:
        return f"Nothing to change in your files, in any version up to {version}."
    if preview:
        return f"{made.diff()}\nThis is a preview: nothing was written."
    for path, new in made.new.items():
        (project.path / path).write_bytes(new.encode())
    lines = [f"{name}: {', '.join(paths)}" for name, paths in made.paths.items()]
    return "\n".join([*lines, "", "Review with git diff; take a file back with git restore FILE"])
