"""The files that an update may change, saved before it starts, and how to restore them.

Each update has a folder below `.git/copier-update`, named by its time and versions:

    state.json   the commit that the update started from, and what it wrote, by path
    ignored/     copies of ignored files at paths where Copier may write
    replaced/    files that an undo replaced, if they differed from both the update's version and HEAD

Everything else is in HEAD, since an update refuses a project with uncommitted changes.
"""

import datetime
import filecmp
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .git import Entry, Refusal, Tree, attempt, git, line, read_blobs
from .names import any_of
from .project import Project

MARKS = re.compile(rb"[<|=>]{7}( |$)")  # conflict markers


def way_back(conflicts: bool, *others: str) -> str:
    """The command that restores the project from HEAD, except `others`.

    git restore fails on a path in conflict that HEAD lacks, so conflicts are added to the index first.
    """
    where = " ".join([".", *(shlex.quote(f":(exclude,literal){path}") for path in others)])
    resolve = f"git -c core.safecrlf=false add --update {where} && " if conflicts else ""
    return f"{resolve}git restore --source=HEAD --staged --worktree {where}"


@dataclass
class Snapshot:
    """The folder of one update.

    Attributes:
        folder: its path.
        state: `head`, `project` (its prefix), `versions`, `patterns` (paths of the template), `ended`, `undone`,
            and `wrote`: mode and id by path, null for a removed file.
    """

    folder: Path
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def ignored(self) -> Path:
        return self.folder / "ignored"

    @property
    def replaced(self) -> Path:
        return self.folder / "replaced"

    @cached_property
    def patterns(self) -> re.Pattern[str]:
        return any_of(self.state["patterns"])

    def covers(self, path: str) -> bool:
        """Whether Copier may write at a path."""
        return self.patterns.fullmatch(path) is not None

    @property
    def wrote(self) -> dict[str, Entry | None]:
        """What the update wrote, as recorded before it did."""
        return {path: entry and tuple(entry) for path, entry in self.state.get("wrote", {}).items()}

    def holds(self, project: Project) -> bool:
        """Whether it holds a file that the project lacks."""
        places = [(self.ignored / path, project.path / path) for path in files_below(self.ignored)]
        return self.replaced.exists() or not all(same_content(path, place) for path, place in places)

    def save(self) -> None:
        new = self.folder / "state.new"
        new.write_text(json.dumps(self.state, indent=1))
        new.replace(self.folder / "state.json")

    def record_writes(self, project: Project, tree: Tree, conflicts: Iterable[str]) -> None:
        """Record what the update is about to write."""
        before = project.head
        touched = {path for path in {**before, **tree} if before.get(path) != tree.get(path)} | set(conflicts)
        self.state["wrote"] = {path: tree.get(path) for path in sorted(touched)}
        self.save()

    def finish(self, project: Project) -> None:
        """Record success, and delete earlier snapshots that hold nothing the project lacks."""
        self.state["ended"] = True
        self.save()
        shutil.rmtree(self.ignored, ignore_errors=True)  # these files are untouched
        for other in snapshots(project):
            if other.folder != self.folder and not other.holds(project):
                other.delete()

    def delete(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def same_content(one: Path, other: Path) -> bool:
    """Whether two files have the same content, or two links the same target."""
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def snapshots_folder(project: Project) -> Path:
    return Path(line("rev-parse", "--absolute-git-dir", cwd=project.path), "copier-update")


def snapshots(project: Project) -> list[Snapshot]:
    """The snapshots of this project, oldest first."""
    found = []
    for path in sorted(snapshots_folder(project).glob("*/state.json")):
        snapshot = Snapshot(path.parent, json.loads(path.read_text()))
        if snapshot.state["project"] == project.prefix:
            found.append(snapshot)
    return found


def interrupted(project: Project) -> Iterator[str]:
    """Messages about interrupted updates that hold files which the project lacks."""
    for snapshot in snapshots(project):
        if not snapshot.state["ended"] and snapshot.holds(project):
            for folder, what in (
                (snapshot.ignored, "The ignored files that it saved are"),
                (snapshot.replaced, "The files that it replaced are"),
            ):
                if folder.exists():
                    yield f"An earlier update was interrupted. {what} in {folder}"


def take(project: Project, patterns: Iterable[str], versions: tuple[str, str]) -> Snapshot:
    """Take a snapshot: copy ignored files at paths where Copier may write, links as links, with their modes."""
    began = datetime.datetime.now().strftime("%Y%m%dT%H%M%S.%f")
    folder = snapshots_folder(project) / re.sub(r"[^\w.+-]", "_", "-".join([began, *versions]))
    folder.mkdir(parents=True)
    head = line("rev-parse", "HEAD", cwd=project.path)
    state = {"head": head, "project": project.prefix, "versions": versions, "patterns": sorted(patterns)}
    snapshot = Snapshot(folder, {**state, "ended": False})
    try:
        for path in project.in_the_way(patterns):
            (snapshot.ignored / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(project.path / path, snapshot.ignored / path, follow_symlinks=False)
    except OSError as error:
        shutil.rmtree(folder)
        raise Refusal(f"{error.filename} cannot be saved before the update: {error.strerror}; move it") from error
    snapshot.save()
    return snapshot


def undo_copier(project: Project, snapshot: Snapshot) -> None:
    """Undo Copier's writes at paths of the template: restore HEAD and the ignored files."""
    git("reset", "--quiet", "--", ".", cwd=project.path)
    changed = [path for path in project.changed() if path in project.head]
    theirs = [path for path in changed if snapshot.covers(path) or path == project.answers_file]
    set_aside(project, snapshot, {*theirs, *project.in_the_way(snapshot.state["patterns"])})
    for path in files_below(snapshot.ignored):
        if not os.path.lexists(project.path / path):
            copy_atomically(snapshot.ignored / path, project.path / path, snapshot)


def set_aside(project: Project, snapshot: Snapshot, paths: set[str]) -> None:
    """Restore these paths from HEAD. The files there move to `replaced`, since the owner may have saved them."""
    for path in paths:
        kept, place = snapshot.ignored / path, project.path / path
        if os.path.lexists(place) and not (os.path.lexists(kept) and same_content(kept, place)):
            project.remove(path, snapshot.replaced / path)
    tracked = sorted(paths.intersection(project.head))
    given = "".join(f"{path}\0" for path in tracked)
    done = attempt("checkout-index", "--index", "-z", "--stdin", cwd=project.path, given=given)
    if not all(os.path.lexists(project.path / path) for path in tracked):
        raise Refusal(f"git checkout-index: {done.stderr}")


def restore_saved(project: Project, snapshot: Snapshot, renders: Iterable[Tree]) -> None:
    """Move files that the owner saved while Copier ran back from `replaced`; delete the rest.

    A file that Copier wrote has only lines of HEAD, of the two versions, and conflict markers.
    """
    changed, paths = project.changed(), files_below(snapshot.replaced)
    entries = {path: [tree[path] for tree in (project.head, *renders) if path in tree] for path in paths}
    blobs = read_blobs(project.path, (oid for path in paths for _, oid in entries[path]))
    for path in paths:
        place, of_copier = snapshot.replaced / path, path == project.answers_file or path.endswith(".rej")
        if of_copier or is_known(project, path, place, entries[path], blobs):
            place.unlink()
        elif path not in changed:  # else a later save is there: keep this one in `replaced`
            copy_atomically(place, project.path / path, snapshot)
            place.unlink()
    if not files_below(snapshot.replaced):
        shutil.rmtree(snapshot.replaced, ignore_errors=True)


def is_known(project: Project, path: str, place: Path, entries: list[Entry], blobs: Mapping[str, bytes]) -> bool:
    """Whether each line of a file is in one of these entries' blobs, or the file equals one as stored."""
    if place.is_symlink():
        return any(mode == "120000" and blobs[oid] == os.fsencode(place.readlink()) for mode, oid in entries)
    known = {line for _, oid in entries for line in blobs[oid].splitlines()}
    strange = [line for line in place.read_bytes().splitlines() if line not in known and not MARKS.match(line)]
    if not strange:
        return True
    stored = git("hash-object", f"--path={project.prefix}{path}", place, cwd=project.top)
    return stored.strip() in {oid for _, oid in entries}


def files_below(folder: Path) -> list[str]:
    """All files and links below a folder, relative to it."""
    found = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def copy_atomically(path: Path, place: Path, snapshot: Snapshot) -> None:
    """Copy a file or link atomically."""
    new = snapshot.folder / "new"
    shutil.copy2(path, new, follow_symlinks=False)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(new, place)
