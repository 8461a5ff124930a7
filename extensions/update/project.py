"""The project's files: what is committed, the checks that refuse an update, and how files are written."""

import glob
import hashlib
import itertools
import os
import re
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from .git import Refusal, Tree, attempt, check_git, git, line, listed, read_tree
from .rules import answer_effects


@dataclass
class Project:
    """A project in a git repository, or in a folder of one.

    Attributes:
        path: the project's folder.
        answers_file: its path, relative to the project.
        tasks: whether the template's tasks run when a version is rendered.
        top: the top folder of the repository.
        prefix: the path from there to the project: "", or with a slash at the end.
        task_files: paths that the template's tasks wrote during this update, which may be overwritten.
    """

    path: Path
    answers_file: str
    tasks: bool = True
    top: Path = field(init=False)
    prefix: str = field(init=False)
    task_files: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.top = Path(line("rev-parse", "--show-toplevel", cwd=self.path))
        self.prefix = line("rev-parse", "--show-prefix", cwd=self.path)

    @cached_property
    def head(self) -> Tree:
        """The committed files, with paths relative to the project."""
        return read_tree(self.path, f"HEAD:{self.prefix.rstrip('/')}" if self.prefix else "HEAD")

    @cached_property
    def repository_files(self) -> Tree:
        """The committed files of the whole repository, with paths from its top."""
        return read_tree(self.path, "HEAD") if self.prefix else self.head

    def outside_files(self) -> Tree:
        """The committed files outside the project, with paths from the top."""
        return {path: entry for path, entry in self.repository_files.items() if not path.startswith(self.prefix)}

    @cached_property
    def template(self) -> str:
        """The template's address, as Copier recorded it."""
        return str(yaml.safe_load(git("show", f"HEAD:./{self.answers_file}", cwd=self.path)).get("_src_path", ""))

    def answers(self, revision: str = "HEAD") -> dict[str, Any]:
        """The committed answers."""
        return read_answers(git("show", f"{revision}:./{self.answers_file}", cwd=self.path))

    def in_the_way(self, template_paths: Iterable[str]) -> list[str]:
        """Untracked files that Copier may overwrite or delete: at a path of the template, or a reject (`.rej`)."""
        found = {path for pattern in template_paths for path in glob.glob(pattern, root_dir=self.path)}
        found |= {f"{path}.rej" for path in self.head}
        files = [path for path in found if (self.path / path).is_symlink() or (self.path / path).is_file()]
        return sorted(path for path in files if path not in self.head)

    def obstacle(self, path: str) -> str | None:
        """The untracked file that blocks a path: at the path itself, or where it needs a folder. None if it is free."""
        known = {*self.head, *self.task_files}
        for place in (path, *map(str, Path(path).parents)):
            disk = self.path / place
            real_folder = place != path and disk.is_dir() and not disk.is_symlink()
            if place not in known and os.path.lexists(disk) and not real_folder:
                return place
        return None

    def ignores(self, path: str) -> bool:
        """Whether git ignores a path, or it is behind a link."""
        return attempt("check-ignore", "--quiet", "--", path, cwd=self.path).status != 1

    def write(self, head: str, tree: str, *options: str) -> None:
        """Write a tree of the repository to disk and index where it differs from `head`; other paths stay.

        Raises Refusal, with nothing written, if such a file differs from `head` on disk or in the index, or if an
        untracked file exists at a new path.
        """
        git("update-index", "-q", "--refresh", cwd=self.top, ok=(0, 1))
        git("read-tree", "-m", "-u", *options, head, tree, cwd=self.top)

    def restore(self, paths: Iterable[str]) -> None:
        """Restore these paths on disk from HEAD."""
        chosen = ["--pathspec-from-file=-", "--pathspec-file-nul"]
        if given := "".join(f"{path}\0" for path in paths):
            git("--literal-pathspecs", "restore", "--source=HEAD", "--worktree", *chosen, cwd=self.path, given=given)

    def remove(self, path: str, place: Path | None = None) -> None:
        """Delete a file, or move it to `place`, and delete folders that this leaves empty."""
        if place:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(self.path / path, place)
        else:
            (self.path / path).unlink()
        folders = itertools.takewhile(lambda f: f != self.path and not any(f.iterdir()), (self.path / path).parents)
        for folder in folders:
            folder.rmdir()

    def changed(self) -> list[str]:
        """Paths that differ from HEAD on disk, untracked files included, ignored ones not."""
        other = git("diff", "--name-only", "-z", "--relative", "--ignore-submodules", "HEAD", cwd=self.path)
        new = git("ls-files", "-z", "--others", "--exclude-standard", cwd=self.path)
        return sorted(listed(other) + listed(new))


def read_answers(text: str) -> dict[str, Any]:
    """The answers in an answers file, without Copier's own keys."""
    return {key: value for key, value in yaml.safe_load(text).items() if not key.startswith("_")}


# --- checks ---


def check(project: Project, template_paths: set[str], optional: set[str]) -> None:
    """Raise Refusal for what would fail later, before anything changes; questions in `optional` need no answer."""
    check_git(project.path)
    if git("ls-files", "--unmerged", cwd=project.top):
        raise Refusal("the repository has unresolved conflicts: resolve them first (see `git status`)")
    if project.answers_file not in project.head:
        raise Refusal(f"{project.answers_file} is not committed: git add --force {project.answers_file}, then commit")
    answers = project.answers()
    if missing := set(answer_effects()) - optional - set(answers):
        raise Refusal(f"{project.answers_file}: no answer for {', '.join(sorted(missing))}; restore the line")
    check_answers(project)
    untracked = listed(git("ls-files", "-z", "--others", "--exclude-standard", cwd=project.path))
    if untracked:
        raise Refusal(f"{untracked[0]} is not committed: commit it, or add it to .gitignore")
    check_files(project, template_paths)


def check_files(project: Project, template_paths: set[str]) -> None:
    """Raise Refusal for files with which no update can work."""
    if (form := git("rev-parse", "--show-object-format", cwd=project.path).strip()) != "sha1":
        raise Refusal(f"the repository uses {form} object names, which Copier does not support: use one with sha1")
    if strange := [path for path in project.head if re.search("[\udc80-\udcff]", path)]:
        raise Refusal(f"{strange[0]}: the file name is not UTF-8, which Copier needs; rename it with git mv and commit")
    flagged = [item for item in listed(git("ls-files", "-z", "-v", cwd=project.path)) if item[0] in "Shs"]
    if flagged:
        path, flag = flagged[0][2:], "assume-unchanged" if flagged[0][0] == "h" else "skip-worktree"
        raise Refusal(f"{path}: {flag} is set; clear it with git update-index --no-{flag} {shlex.quote(path)}")
    check_places(project, template_paths)


def check_answers(project: Project) -> None:
    """Raise Refusal for answers edited by hand: an update would not see them as changed and never apply them."""
    name = project.answers_file
    text = git("show", f"HEAD:./{name}", cwd=project.path)
    if is_as_written(text):
        return
    for commit in git("log", "--format=%H", "--", name, cwd=project.path).split():
        before = attempt("show", f"{commit}:./{name}", cwd=project.path).stdout
        if is_as_written(before):
            break
    else:
        raise Refusal(f"{name} was edited by hand: restore what Copier wrote and commit")
    was, now = read_answers(before), read_answers(text)
    edited = ", ".join(sorted(key for key in {**was, **now} if was.get(key) != now.get(key))) or "a line"
    raise Refusal(
        f"{name}: {edited} was edited by hand, which changes no other file; "
        f"git checkout {commit[:10]} -- {name}, commit, and pass the answer to the update: -d KEY=VALUE"
    )


def is_as_written(text: str) -> bool:
    """Whether the answers in an answers file match their checksum, if there is one."""
    noted = re.search(r"^# checksum: (\w+)", text, flags=re.MULTILINE)
    answers = re.sub(r"^(#|_).*\n(?:[ \t].*\n)*", "", text.replace("\r\n", "\n"), flags=re.MULTILINE)
    return noted is None or hashlib.sha256(answers.encode()).hexdigest().startswith(noted[1])


def check_places(project: Project, paths: set[str]) -> None:
    """Raise Refusal for a file where the template has a folder, or a folder where it has a file."""
    root = project.path.resolve()
    folders = {str(folder) for path in paths for folder in Path(path).parents} - {"."}
    for path in found(project, folders):
        place = project.path / path
        if not place.resolve().is_relative_to(root) or (place.is_symlink() and path in project.head):
            raise Refusal(
                f"{path} is a link, but a folder in the template, and Copier would write through it: "
                f"make {path} a folder that contains links"
            )
        if not place.is_dir():
            raise Refusal(f"{path} is a file, but a folder in the template: rename it")
    for path in found(project, paths):
        place = project.path / path
        if place.is_dir():
            raise Refusal(f"{path} is a folder, but a file in the template: rename it")
        if place.exists() and not place.stat().st_mode & 0o200:
            raise Refusal(f"{path} is read-only: chmod u+w {shlex.quote(path)}")


def found(project: Project, patterns: Iterable[str]) -> list[str]:
    """The project's paths that match these patterns."""
    return sorted(path for pattern in patterns for path in glob.glob(pattern, root_dir=project.path))
