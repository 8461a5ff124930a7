"""The project, as it is found: its files in git, and what may stand in the way of the template's."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from update.git import AUTHOR, Refusal, attempt, check_git, git

ANSWERS = ".copier-answers.yml"


@dataclass(frozen=True)
class Found:
    """A project with everything committed.

    Attributes:
        folder: where it is.
        top: where its repository is.
        prefix: from there to the project; "" or with a slash at the end.
        head: the commit that is checked out.
        back: the arguments of `git switch` that lead to where the owner is.
        who: an identity for git's own notes, where the owner has given it none.
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


def look(folder: Path, branch: str, clone: Path) -> Found:
    """The project in a folder. Refusal if it can't be adopted as it is."""
    if not folder.is_dir():
        raise Refusal(f"{folder} is not a folder: name the one that holds the project")
    if os.path.lexists(folder / ANSWERS):
        raise Refusal(f"{folder} is made from a template already, {ANSWERS} is there: use `copier update`")
    start = "list data and models in .gitignore, git add --all, git commit"
    status, inside, complaint = attempt("rev-parse", "--is-inside-work-tree", cwd=folder)
    if status:
        why = complaint.partition("\n")[0]  # at the edge of a file system there is one more
        raise Refusal(f"{folder} is in no git repository that can be used ({why}); there: git init, {start}")
    if inside.strip() == "false":
        raise Refusal(f"{folder} is a bare repository, or inside of .git: clone it, and name the clone")
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
        raise Refusal(f"{top} has changes in no commit ({names}): commit them, or git stash --include-untracked")
    if attempt("check-ref-format", f"refs/heads/{branch}", cwd=top)[0] or branch.startswith("-"):
        raise Refusal(f"{branch} can't be the name of a branch: give another with --branch")
    if not attempt("show-ref", "--verify", "--quiet", f"refs/heads/{branch}", cwd=top)[0]:
        raise Refusal(f"there is a branch {branch} already: give another name with --branch, or delete it")
    lines = [line.split("\t", 1) for line in git("ls-files", "-z", "-s", "-v", cwd=top).split("\0")[:-1]]
    tracked = {path: (about.split()[1], about[0]) for about, path in lines}
    if not any(path.startswith(prefix) for path in tracked):
        raise Refusal(f"nothing of {folder} is committed in {top}: commit it there, or git init it on its own")
    who = AUTHOR if attempt("var", "GIT_COMMITTER_IDENT", cwd=top)[0] else {}
    former = attempt("symbolic-ref", "--short", "--quiet", "HEAD", cwd=top)[1].strip()
    head = head.strip()
    return Found(folder, top, prefix, head, [former] if former else ["--detach", head], who, tracked)


def check_way(project: Found, paths: Iterable[str]) -> None:
    """Refusal if a merge of these paths would overwrite what git has no copy of, or needs a folder where none is."""
    found = {}
    for path in paths:
        if path in project.tracked and project.tracked[path][1] != "H":
            found[path] = "git update-index hides changes in it"
        elif path not in project.tracked and os.path.lexists(project.top / path):
            found[path] = "a folder" if (project.top / path).is_dir() else "git ignores it"
        for parent in map(str, list(PurePosixPath(path).parents)[:-1]):
            disk = project.top / parent
            if parent in project.tracked or disk.is_symlink() or (disk.exists() and not disk.is_dir()):
                found[parent] = "no plain folder"
    if found:
        names = ", ".join(f"{path} ({why})" for path, why in sorted(found.items()))
        advice = "move or rename that, or commit what git ignores (git add --force)"
        raise Refusal(f"something in {project.top} is in the way of the template's files: {names}: {advice}")
