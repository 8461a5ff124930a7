"""Git commands, trees, and the output of `git merge-tree`."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

SETTINGS = (f"core.hooksPath={os.devnull}", "core.fsmonitor=false", "core.safecrlf=false", "submodule.recurse=false")
GIT = ["git", *(word for setting in SETTINGS for word in ("-c", setting))]
RENAMES = ["-c", "merge.renames=true", "-c", "merge.directoryRenames=true", "-c", "diff.renameLimit=0"]
AUTHOR = {f"GIT_{who}_NAME": "template" for who in ("AUTHOR", "COMMITTER")}
AUTHOR |= {f"GIT_{who}_EMAIL": "template@localhost" for who in ("AUTHOR", "COMMITTER")}

Entry: TypeAlias = tuple[str, str]  # mode, object id
Tree: TypeAlias = dict[str, Entry]  # by path, relative to the project


class Refusal(Exception):
    """Why a command was refused, and what to do; shown without a traceback."""


# --- commands ---


class Result(NamedTuple):
    """The result of a command: exit status, standard output, standard error."""

    status: int
    stdout: str
    stderr: str


def quiet() -> dict[str, str]:
    """The environment for git: no prompts, and always the repository of the folder, even inside a hook."""
    env = os.environ | {"GIT_TERMINAL_PROMPT": "0", "GCM_INTERACTIVE": "never", "SSH_ASKPASS_REQUIRE": "never"}
    return {key: value for key, value in env.items() if key not in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE")}


def attempt(
    *arguments: str | Path, cwd: Path, given: str = "", env: Mapping[str, str] | None = None, session: bool = False
) -> Result:
    """Run a git command, whatever its exit status. Paths may be non-UTF-8. In a session, Ctrl-C does not reach it."""
    command, whole = [*GIT, *map(str, arguments)], {**quiet(), **(env or {})}
    options: dict[str, Any] = {"cwd": cwd, "env": whole, "input": os.fsencode(given), "start_new_session": session}
    try:
        done = subprocess.run(command, capture_output=True, check=False, **options)
    except FileNotFoundError:
        raise Refusal("git not found: install git 2.38 or newer") from None
    return Result(done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr).strip())


def git(
    *arguments: str | Path,
    cwd: Path,
    given: str = "",
    ok: Iterable[int] = (0,),
    env: Mapping[str, str] | None = None,
    session: bool = False,
) -> str:
    """The output of a git command. Raises Refusal with its message if it fails."""
    done = attempt(*arguments, cwd=cwd, given=given, env=env, session=session)
    if done.status not in ok:
        raise Refusal(f"git {arguments[0]}: {done.stderr or done.stdout.strip()}")
    return done.stdout


def line(*arguments: str | Path, cwd: Path) -> str:
    """The one line that a git command prints, unstripped: a path may end with a space."""
    return git(*arguments, cwd=cwd).removesuffix("\n")


def listed(text: str) -> list[str]:
    """The items of a NUL-terminated list."""
    return text.split("\0")[:-1]


def check_git(cwd: Path) -> None:
    """Raise Refusal if git is too old for merge-tree, or a merge or rebase is in progress."""
    found = re.search(r"\d+\.\d+", git("version", cwd=cwd))
    if not found or [int(part) for part in found[0].split(".")] < [2, 38]:
        raise Refusal(f"git {found and found[0]} is too old: install git 2.38 or newer")
    folder = Path(line("rev-parse", "--absolute-git-dir", cwd=cwd))
    for state in ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply"):
        if (folder / state).exists():
            raise Refusal(f"{cwd}: a merge or rebase is in progress; finish or abort it first (see `git status`)")


# --- trees ---


def read_tree(cwd: Path, tree: str) -> Tree:
    """All files of a tree."""
    entries = (item.split("\t", 1) for item in listed(git("ls-tree", "-r", "-z", "--full-tree", tree, cwd=cwd)))
    return {path: (what.split()[0], what.split()[2]) for what, path in entries}


def write_tree(cwd: Path, tree: Tree) -> str:
    """Write a tree of these files and return its id."""
    with tempfile.TemporaryDirectory() as folder:
        index = str(Path(folder, "index"))
        entries = "".join(f"{mode} {oid}\t{path}\0" for path, (mode, oid) in tree.items())
        git("update-index", "-z", "--index-info", cwd=cwd, given=entries, env={"GIT_INDEX_FILE": index})
        return git("write-tree", cwd=cwd, env={"GIT_INDEX_FILE": index}).strip()


def commit_tree(cwd: Path, tree: Tree, *parents: str) -> str:
    """Commit these files on no branch and return the id."""
    after = [word for parent in parents for word in ("-p", parent)]
    return git("commit-tree", "-m", "-", *after, write_tree(cwd, tree), cwd=cwd, env=AUTHOR).strip()


def read_blob(cwd: Path, oid: str) -> bytes:
    return subprocess.run([*GIT, "cat-file", "blob", oid], cwd=cwd, capture_output=True, check=True).stdout


def read_blobs(cwd: Path, oids: Iterable[str]) -> dict[str, bytes]:
    """The contents of many blobs, by one process."""
    wanted = list(dict.fromkeys(oids))
    given = "".join(f"{oid}\n" for oid in wanted).encode()
    output = subprocess.run([*GIT, "cat-file", "--batch"], cwd=cwd, input=given, capture_output=True, check=True).stdout
    found, at = dict[str, bytes](), 0
    for oid in wanted:  # each: a line of id, type and size; the content; a newline
        begin = output.index(b"\n", at) + 1
        at = begin + int(output[at:begin].split()[2])
        found[oid] = output[begin:at]
        at += 1
    return found


def write_blob(cwd: Path, content: bytes) -> str:
    command = [*GIT, "hash-object", "-w", "--stdin"]
    return subprocess.run(command, cwd=cwd, input=content, capture_output=True, check=True).stdout.decode().strip()


def renames(cwd: Path, old: Tree, new: Tree) -> dict[str, str]:
    """The renames that git detects, old path to new."""
    gone = {path: entry for path, entry in old.items() if path not in new}
    come = {path: entry for path, entry in new.items() if path not in old}
    if not (gone and come):
        return {}
    trees = [write_tree(cwd, gone), write_tree(cwd, come)]
    found = listed(git(*RENAMES, "diff-tree", "-r", "-z", "-M", "--name-status", "--diff-filter=R", *trees, cwd=cwd))
    return dict(zip(found[1::3], found[2::3], strict=True))


# --- merges ---


@dataclass
class MergeTree:
    """What `git merge-tree --write-tree -z` prints.

    Attributes:
        tree: the id of the merged tree; files in conflict hold both versions.
        stages: index entries (mode and id, stage, path) of the conflicts.
        kinds: git's name of the conflict, by path: `contents`, `modify/delete`, `rename/rename`.
    """

    tree: str
    stages: list[tuple[Entry, str, str]]
    kinds: dict[str, str]


def parse_merge_tree(text: str) -> MergeTree:
    """Parse the three parts: a tree; index entries up to an empty one; messages, each with its paths and a kind."""
    tree, *rest = text.split("\0")
    end = rest.index("") if "" in rest else len(rest)
    stages = []
    for about, path in (entry.split("\t", 1) for entry in rest[:end]):
        mode, oid, stage = about.split()
        stages.append(((mode, oid), stage, path))
    kinds, messages = dict[str, str](), rest[end + 1 : -1]
    while messages:
        count = int(messages[0])
        paths, kind, messages = messages[1 : count + 1], messages[count + 1], messages[count + 3 :]
        if kind.startswith("CONFLICT"):
            kinds |= dict.fromkeys(paths, kind.removeprefix("CONFLICT (").removesuffix(")"))
    return MergeTree(tree, stages, kinds)


def merge_tree(cwd: Path, ours: str, theirs: str) -> MergeTree:
    """Merge two commits; neither index nor work tree changes."""
    return parse_merge_tree(git(*RENAMES, "merge-tree", "--write-tree", "-z", ours, theirs, cwd=cwd, ok=(0, 1)))
