"""Undo an update: a finished, an interrupted or a failed one.

The snapshot records what the update wrote, by path and id, so later changes of the owner are known and not overwritten.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable

from .git import Entry, Refusal, git, line, listed, read_blob
from .project import Project
from .snapshot import Snapshot, snapshots, undo_copier

QUOTED = '"'  # git unquotes a name that starts with it


def undo(project: Project) -> str:
    """Undo the last update and return a message. Raises Refusal if a later change would be lost."""
    found = [snapshot for snapshot in snapshots(project) if not snapshot.state.get("undone")]
    if not found:
        raise Refusal("no update to undo is recorded here; to undo a commit, use `git revert`")
    snapshot = found[-1]
    if line("rev-parse", "HEAD", cwd=project.path) != snapshot.state["head"]:
        raise Refusal("there are commits since the last update: undo them first, or use `git revert`")
    names = " → ".join(snapshot.state["versions"])
    if snapshot.state["ended"]:
        if strange := differing(project, snapshot.wrote):
            raise Refusal(f"{strange[0]} was changed since the update: copy it elsewhere, then delete it here")
        write_head(project, snapshot.wrote)
        snapshot.delete()
        return f"The update {names} is undone."
    revert_writes(project, snapshot)
    undo_copier(project, snapshot)
    if not snapshot.replaced.exists():
        snapshot.delete()
        return f"The interrupted update {names} is undone."
    shutil.rmtree(snapshot.ignored, ignore_errors=True)
    snapshot.state |= {"ended": True, "undone": True, "wrote": {}}
    snapshot.save()
    kept = f"Files that it left unfinished, or that you changed since, are in {snapshot.replaced}"
    return f"The interrupted update {names} is undone. {kept}"


def differing(project: Project, wrote: dict[str, Entry | None]) -> list[str]:
    """Paths that differ from both the update's version and HEAD, on disk or in the index."""
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
    """The blob ids of files as the repository would store them; for a link, of its target."""
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


def write_head(project: Project, wrote: Iterable[str], saved: Collection[str] = ()) -> None:
    """Restore paths from HEAD on disk and in the index; delete those that HEAD lacks. Other staged paths stay.

    Files at `saved` paths stay on disk.
    """
    if given := "".join(f"{path}\0" for path in wrote):
        chosen = ["--pathspec-from-file=-", "--pathspec-file-nul"]
        git("--literal-pathspecs", "reset", "--quiet", *chosen, cwd=project.path, given=given)
    wrote = [path for path in wrote if path not in saved]
    for path in wrote:
        disk = project.path / path
        if path not in project.head and (disk.is_symlink() or disk.is_file()):
            project.remove(path)
    project.restore([path for path in wrote if path in project.head])


def keep_replaced(project: Project, snapshot: Snapshot, strange: Iterable[str]) -> None:
    """Copy files that an undo would overwrite to the snapshot."""
    for path in strange:
        disk = project.path / path
        if disk.is_file() or disk.is_symlink():
            (snapshot.replaced / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(disk, snapshot.replaced / path, follow_symlinks=False)


def half_written(project: Project, path: str, entry: Entry | None) -> bool:
    """Whether a file contains only the beginning of what the update was writing, with line ends of any kind."""
    disk = project.path / path
    if entry is None or disk.is_symlink() or not disk.is_file():
        return False
    whole, content = (text.replace(b"\r", b"") for text in (read_blob(project.path, entry[1]), disk.read_bytes()))
    return whole.startswith(content)


def revert_writes(project: Project, snapshot: Snapshot, keep: bool = False) -> list[str]:
    """Undo what the update wrote. Files that changed since are copied to `replaced`.

    With `keep`, they stay as they are, unless they are half-written; returns their paths.
    """
    wrote = snapshot.wrote
    strange = differing(project, wrote)
    saved = [path for path in strange if keep and not half_written(project, path, wrote[path])]
    keep_replaced(project, snapshot, set(strange).difference(saved))
    write_head(project, wrote, saved)
    return saved
