"""What git is to merge at an update: three trees, with all done to them that no merge could know of."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from packaging.version import Version
from update_trees import TEMPLATE, Project, Refusal, Tree, git, read_blob, read_tree, renames, write_blob

LISTS = Path(__file__).resolve().parent


# --- the two versions ---


@dataclass
class Update:
    """The two versions of the template (a ref each, and what it means), with the answers given to each."""

    old_ref: str
    new_ref: str
    old_version: Version
    new_version: Version
    old: dict[str, Any]
    new: dict[str, Any]


def lay_out(ref: str, answers: Mapping[str, Any], root: Path) -> None:
    """Let Copier make a project of a version of the template with these answers, in a new folder."""
    import copier

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "template")
        env = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        git("read-tree", ref, cwd=TEMPLATE, env=env)
        git("checkout-index", "--all", f"--prefix={source}/", cwd=TEMPLATE, env=env)
        copier.run_copy(str(source), root, data=dict(answers), defaults=True, quiet=True, overwrite=True)


def rendered(project: Project, ref: str, answers: Mapping[str, Any]) -> Tree:
    """A version of the template with these answers, as the project's repository would store it."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "work")
        root = work / project.prefix
        lay_out(ref, answers, root)
        # The project's attributes say how files are stored (line ends, LFS), not those of the render.
        own = {path: path.read_bytes() for path in work.rglob(".gitattributes") if path.is_file()}
        for path in own:
            path.unlink()
        for name, (_, oid) in read_tree(project.path, "HEAD").items():
            if name.rpartition("/")[2] == ".gitattributes":
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                (work / name).write_bytes(read_blob(project.path, oid))
        env = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        repository = git("rev-parse", "--absolute-git-dir", cwd=project.path).rstrip("\n")
        where = [f"--git-dir={repository}", f"--work-tree={work}", "-c", "core.fileMode=true"]
        git(*where, "add", "--force", "--all", "--", ".", cwd=root, env=env)
        stored = read_tree(project.path, git(*where, "write-tree", cwd=work, env=env).strip())
        tree = {path.removeprefix(project.prefix): entry for path, entry in stored.items()}
        tree = {path: entry for path, entry in tree.items() if path.rpartition("/")[2] != ".gitattributes"}
        for path, text in own.items():
            tree[path.relative_to(root).as_posix()] = ("100644", write_blob(project.path, text))
    tree.pop(project.answers_file, None)  # Copier writes it
    return tree


# --- what steers the merge ---


def regex(pattern: str) -> str:
    """`*` is a part of a name, `**` any number of folders and names; each is a group."""
    wild = {"**": "(.*)", "*": "([^/]*)"}
    return "".join(wild.get(part) or re.escape(part) for part in re.split(r"(\*\*?)", pattern))


def fill(pattern: str, groups: tuple[str, ...]) -> str:
    """A pattern with what its wild cards stand for."""
    fixed = re.split(r"\*\*?", pattern)
    return fixed[0] + "".join(map("".join, zip(groups, fixed[1:], strict=True)))


@cache
def owners() -> dict[str, str]:
    """`yours` or `baseline`, by pattern."""
    lists = yaml.safe_load((LISTS / "ownership.yml").read_text(encoding="utf-8"))
    return {pattern: owner for owner, reasons in lists.items() for pattern in reasons}


def is_yours(path: str) -> bool:
    """Whether a generated file belongs to the owner once the project is made."""
    fitting = [pattern for pattern in owners() if re.fullmatch(regex(pattern), path)]
    return bool(fitting) and owners()[max(fitting, key=len)] == "yours"


@dataclass
class Move:
    """Paths of the old version, and the path in the new one that holds what they held (None: nothing does)."""

    sources: list[str]
    target: str | None

    def follow(self, path: str) -> str | None:
        """The target for a path that is a source, with what its wild cards stand for."""
        for source in self.sources if self.target else ():
            if found := re.fullmatch(regex(source), path):
                return fill(str(self.target), found.groups())
        return None


def declared(old: Version, new: Version) -> list[Move]:
    """What moves.yml says of the versions after `old`, up to `new`; oldest first."""
    by_version = yaml.safe_load((LISTS / "moves.yml").read_text(encoding="utf-8"))
    wanted = sorted((name for name in by_version if old < Version(name) <= new), key=Version)
    return [Move(move["from"], move.get("to")) for name in wanted for move in by_version[name]]


def follow(path: str, moves: list[Move]) -> str:
    """Where a file is after all moves of one path to one."""
    for move in moves:
        if len(move.sources) == 1:
            path = move.follow(path) or path
    return path


# --- three trees ---


@dataclass
class Sides:
    """What git is to merge, and what the report says beside it."""

    base: Tree
    yours: Tree
    template: Tree
    came_from: dict[str, str]  # where the template has a file now, and where it was in the project
    moved_away: set[str] = field(default_factory=set)  # what the template has elsewhere, as git sees it
    kept: list[str] = field(default_factory=list)  # files of the owner that the new version would start differently
    notes: list[str] = field(default_factory=list)


def prepare(project: Project, update: Update) -> Sides:
    """The three trees, with all done to them that no merge could know of."""
    base = rendered(project, update.old_ref, update.old)
    same = (update.old_ref, update.old) == (update.new_ref, update.new)
    template = dict(base) if same else rendered(project, update.new_ref, update.new)
    yours = {path: entry for path, entry in project.head.items() if path != project.answers_file}
    notes = []

    # Changed answers reach the owner's files, a changed version does not: they start as the old version with the new
    # answers. Where the old version doesn't know an answer, such as a new kind of data, all is merged.
    start: Tree | None = dict(base)
    if any(update.new.get(key) != value for key, value in update.old.items()):
        try:
            start = rendered(project, update.old_ref, {**update.old, **update.new})
        except Refusal:
            raise
        except Exception as error:  # Copier's, for an answer: of several classes
            start = None
            notes.append(f"{update.old_ref} doesn't take the new answers ({error}), so files of yours were merged too.")

    moves = declared(update.old_version, update.new_version)
    was, now = update.old["package_name"], update.new["package_name"]
    all_moves = [Move([f"src/{was}/**"], f"src/{now}/**"), *moves]
    places = {path: follow(path, all_moves) for path in [*base, *yours]}
    # What stands where a file would go stops it, unless the owner has moved the file there already.
    taken = {
        path
        for path, place in places.items()
        if place != path and (place in base or (place in yours and path in yours))
    }

    def moved(tree: Tree) -> Tree:
        return {path if path in taken else follow(path, all_moves): entry for path, entry in tree.items()}

    came_from = {path if path in taken else place: path for path, place in places.items()}
    sides = Sides(moved(base), moved(yours), template, came_from, notes=notes)
    start = moved(start) if start else {}
    join(sides, start, moves)
    for path in filter(is_yours, start):
        if path in sides.yours and template.get(path) != start[path]:
            sides.kept.append(path)
        template[path] = start[path]
    keep_configs(sides, update)
    keep_folders(sides)
    keep_own(project, sides)
    return sides


def join(sides: Sides, start: Tree, moves: list[Move]) -> None:
    """Several files that become one do so where the owner has changed none of them."""
    for move in moves:
        joined: dict[str, list[str]] = {}
        for path in {**sides.base, **start} if len(move.sources) > 1 else ():
            if target := move.follow(path):
                joined.setdefault(target, []).append(path)
        for target, paths in joined.items():
            if all(sides.yours.get(path) == sides.base.get(path) for path in paths):
                for path in paths:
                    start.pop(path, None)
            elif sides.template.pop(target, None):
                sides.notes.append(f"{target} is not there: you changed what it would join ({', '.join(paths)}).")


def keep_configs(sides: Sides, update: Update) -> None:
    """A change of `config_format` leaves the owner's configs as they are: all four formats load."""
    was, now = (answers["config_format"] for answers in (update.old, update.new))
    if was == now:
        return
    for path in [path for path in sides.base if re.fullmatch(rf"configs/[^/]+\.{was}", path)]:
        sides.template.pop(f"{path.removesuffix(was)}{now}", None)
        sides.template[path] = sides.base[path]
    names = sorted(Path(path).stem for path in sides.yours if re.fullmatch(rf"configs/[^/]+\.{was}", path))
    if names:
        command = f"python -m {update.new['package_name']} config configs/train.{was} configs/$name.{was}"
        sides.notes.append(
            f"Your configs stay as they are; the commands now look for {now} by default. To convert them:\n"
            f"    for name in {' '.join(names)}; do\n"
            f"      {command} --to {now} --last > configs/$name.{now}\n"
            f"    done && git rm configs/*.{was} && git add configs"
        )


def keep_folders(sides: Sides) -> None:
    """`loss/` becomes `loss.py` only where it holds no other file than the template's."""
    for path in [path for path in sides.template if path.endswith(".py") and path not in sides.base]:
        folder = path.removesuffix(".py") + "/"
        started = {p: entry for p, entry in sides.base.items() if p.startswith(folder)}
        own = [p for p in sides.yours if p.startswith(folder) and p not in started]
        if started and own and not any(p.startswith(folder) for p in sides.template):
            del sides.template[path]
            sides.template |= started
            sides.notes.append(f"{folder} stays a folder, for {', '.join(own)}. Both layouts work.")


def keep_own(project: Project, sides: Sides) -> None:
    """What the owner deleted stays deleted, what they own is not removed, and what git ignores is not in the trees."""
    base, yours, template = sides.base, sides.yours, sides.template
    by_owner, by_template = renames(project.path, base, yours), renames(project.path, base, template)
    sides.came_from |= {new: sides.came_from[old] for old, new in by_template.items()}
    sides.moved_away = set(by_template)
    for path in list(base):
        if path not in yours and path not in by_owner:
            del base[path]
            for gone in (path, by_template.get(path, ""), sides.came_from.get(path, "")):  # or the last, by a new file
                if gone not in yours:
                    template.pop(gone, None)
        elif is_yours(path) and path not in template and path not in by_template and yours.get(path) != base[path]:
            template[path] = base[path]
            sides.kept.append(path)
    for path in [path for path in template if path not in base]:
        if path in yours and is_yours(path):
            del template[path]
        elif path not in yours and (place := project.occupied(path)):
            del template[path]
            sides.notes.append(f"{path} was left out: git ignores {place}, which is in its place.")
