"""The project before its adoption: its files in git, and what blocks the template's files."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from update.git import AUTHOR, Refusal, attempt, check_git, git

ANSWERS = ".copier-answers.yml"


@dataclass(frozen=True)
class Candidate:
    """A project in which everything is committed.

    Attributes:
        folder: the project's folder.
        top: the top folder of its repository.
        prefix: the path from there to the project: "", or with a slash at the end.
        head: the checked-out commit.
        back: the arguments of `git switch` that return to the owner's branch or commit.
        who: a committer identity, if the owner has configured none.
        tracked: mode, and the letter of `git ls-files -v`, by path from the top.
    """

    folder: Path
    top: Path
    prefix: str
    head: str
    back: list[str]
    who: dict[str, str]
    tracked: dict[str, tuple[str, str]]

    @cached_property
    def files(self) -> list[str]:
        return [path.removeprefix(self.prefix) for path in self.tracked if path.startswith(self.prefix)]

    def read(self, name: str) -> str:
        """The text of a file; "" if there is none."""
        path = self.folder / name
        return path.read_text(encoding="utf-8-sig", errors="replace") if name in self.files and path.is_file() else ""


def inspect_project(folder: Path, branch: str, clone: Path) -> Candidate:
    """Inspect the project in a folder. Raises Refusal if it cannot be adopted."""
    if not folder.is_dir():
        raise Refusal(f"{folder} is not a folder: name the one that holds the project")
    if os.path.lexists(folder / ANSWERS):
        raise Refusal(f"{folder} is already made from a template ({ANSWERS} exists): use `copier update`")
    start = "list data and models in .gitignore, git add --all, git commit"
    status, inside, complaint = attempt("rev-parse", "--is-inside-work-tree", cwd=folder)
    if status:
        why = complaint.partition("\n")[0]  # at the boundary of a file system, git adds a line
        raise Refusal(f"{folder} is not in a usable git repository ({why}); there: git init, {start}")
    if inside.strip() == "false":
        raise Refusal(f"{folder} is a bare repository or inside of .git: clone it and name the clone")
    top = Path(git("rev-parse", "--show-toplevel", cwd=folder).removesuffix("\n"))
    prefix = git("rev-parse", "--show-prefix", cwd=folder).removesuffix("\n")
    if top.resolve() == clone:
        raise Refusal(f"{folder} is the template itself: name a project")
    status, head, _ = attempt("rev-parse", "--verify", "--quiet", "HEAD^{commit}", cwd=top)
    if status:
        raise Refusal(f"{top} has no commit yet; there: {start}")
    check_git(top)
    changes = git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal", cwd=top).split("\0")[:-1]
    if changes:
        names = ", ".join([change[3:] for change in changes[:3]] + ["…"] * (len(changes) > 3))
        raise Refusal(f"{top} has uncommitted changes ({names}): commit them, or git stash --include-untracked")
    if attempt("check-ref-format", f"refs/heads/{branch}", cwd=top)[0] or branch.startswith("-"):
        raise Refusal(f"--branch {branch}: not a valid branch name; give another")
    if not attempt("show-ref", "--verify", "--quiet", f"refs/heads/{branch}", cwd=top)[0]:
        raise Refusal(f"the branch {branch} already exists: give another name with --branch, or delete it")
    lines = [line.split("\t", 1) for line in git("ls-files", "-z", "-s", "-v", cwd=top).split("\0")[:-1]]
    tracked = {path: (about.split()[1], about[0]) for about, path in lines}
    if not any(path.startswith(prefix) for path in tracked):
        raise Refusal(f"nothing of {folder} is committed in {top}: commit it there, or run git init in it")
    who = AUTHOR if attempt("var", "GIT_COMMITTER_IDENT", cwd=top)[0] else {}
    former = attempt("symbolic-ref", "--short", "--quiet", "HEAD", cwd=top)[1].strip()
    head = head.strip()
    return Candidate(folder, top, prefix, head, [former] if former else ["--detach", head], who, tracked)


def check_paths(project: Candidate, paths: Iterable[str]) -> None:
    """Raise Refusal if a merge of these paths would overwrite files that git has no copy of, or cannot add a folder."""
    found = {}
    for path in paths:
        if path in project.tracked and project.tracked[path][1] != "H":
            found[path] = "skip-worktree or assume-unchanged is set"
        elif path not in project.tracked and os.path.lexists(project.top / path):
            found[path] = "a folder" if (project.top / path).is_dir() else "git ignores it"
        for parent in map(str, list(PurePosixPath(path).parents)[:-1]):
            disk = project.top / parent
            if parent in project.tracked or disk.is_symlink() or (disk.exists() and not disk.is_dir()):
                found[parent] = "not a plain folder"
    if found:
        names = ", ".join(f"{path} ({why})" for path, why in sorted(found.items()))
        advice = "move or rename them, or commit the ignored ones (git add --force)"
        raise Refusal(f"{project.top} has files that block the template's: {names}; {advice}")
