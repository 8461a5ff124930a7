"""The merge of the three trees, then labels of conflicts and imports of moved modules."""

import ast
import re
from dataclasses import dataclass

from .git import Entry, Tree, commit_tree, git, listed, merge_tree, read_blob, read_tree, write_blob, write_tree
from .project import Project
from .rules import answer_effects, is_owned
from .sides import Sides
from .versions import Versions


@dataclass
class Merged:
    """The outcome of the merge.

    Attributes:
        tree: the files; those in conflict hold both versions.
        stages: index entries (mode and id, stage, path) of the conflicts.
        kinds: git's name of the conflict, by path.
    """

    tree: Tree
    stages: list[tuple[Entry, str, str]]
    kinds: dict[str, str]

    @property
    def conflicts(self) -> list[str]:
        return sorted({path for _, _, path in self.stages})


def merge(project: Project, sides: Sides, names: tuple[str, str]) -> Merged:
    """Merge the sides; `names` are the labels of the conflict markers."""
    base = commit_tree(project.path, sides.base)
    ours, theirs = (commit_tree(project.path, side, base) for side in (sides.current, sides.template))
    made = merge_tree(project.top, ours, theirs)  # in a subfolder, git prints paths relative to it
    labels = dict(zip((ours, theirs, base), (*names, "base"), strict=True))

    def named(path: str) -> str:
        """Replace the commit id that git appends (`~id`) where a file and a link have one name."""
        stem, _, commit_id = path.rpartition("~")
        return f"{stem}~{labels[commit_id]}" if commit_id in labels else path

    stages = [(entry, stage, named(path)) for entry, stage, path in made.stages]
    kinds = {named(path): kind for path, kind in made.kinds.items()}
    tree = {named(path): entry for path, entry in read_tree(project.path, made.tree).items()}
    for path in {path for _, _, path in stages} & set(tree):
        text = read_blob(project.path, tree[path][1])
        for commit_id, name in labels.items():
            text = re.sub(rb"(?m)^([<>|]{7}) " + commit_id.encode() + rb"\b", rb"\1 " + name.encode(), text)
        tree[path] = (tree[path][0], write_blob(project.path, text))
    return Merged(tree, stages, kinds)


# --- modules that have moved ---


def correct_imports(project: Project, sides: Sides, merged: Merged) -> None:
    """Adjust the dots of relative imports in modules that moved to another folder level."""
    conflicts = set(merged.conflicts)
    for path, was in sides.came_from.items():
        by = path.count("/") - was.count("/")
        if by == 0 or not path.endswith(".py") or path not in merged.tree or path in conflicts or not is_owned(path):
            continue
        mode, oid = merged.tree[path]
        text = read_blob(project.path, oid)
        try:
            module = ast.parse(text)
        except (SyntaxError, ValueError):  # not valid Python, or an unknown encoding
            continue
        lines = re.split(rb"(?<=\n)|(?<=\r)(?!\n)", text)  # the same lines that Python counts
        for node in ast.walk(module):
            if isinstance(node, ast.ImportFrom) and node.level and node.level + by > 0:
                dots = b"from " + b"." * (node.level + by)
                lines[node.lineno - 1] = re.sub(rb"\bfrom\s+\.+", dots, lines[node.lineno - 1], count=1)
        if b"".join(lines) != text:
            merged.tree[path] = (mode, write_blob(project.path, b"".join(lines)))
            sides.notes.append(f"{path}: relative imports were adjusted to the new folder.")


def old_names(project: Project, versions: Versions, sides: Sides, merged: Merged) -> None:
    """Note which files of the owner still use the old name of a package or module."""
    gone = dict(moved_folders(versions))
    for path, old in sides.came_from.items() if not gone else ():
        modules = [re.sub(r"^src/|/__init__(?=\.py$)|\.py$", "", name).replace("/", ".") for name in (old, path)]
        if modules[0] != modules[1] and path in merged.tree and old not in merged.tree and path.endswith(".py"):
            gone[modules[0]] = modules[1]
    tree = write_tree(project.path, merged.tree) if gone else ""
    for name, new_name in gone.items():
        found = listed(git("grep", "-lzwF", "-e", name, tree, cwd=project.top, ok=(0, 1)))
        paths = [path.partition(":")[2] for path in found]
        paths = [path for path in paths if is_owned(path) or path not in sides.template]
        if paths:
            sides.notes.append(f"{name} is now {new_name}; these files still use the old name: {', '.join(paths)}")


def hidden_modules(sides: Sides, merged: Merged) -> None:
    """Note modules that are hidden by a package of the same name, if this update added one of the two."""
    for package in [path for path in merged.tree if path.endswith("/__init__.py")]:
        module = package.removesuffix("/__init__.py") + ".py"
        if module in merged.tree and not {package, module} <= set(sides.current):
            folder = package.removesuffix("__init__.py")
            sides.notes.append(f"{module} is not imported: {folder} has the same name. Rename one.")


def moved_folders(versions: Versions) -> list[tuple[str, str]]:
    """The old and new value of each changed answer that names a folder, such as the package name."""
    questions = [question for question, effect in answer_effects().items() if "moves" in effect]
    pairs = [(versions.old[question], versions.new[question]) for question in questions]
    return [(was, now) for was, now in pairs if was != now]
