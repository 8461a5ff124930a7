"""The merge on a new branch, its report, and how to undo it."""

import contextlib
import os
import shlex
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from update.git import Refusal, attempt, git

from .project import Candidate


def merge(project: Candidate, branch: str, commit: str, label: str, paths: Iterable[str]) -> tuple[list[str], str]:
    """Merge a commit into a new branch. Returns the conflicts, or why git cannot commit. A failure undoes it."""
    top, who = project.top, project.who
    options = ["--no-commit", "--no-ff", "--strategy=ort", "--no-verify-signatures", "--no-rerere-autoupdate"]
    options += ["--allow-unrelated-histories", "-m", f"Adopt {label}"]
    git("branch", "--no-track", branch, cwd=top, env=who)
    try:
        git("update-ref", f"refs/{label}", commit, cwd=top, env=who)  # the label of conflict markers
        git("switch", "--quiet", branch, cwd=top, env=who)
        with tempfile.TemporaryDirectory() as folder:  # .gitignore gets the lines of both
            attributes = Path(folder, "attributes")
            attributes.write_text(".gitignore merge=union\n")
            both = ["-c", f"core.attributesFile={attributes}"]
            status, printed, complaint = attempt(*both, "merge", *options, label, cwd=top, env=who)
        unmerged = git("ls-files", "--unmerged", "-z", cwd=top).split("\0")[:-1]
        if status != (1 if unmerged else 0):
            raise Refusal(f"git merge: {complaint or printed.strip()}")
        status, _, complaint = (0, "", "") if unmerged else attempt("commit", "--quiet", "--no-edit", cwd=top)
    except BaseException as error:
        try:
            undo(project, branch, paths)
        except Refusal as stuck:
            raise Refusal(f"{error}. Undoing the merge failed too ({stuck}): see git status in {top}") from error
        raise
    finally:
        attempt("update-ref", "-d", f"refs/{label}", cwd=top)
    return sorted({entry.split("\t", 1)[1] for entry in unmerged}), (complaint or "git commit failed") if status else ""


def undo(project: Candidate, branch: str, paths: Iterable[str]) -> None:
    """Undo a merge, even a broken one: `check_paths` made sure that these paths hold only the template's files."""
    top, who = project.top, project.who
    attempt("merge", "--abort", cwd=top, env=who)
    for path in paths:
        if path in project.tracked:
            git("--literal-pathspecs", "checkout", "--quiet", project.head, "--", path, cwd=top)
        else:
            (top / path).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                os.removedirs((top / path).parent)
    git("switch", "--quiet", *project.back, cwd=top, env=who)
    git("branch", "--delete", "--force", "--quiet", branch, cwd=top)
    print("The merge was undone and the new branch deleted.", file=sys.stderr)


def report(
    project: Candidate, branch: str, version: str, conflicts: list[str], complaint: str, kept: list[str]
) -> None:
    """Print what was done, what is left to do, and how to undo it."""
    options = ["--name-only", "--no-renames", "--diff-filter=M", "-z"]
    changed = set(git("diff", *options, project.head, cwd=project.top).split("\0")[:-1]) - set(conflicts)
    where = shlex.quote(str(project.folder))
    print(f"In {where}, copier-torch {version} was merged into the new branch {branch}", end="")
    if conflicts:
        print(". These files differ and are in conflict:\n")
        print(*(f"    {path.removeprefix(project.prefix)}" for path in conflicts), sep="\n")
        print("\nEach now holds both versions: yours above =======, the template's below. A file without markers, such")
        print("as a binary one, is yours. Edit them, or take one side as a whole:\n")
        print("    git checkout --ours FILE       yours\n    git checkout --theirs FILE     the template's")
        print("\nThen run git add for each file, and git commit.")
    elif complaint:
        print(f", but not committed:\n\n{complaint}\n\nEverything is staged. Fix this, then run: git commit --no-edit")
    else:
        print(".")
    if kept:
        names = ", ".join(path.removeprefix(project.prefix) for path in kept)
        print(f"\nKept as yours: {names}. See docs/ for how to install and run.")
    if changed:
        names = ", ".join(path.removeprefix(project.prefix) for path in sorted(changed))
        print(f"\nChanged without a conflict: {names}")
        print("(.gitignore has the lines of both; others were empty or merged as your .gitattributes says.)")
    print("\nTo undo:\n")
    print("    git merge --abort\n" * bool(conflicts or complaint) + f"    git switch {shlex.join(project.back)}")
    print(f"    git branch --delete --force {shlex.quote(branch)}")


def print_ignored(project: Candidate, paths: Iterable[str]) -> None:
    """Print which lines also ignore files of the template: new files next to them would not be committed."""
    ordered = sorted(paths, key=lambda path: "/src/" not in f"/{path}")  # a file of code is the better example
    given = "".join(f"{path}\0" for path in ordered)
    words = ["check-ignore", "--no-index", "--verbose", "-z", "--stdin"]
    found = attempt(*words, cwd=project.top, given=given).stdout.split("\0")[:-1]
    lines: dict[str, str] = {}
    for file, number, pattern, path in zip(*(found[start::4] for start in range(4)), strict=True):
        if not pattern.startswith("!"):
            lines.setdefault(f"{file}, line {number}: {pattern}", path)
    for line, path in lines.items():
        print(f"\n{line} also ignores {path} and new files next to it.")
        print("If it is meant for the top folder only, start it with a slash.")
