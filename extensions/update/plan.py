"""The plan of an update: for each path its owner, its outcome and why. Only git objects are written."""

from dataclasses import dataclass

from .git import Entry, Tree, read_blobs, write_blob
from .merge import Merged, correct_imports, hidden_modules, merge, old_names
from .migrations import Changes, changes, folders
from .project import Project
from .rules import is_owned
from .sides import KEPT, Sides, prepare
from .versions import Versions

WHY = {
    "updated": "the template changed it, and you did not",
    "merged": "both you and the template changed it, in different places",
    "moved": "the template moved it",
    "added": "it is new in the template",
    "removed": "the template removed it, and you had not changed it",
    "in conflict": "you and the template changed it in different ways",
}


@dataclass(frozen=True)
class File:
    """A path and its outcome.

    Attributes:
        path, was: the path after the update, and before it.
        owned: whether the file belongs to the owner: by ownership.yml, or because the template has no such file.
        base, current, template, after: mode and id in each of the trees; None if there is no such file.
        outcome: `updated`, `merged`, `moved`, `added`, `removed`, `kept as yours`, `in conflict`, `left out` or
            `unchanged`.
        why: the reason, in words.
        conflict: git's name of the conflict, or "".
    """

    path: str
    was: str
    owned: bool
    base: Entry | None
    current: Entry | None
    template: Entry | None
    after: Entry | None
    outcome: str
    why: str
    conflict: str = ""


@dataclass
class Plan:
    """All that an update writes and reports.

    Attributes:
        files: by path.
        tree, stages: the tree to write, and the index entries of its conflicts.
        notes: further lines of the report.
        offers: changes to the owner's files that the new versions offer.
        rendered: the old and the new version, as Copier renders them.
    """

    versions: Versions
    files: dict[str, File]
    tree: Tree
    stages: list[tuple[Entry, str, str]]
    notes: list[str]
    offers: Changes
    rendered: tuple[Tree, Tree]

    def of(self, outcome: str) -> list[File]:
        return [file for _, file in sorted(self.files.items()) if file.outcome == outcome]


def compute(project: Project, versions: Versions, answers: bytes, exclude: tuple[str, ...] = ()) -> Plan:
    """Compute the plan of an update, from commits alone; `answers` is the new answers file."""
    sides = prepare(project, versions, exclude)
    merged = merge(project, sides, ("yours", versions.new_ref))
    correct_imports(project, sides, merged)
    old_names(project, versions, sides, merged)
    hidden_modules(sides, merged)
    paths = {*sides.base, *sides.current, *sides.template, *merged.tree, *merged.conflicts, *sides.why}
    files = {path: classify(path, project, sides, merged) for path in paths}
    went = {file.was for file in files.values() if file.outcome == "moved"}
    files = {path: file for path, file in files.items() if file.outcome != "moved away" or path not in went}
    mode = project.head[project.answers_file][0]
    tree = {**merged.tree, project.answers_file: (mode, write_blob(project.path, answers))}
    own = [path for path, file in files.items() if file.owned and path in tree and path not in merged.conflicts]
    own = [path for path in own if tree[path][0].startswith("100")]  # not a link or a submodule
    chosen = folders(versions.old_version, versions.new_version)

    def read(paths: list[str]) -> dict[str, bytes]:
        blobs = read_blobs(project.path, (tree[path][1] for path in paths))
        return {path: blobs[tree[path][1]] for path in paths}

    offers = changes(chosen, own, read, versions.new)
    return Plan(versions, files, tree, merged.stages, sides.notes, offers, sides.rendered)


def classify(path: str, project: Project, sides: Sides, merged: Merged) -> File:
    """The outcome of a path, and why."""
    after, was = merged.tree.get(path), sides.came_from.get(path, path)
    base, current = (tree.get(path) or tree.get(was) for tree in (sides.made, sides.current))
    template = sides.template.get(path)
    went = was != path and was in project.head and after is not None
    if path in merged.conflicts:
        outcome = "in conflict"
    elif went:
        outcome = "moved"
    elif after == current:
        outcome = {KEPT: "kept as yours"}.get(sides.why.get(path, ""), "left out" if path in sides.why else "unchanged")
    elif current is None:
        outcome = "added"
    elif after is None:
        outcome = "moved away" if path in sides.moved_away else "removed"
    else:
        outcome = "updated" if current == base else "merged"
    why = sides.why.get(path) or WHY.get(outcome) or unchanged(base, current, template)
    yours = is_owned(path) or (base is None and template is None)
    return File(path, was, yours, base, current, template, after, outcome, why, merged.kinds.get(path, ""))


def unchanged(base: Entry | None, current: Entry | None, template: Entry | None) -> str:
    """Why a path does not change."""
    if base is None and template is None:
        return "the template has no such file"
    if current == template:
        return "it is the same as in the template"
    return "you changed it, the template did not" if current else "both you and the template removed it"
