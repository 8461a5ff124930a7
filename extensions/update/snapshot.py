"""What an update may change, as it was before, kept until the update has ended well; and the way back.

Each update has a folder below `.git/copier-update`, which is named by its time and versions:

    state.json   the commit that the update began from, and what it wrote, by path
    ignored/     files that git ignores, where Copier may write: copied, with their modes
    replaced/    what a return to the state before has overwritten, where that was neither the update's nor HEAD's

All else that an update may change is in HEAD, since it begins from a project with nothing uncommitted.
"""

import datetime
import filecmp
import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .git import Entry, Refusal, Tree, git, line, listed
from .names import fitting
from .project import Project

QUOTED = '"'  # how a name begins that git takes for a quoted one


def way_back(conflicts: bool, *others: str) -> str:
    """The command that makes the project HEAD again, but for other paths.

    While a path is in conflict that HEAD lacks, git restores nothing: so it comes into the index first.
    """
    where = " ".join([".", *(shlex.quote(f":(exclude,literal){path}") for path in others)])
    resolve = f"git -c core.safecrlf=false add --update {where} && " if conflicts else ""
    return f"{resolve}git restore --source=HEAD --staged --worktree {where}"


@dataclass
class Snapshot:
    """One update's folder.

    Attributes:
        folder: where it is.
        state: `head`, `project` (its prefix), `versions`, `patterns` (paths of the template), `ended`; and `wrote`:
            mode and id by path, null for what was removed.
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
        return fitting(self.state["patterns"])

    def covers(self, path: str) -> bool:
        """Whether Copier may write at a path."""
        return self.patterns.fullmatch(path) is not None

    def holds(self, project: Project) -> bool:
        """Whether something is kept here that the project does not have."""
        kept = [path for path in self.ignored.rglob("*") if path.is_symlink() or not path.is_dir()]
        places = [(path, project.path / path.relative_to(self.ignored)) for path in kept]
        return self.replaced.exists() or not all(alike(path, place) for path, place in places)

    def save(self) -> None:
        new = self.folder / "state.new"
        new.write_text(json.dumps(self.state, indent=1))
        new.replace(self.folder / "state.json")

    def note(self, project: Project, tree: Tree, conflicts: Iterable[str]) -> None:
        """Note what the update is about to write, before it does."""
        before = project.head
        touched = {path for path in {**before, **tree} if before.get(path) != tree.get(path)} | set(conflicts)
        self.state["wrote"] = {path: tree.get(path) for path in sorted(touched)}
        self.save()

    def end(self, project: Project) -> None:
        """Note that the update has ended well, and forget those before it that keep nothing."""
        self.state["ended"] = True
        self.save()
        shutil.rmtree(self.ignored, ignore_errors=True)  # all of it is in its place
        for other in snapshots(project):
            if other.folder != self.folder and not other.holds(project):
                other.forget()

    def forget(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def alike(one: Path, other: Path) -> bool:
    """Whether two files have the same content, or two links lead to the same place."""
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def home(project: Project) -> Path:
    return Path(line("rev-parse", "--absolute-git-dir", cwd=project.path), "copier-update")


def snapshots(project: Project) -> list[Snapshot]:
    """Those of this project, oldest first."""
    found = []
    for path in sorted(home(project).glob("*/state.json")):
        snapshot = Snapshot(path.parent, json.loads(path.read_text()))
        if snapshot.state["project"] == project.prefix:
            found.append(snapshot)
    return found


def take(project: Project, patterns: Iterable[str], versions: tuple[str, str]) -> Snapshot:
    """Keep what an update may change: copies of ignored files in the way, links as links, with their modes."""
    began = datetime.datetime.now().strftime("%Y%m%dT%H%M%S.%f")
    folder = home(project) / re.sub(r"[^\w.+-]", "_", "-".join([began, *versions]))
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
        raise Refusal(f"{error.filename} can't be kept aside: {error.strerror}") from error
    snapshot.save()
    return snapshot


def go_back(project: Project, snapshot: Snapshot) -> None:
    """Undo what Copier did at paths of the template: as in HEAD again, and the ignored files in their places."""
    git("reset", "--quiet", "--", ".", cwd=project.path)
    theirs = [path for path in project.head if snapshot.covers(path) or path == project.answers_file]
    project.restore("HEAD", theirs, "--worktree")
    for path in project.in_the_way(snapshot.state["patterns"]):
        project.remove(path)  # Copier's; what was there before comes back below
    put_back(project, snapshot)


def put_back(project: Project, snapshot: Snapshot) -> None:
    if snapshot.ignored.exists():
        shutil.copytree(snapshot.ignored, project.path, symlinks=True, dirs_exist_ok=True)


# --- undo ---


def undo(project: Project) -> str:
    """Make the project what it was before the last update; what was done, in words. Refusal rather than a loss."""
    found = snapshots(project)
    if not found:
        raise Refusal("no update to undo is on record here; once committed, it's `git revert`")
    snapshot = found[-1]
    if line("rev-parse", "HEAD", cwd=project.path) != snapshot.state["head"]:
        raise Refusal("there are commits since the last update: undo them first, or use `git revert`")
    names = " → ".join(snapshot.state["versions"])
    wrote: dict[str, Entry | None] = {p: e and tuple(e) for p, e in snapshot.state.get("wrote", {}).items()}
    strange = differing(project, wrote)
    if snapshot.state["ended"]:
        if strange:
            raise Refusal(f"{strange[0]} was changed since the update: save a copy elsewhere, and delete it here")
        write_head(project, wrote)
        snapshot.forget()
        return f"The update {names} is undone."
    replaced = keep_replaced(project, snapshot, strange)
    write_head(project, wrote)
    go_back(project, snapshot)
    if not replaced:
        snapshot.forget()
        return f"The interrupted update {names} is undone."
    shutil.rmtree(snapshot.ignored, ignore_errors=True)
    snapshot.state["ended"], snapshot.state["wrote"] = True, {}
    snapshot.save()
    return f"The interrupted update {names} is undone. What it left half done, or you changed since, is in {replaced}"


def differing(project: Project, wrote: dict[str, Entry | None]) -> list[str]:
    """Paths that hold neither what the update wrote nor what HEAD has, on disk or in the index."""
    staged = {}
    for item in listed(git("ls-files", "--stage", "-z", "--", ".", cwd=project.path)):
        about, path = item.split("\t", 1)
        if about.endswith(" 0"):
            staged[path] = about.split()[1]
    on_disk, found = hashes(project, wrote), []
    for path, entry in wrote.items():
        known = {one[1] for one in (entry, project.head.get(path)) if one}
        if {ids[path] for ids in (on_disk, staged) if path in ids} - known:
            found.append(path)
    return found


def hashes(project: Project, paths: Iterable[str]) -> dict[str, str]:
    """Ids of files as the repository would store them: of a file its content, of a link where it leads."""
    links = [path for path in paths if (project.path / path).is_symlink()]
    files = [path for path in paths if path not in links and (project.path / path).is_file()]
    names = [project.prefix + path for path in files]
    given = "".join(f"{json.dumps(name, ensure_ascii=False) if name[0] in QUOTED else name}\n" for name in names)
    ids = git("hash-object", "--stdin-paths", cwd=project.top, given=given).split()
    found = dict(zip(files, ids, strict=True))
    for path in links:
        target = os.fsencode((project.path / path).readlink())
        found[path] = hashlib.sha1(b"blob %d\0%s" % (len(target), target)).hexdigest()
    return found


def write_head(project: Project, wrote: Iterable[str]) -> None:
    """Paths as in HEAD, on disk and in the index; those that HEAD lacks go. What else is staged stays so."""
    if given := "".join(f"{path}\0" for path in wrote):
        chosen = ["--pathspec-from-file=-", "--pathspec-file-nul"]
        git("--literal-pathspecs", "reset", "--quiet", *chosen, cwd=project.path, given=given)
    for path in wrote:
        disk = project.path / path
        if path not in project.head and (disk.is_symlink() or disk.is_file()):
            project.remove(path)
    project.restore("HEAD", [path for path in wrote if path in project.head], "--worktree")


def keep_replaced(project: Project, snapshot: Snapshot, strange: Iterable[str]) -> Path | None:
    """Copy what a way back would overwrite and nothing else has; where to, if there is any."""
    changed = [
        path for path in project.changed() if snapshot.covers(path) and path not in snapshot.state.get("wrote", {})
    ]
    for path in {*strange, *changed}:
        disk = project.path / path
        if disk.is_file() or disk.is_symlink():
            (snapshot.replaced / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(disk, snapshot.replaced / path, follow_symlinks=False)
    return snapshot.replaced if snapshot.replaced.exists() else None
