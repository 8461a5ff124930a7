"""Trees of git, and the project on disk: what `update.py` does without knowing anything of templates."""

import glob
import itertools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from packaging.version import Version

TEMPLATE = Path(__file__).resolve().parents[1]
SETTINGS = (f"core.hooksPath={os.devnull}", "core.fsmonitor=false", "core.safecrlf=false", "submodule.recurse=false")
GIT = ["git", *(word for setting in SETTINGS for word in ("-c", setting))]
RENAMES = ["-c", "merge.renames=true", "-c", "merge.directoryRenames=true", "-c", "diff.renameLimit=0"]
AUTHOR = {f"GIT_{who}_NAME": "copier-torch" for who in ("AUTHOR", "COMMITTER")}
AUTHOR |= {f"GIT_{who}_EMAIL": "copier-torch@localhost" for who in ("AUTHOR", "COMMITTER")}

Entry: TypeAlias = tuple[str, str]  # mode, object id
Tree: TypeAlias = dict[str, Entry]  # by path, relative to the project


class Refusal(Exception):
    """What keeps an update from being made, and what to do about it."""


# --- git ---


def git(
    *arguments: str | Path, cwd: Path, given: str = "", ok: Iterable[int] = (0,), env: Mapping[str, str] | None = None
) -> str:
    """What a git command prints; paths that are no UTF-8 survive. Refusal if it fails."""
    done = subprocess.run(
        [*GIT, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        input=os.fsencode(given),
        capture_output=True,
        check=False,
    )
    if done.returncode not in ok:
        raise Refusal(f"git {arguments[0]}: {os.fsdecode(done.stderr).strip()}")
    return os.fsdecode(done.stdout)


def listed(text: str) -> list[str]:
    """The items of a list that ends each with NUL."""
    return text.split("\0")[:-1]


def read_tree(cwd: Path, tree: str) -> Tree:
    """All files of a tree."""
    entries = (line.split("\t", 1) for line in listed(git("ls-tree", "-r", "-z", "--full-tree", tree, cwd=cwd)))
    return {path: (what.split()[0], what.split()[2]) for what, path in entries}


def write_tree(cwd: Path, tree: Tree) -> str:
    """The id of a tree of these files."""
    with tempfile.TemporaryDirectory() as folder:
        index = str(Path(folder, "index"))
        entries = "".join(f"{mode} {oid}\t{path}\0" for path, (mode, oid) in tree.items())
        git("update-index", "-z", "--index-info", cwd=cwd, given=entries, env={"GIT_INDEX_FILE": index})
        return git("write-tree", cwd=cwd, env={"GIT_INDEX_FILE": index}).strip()


def read_blob(cwd: Path, oid: str) -> bytes:
    return subprocess.run([*GIT, "cat-file", "blob", oid], cwd=cwd, capture_output=True, check=True).stdout


def write_blob(cwd: Path, content: bytes) -> str:
    command = [*GIT, "hash-object", "-w", "--stdin"]
    return subprocess.run(command, cwd=cwd, input=content, capture_output=True, check=True).stdout.decode().strip()


def renames(cwd: Path, old: Tree, new: Tree) -> dict[str, str]:
    """Where files went, as far as git can tell."""
    trees = [write_tree(cwd, old), write_tree(cwd, new)]
    found = listed(git(*RENAMES, "diff-tree", "-r", "-z", "-M", "--name-status", "--diff-filter=R", *trees, cwd=cwd))
    return dict(zip(found[1::3], found[2::3], strict=True))


def check_git(cwd: Path) -> None:
    """Refusal if git is too old to merge trees, or in the middle of something."""
    found = re.search(r"\d+\.\d+", git("version", cwd=cwd))
    if not found or Version(found[0]) < Version("2.38"):
        raise Refusal(f"git {found and found[0]} can't merge trees: install git 2.38 or newer")
    folder = Path(git("rev-parse", "--absolute-git-dir", cwd=cwd).rstrip("\n"))
    for state in ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply"):
        if (folder / state).exists():
            raise Refusal(f"a merge or rebase is under way in {cwd}: finish or abort it first, as `git status` says")


# --- the project's files on disk ---


@dataclass
class Project:
    """A project in a git repository, maybe in a folder of it.

    Attributes:
        path: the project's folder.
        answers_file: relative to it.
        top: the repository's folder.
        prefix: from there to the project; "" or with a slash at the end.
        kept: a folder below .git, with ignored files as they were before an update that did not come to its end.
    """

    path: Path
    answers_file: str
    top: Path = field(init=False)
    prefix: str = field(init=False)
    kept: Path = field(init=False)

    def __post_init__(self) -> None:
        self.top = Path(git("rev-parse", "--show-toplevel", cwd=self.path).rstrip("\n"))
        self.prefix = git("rev-parse", "--show-prefix", cwd=self.path).rstrip("\n")
        self.kept = Path(git("rev-parse", "--absolute-git-dir", cwd=self.path).rstrip("\n"), "copier-torch-kept")

    @cached_property
    def head(self) -> Tree:
        """What is committed, with paths relative to the project."""
        return read_tree(self.path, f"HEAD:{self.prefix.rstrip('/')}" if self.prefix else "HEAD")

    def in_the_way(self, template_paths: Iterable[str]) -> list[str]:
        """Files on disk, in no commit, where Copier may write or delete: at a path of the template, or a reject."""
        found = {path for pattern in template_paths for path in glob.glob(pattern, root_dir=self.path)}
        found |= {f"{path}.rej" for path in self.head}
        files = [path for path in found if (self.path / path).is_symlink() or (self.path / path).is_file()]
        return sorted(path for path in files if path not in self.head)

    def occupied(self, path: str) -> str | None:
        """What stands on disk in the place of a path, though in no commit: itself, or no folder where one should be."""
        tracked = self.head
        for place in (path, *map(str, Path(path).parents)):
            disk = self.path / place
            real_folder = place != path and disk.is_dir() and not disk.is_symlink()
            if place not in tracked and os.path.lexists(disk) and not real_folder:
                return place
        return None

    def lay(self, tree: str, paths: Iterable[str], *options: str) -> None:
        """Make these paths, on disk and in the index, what they are in a tree of the repository; others stay."""
        chosen = ["--pathspec-from-file=-", "--pathspec-file-nul", *(options or ["--staged", "--worktree"])]
        if given := "".join(f"{path}\0" for path in paths):
            git("--literal-pathspecs", "restore", f"--source={tree}", *chosen, cwd=self.path, given=given)

    def keep(self, paths: list[str]) -> Path | None:
        """Copy files aside, links as links, with their modes: Copier writes over them, and git has none of them.

        Returns where those are that an interrupted update has left: the owner may need them.
        """
        places = (self.kept.with_name(f"{self.kept.name}-{number}") for number in itertools.count(1))
        earlier = self.kept.rename(next(p for p in places if not p.exists())) if self.kept.exists() else None
        for path in paths:
            (self.kept / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.path / path, self.kept / path, follow_symlinks=False)
        return earlier

    def go_back(self, template_paths: Iterable[str]) -> None:
        """Undo what Copier did at paths of the template: as in HEAD again, and as the files that `keep` copied."""
        git("reset", "--quiet", "--", ".", cwd=self.path)
        known = re.compile("|".join(re.escape(pattern).replace(r"\*", "[^/]*") for pattern in template_paths))
        theirs = [path for path in self.head if known.fullmatch(path) or path == self.answers_file]
        self.lay("HEAD", theirs, "--worktree")
        for path in self.in_the_way(template_paths):
            (self.path / path).unlink()  # Copier's; what was there before comes back below
            folders = itertools.takewhile(lambda f: f != self.path and not any(f.iterdir()), (self.path / path).parents)
            for folder in folders:
                folder.rmdir()
        if self.kept.exists():
            shutil.copytree(self.kept, self.path, symlinks=True, dirs_exist_ok=True)

    def forget(self) -> None:
        """Remove what `keep` copied, once all is in its place."""
        shutil.rmtree(self.kept, ignore_errors=True)

    def changed(self) -> list[str]:
        """What is on disk, and is neither in HEAD nor ignored."""
        other = git("diff", "--name-only", "-z", "--relative", "--ignore-submodules", "HEAD", cwd=self.path)
        new = git("ls-files", "-z", "--others", "--exclude-standard", cwd=self.path)
        return sorted(listed(other) + listed(new))


def template_paths(ref: str) -> set[str]:
    """Patterns of all paths that a version of the template can give to a project, whatever the answers."""
    patterns = set()
    root = "template/project/"
    for source in listed(git("ls-tree", "-r", "-z", "--name-only", "--full-tree", ref, root, cwd=TEMPLATE)):
        name = source.removeprefix(root).removesuffix(".jinja").replace("{{ _copier_conf.sep }}", "/")
        parts = re.split(r"{% if .*?%}(.*?){% endif %}", re.sub(r"{{.*?}}", "*", name))
        for chosen in itertools.product((True, False), repeat=len(parts) // 2):
            path = "".join(part for i, part in enumerate(parts) if i % 2 == 0 or chosen[i // 2])
            if all(path.split("/")):  # a folder without a name is not made
                patterns.add(path.replace("./", "", 1) if path.startswith("./") else path)
    return patterns - {"*"}  # the answers file
