"""The merge behind `copier update`: Copier runs it before and after its own work, as the migration of copier.yml.

Copier alone drops what it can't follow, such as edits in a file that the template moves (docs/updating.md).
So this takes back what Copier did to the files, once it has asked its questions, and has git merge three trees instead:

    base      the template's old version with the old answers
    yours     HEAD of the project
    template  the template's new version with the new answers

Three things steer the merge: `ownership.yml` says which files are the owner's, so that a new version never edits or
removes them; `moves.yml` says what moved; what git ignores takes no part. All is computed from commits before a file is
touched, so whatever fails, or is killed, leaves HEAD as it was, and one printed command restores the rest.
"""

import ast
import glob
import io
import itertools
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from packaging.version import Version

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE.parent
GO_BACK = "git restore --source=HEAD --staged --worktree ."
KEPT = "refs/worktree/copier-torch"  # ignored files as they were, while an update runs
SETTINGS = (f"core.hooksPath={os.devnull}", "core.fsmonitor=false", "core.safecrlf=false", "submodule.recurse=false")
GIT = ["git", *(word for setting in SETTINGS for word in ("-c", setting))]
RENAMES = ["-c", "merge.renames=true", "-c", "merge.directoryRenames=true", "-c", "diff.renameLimit=0"]
AUTHOR = {f"GIT_{who}_NAME": "copier-torch" for who in ("AUTHOR", "COMMITTER")}
AUTHOR |= {f"GIT_{who}_EMAIL": "copier-torch@localhost" for who in ("AUTHOR", "COMMITTER")}

Entry: TypeAlias = tuple[str, str]  # mode, object id
Tree: TypeAlias = dict[str, Entry]  # by path, relative to the project


class Refusal(Exception):
    """What keeps an update from being made, and what to do about it."""


# --- git ---


def git(
    *arguments: str | Path, cwd: Path, given: str = "", ok: Iterable[int] = (0,), env: Mapping[str, str] | None = None
) -> str:
    """What a git command prints; paths that are no UTF-8 survive. Refusal if it fails."""
    done = subprocess.run(
        [*GIT, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        input=os.fsencode(given),
        capture_output=True,
        check=False,
    )
    if done.returncode not in ok:
        raise Refusal(f"git {arguments[0]}: {os.fsdecode(done.stderr).strip()}")
    return os.fsdecode(done.stdout)


def listed(text: str) -> list[str]:
    """The items of a list that ends each with NUL."""
    return text.split("\0")[:-1]


def read_tree(cwd: Path, tree: str) -> Tree:
    """All files of a tree."""
    entries = (line.split("\t", 1) for line in listed(git("ls-tree", "-r", "-z", "--full-tree", tree, cwd=cwd)))
    return {path: (what.split()[0], what.split()[2]) for what, path in entries}


def write_tree(cwd: Path, tree: Tree) -> str:
    """The id of a tree of these files."""
    with tempfile.TemporaryDirectory() as folder:
        index = str(Path(folder, "index"))
        entries = "".join(f"{mode} {oid}\t{path}\0" for path, (mode, oid) in tree.items())
        git("update-index", "-z", "--index-info", cwd=cwd, given=entries, env={"GIT_INDEX_FILE": index})
        return git("write-tree", cwd=cwd, env={"GIT_INDEX_FILE": index}).strip()


def read_blob(cwd: Path, oid: str) -> bytes:
    return subprocess.run([*GIT, "cat-file", "blob", oid], cwd=cwd, capture_output=True, check=True).stdout


def write_blob(cwd: Path, content: bytes) -> str:
    command = [*GIT, "hash-object", "-w", "--stdin"]
    return subprocess.run(command, cwd=cwd, input=content, capture_output=True, check=True).stdout.decode().strip()


def renames(cwd: Path, old: Tree, new: Tree) -> dict[str, str]:
    """Where files went, as far as git can tell."""
    trees = [write_tree(cwd, old), write_tree(cwd, new)]
    found = listed(git(*RENAMES, "diff-tree", "-r", "-z", "-M", "--name-status", "--diff-filter=R", *trees, cwd=cwd))
    return dict(zip(found[1::3], found[2::3], strict=True))


# --- the project's files on disk ---


@dataclass
class Project:
    """A project in a git repository, maybe in a folder of it.

    Attributes:
        path: the project's folder.
        answers_file: relative to it.
        top: the repository's folder.
        prefix: from there to the project; "" or with a slash at the end.
    """

    path: Path
    answers_file: str
    top: Path = field(init=False)
    prefix: str = field(init=False)

    def __post_init__(self) -> None:
        self.top = Path(git("rev-parse", "--show-toplevel", cwd=self.path).rstrip("\n"))
        self.prefix = git("rev-parse", "--show-prefix", cwd=self.path).rstrip("\n")

    @cached_property
    def head(self) -> Tree:
        """What is committed, with paths relative to the project."""
        return read_tree(self.path, f"HEAD:{self.prefix.rstrip('/')}" if self.prefix else "HEAD")

    def in_the_way(self, template_paths: Iterable[str]) -> list[str]:
        """Files on disk, in no commit, where Copier may write or delete: at a path of the template, or a reject."""
        tracked = self.head
        found = {path for pattern in template_paths for path in glob.glob(pattern, root_dir=self.path)}
        found |= {f"{path}.rej" for path in tracked}
        return sorted(path for path in found - set(tracked) if (self.path / path).is_file())

    def occupied(self, path: str) -> str | None:
        """What stands on disk in the place of a path, though in no commit: itself, or no folder where one should be."""
        tracked = self.head
        for place in (path, *map(str, Path(path).parents)):
            disk = self.path / place
            real_folder = place != path and disk.is_dir() and not disk.is_symlink()
            if place not in tracked and os.path.lexists(disk) and not real_folder:
                return place
        return None

    def lay(self, tree: str) -> None:
        """Make index and work tree of the project those of a tree of the repository; ignored files stay."""
        git("restore", f"--source={tree}", "--staged", "--worktree", "--", ".", cwd=self.path)

    def go_back(self, template_paths: Iterable[str]) -> None:
        """Undo what Copier did: back to HEAD and to the ignored files that `check` kept."""
        self.lay("HEAD")
        kept = read_tree(self.path, KEPT) if git("rev-parse", "-q", "--verify", KEPT, cwd=self.path, ok=(0, 1)) else {}
        for path in self.in_the_way(template_paths):
            file = self.path / path
            if path not in kept:
                file.unlink()
                for folder in itertools.takewhile(lambda f: f != self.path and not any(f.iterdir()), file.parents):
                    folder.rmdir()
            elif file.read_bytes() != (content := read_blob(self.path, kept[path][1])):
                file.write_bytes(content)
        for path in kept:
            if not (self.path / path).exists():
                (self.path / path).parent.mkdir(parents=True, exist_ok=True)
                (self.path / path).write_bytes(read_blob(self.path, kept[path][1]))


def template_paths(ref: str) -> set[str]:
    """Patterns of all paths that a version of the template can give to a project, whatever the answers."""
    patterns = set()
    root = "template/project/"
    for source in listed(git("ls-tree", "-r", "-z", "--name-only", "--full-tree", ref, root, cwd=TEMPLATE)):
        name = source.removeprefix(root).removesuffix(".jinja").replace("{{ _copier_conf.sep }}", "/")
        parts = re.split(r"{% if .*?%}(.*?){% endif %}", re.sub(r"{{.*?}}", "*", name))
        for chosen in itertools.product((True, False), repeat=len(parts) // 2):
            path = "".join(part for i, part in enumerate(parts) if i % 2 == 0 or chosen[i // 2])
            if all(path.split("/")):  # a folder without a name is not made
                patterns.add(path.replace("./", "", 1) if path.startswith("./") else path)
    return patterns - {"*"}  # the answers file


# --- before Copier's part ---


def check(project: Project, paths: set[str], old: Version, new: Version) -> None:
    """Refuse what would fail later; keep the ignored files that Copier could overwrite; say what is on offer."""
    found = re.search(r"\d+\.\d+", git("version", cwd=project.path))
    if not found or Version(found[0]) < Version("2.38"):
        raise Refusal(f"git {found and found[0]} can't merge trees: install git 2.38 or newer")
    folder = Path(git("rev-parse", "--absolute-git-dir", cwd=project.path).rstrip("\n"))
    for state in ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply"):
        if (folder / state).exists():
            raise Refusal(f"a merge or rebase is under way ({state}): finish or abort it first")
    if git("ls-files", "--unmerged", cwd=project.top):
        raise Refusal("the repository has conflicts that are not resolved: see `git status`")
    if project.answers_file not in project.head:
        raise Refusal(f"{project.answers_file} is not committed: git add --force {project.answers_file}, and commit")
    answers = read_answers(git("show", f"HEAD:./{project.answers_file}", cwd=project.path))
    if missing := {"package_name", "config_format"} - set(answers):
        raise Refusal(f"{project.answers_file} lacks {', '.join(sorted(missing))}: bring the line back, and commit")
    untracked = listed(git("ls-files", "-z", "--others", "--exclude-standard", cwd=project.path))
    if untracked:
        raise Refusal(f"{untracked[0]} is not committed: commit it, or add it to .gitignore")
    hidden = [line[2:] for line in listed(git("ls-files", "-z", "-v", cwd=project.path)) if line[0] in "Shs"]
    if hidden:
        raise Refusal(f"git is told to overlook {hidden[0]} (skip-worktree or assume-unchanged): undo that first")
    folders = {str(folder) for path in paths for folder in Path(path).parents}
    for path in sorted(path for pattern in folders - {"."} for path in glob.glob(pattern, root_dir=project.path)):
        place = project.path / path
        if not place.resolve().is_relative_to(project.path.resolve()):
            raise Refusal(
                f"{path} is a link out of the project, where the template has files: Copier doesn't write there. "
                f"Make {path} a folder, with links in it"
            )
        if not place.is_dir():
            raise Refusal(f"{path} is a file here, and a folder in the template: rename it")
    for path in sorted(path for pattern in paths for path in glob.glob(pattern, root_dir=project.path)):
        place = project.path / path
        if place.is_dir():
            raise Refusal(f"{path} is a folder here, and a file in the template: rename it")
        if place.exists() and not place.stat().st_mode & 0o200:
            raise Refusal(f"{path} is read-only: chmod u+w {shlex.quote(path)}")
    ways = project.in_the_way(paths)
    for path in ways:
        if not os.access(project.path / path, os.R_OK):
            raise Refusal(f"{path} can't be read")
    back = f"cd {shlex.quote(str(project.path))} && {GO_BACK} && git clean --force -d --quiet ."
    git("update-ref", "-d", KEPT, cwd=project.path)
    if ways:
        blobs = {path: ("100644", write_blob(project.path, (project.path / path).read_bytes())) for path in ways}
        tree = write_tree(project.path, blobs)
        commit = git("commit-tree", "-m", "ignored", tree, cwd=project.path, env=AUTHOR).strip()
        git("update-ref", KEPT, commit, cwd=project.path)
        back += f" && git restore --source={KEPT} --worktree -- {shlex.join(ways)}"
    print(*news(old, new), f"If this is interrupted, go back with\n    {back}\n", sep="\n\n", flush=True)


def news(old: Version, new: Version) -> Iterator[str]:
    """What the CHANGELOG says of the versions after `old`, up to `new`, and of what is not released yet."""
    for section in re.split(r"^(?=## )", (TEMPLATE / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.M)[1:]:
        name = section.split()[1]
        if new.is_devrelease if name == "Unreleased" else old < Version(name) <= new:
            yield section.strip()


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


def rendered(project: Project, ref: str, answers: Mapping[str, Any]) -> Tree:
    """A version of the template with these answers, as the project's repository would store it."""
    import copier

    with tempfile.TemporaryDirectory() as folder:
        source, work = Path(folder, "template"), Path(folder, "work")
        env = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        git("read-tree", ref, cwd=TEMPLATE, env=env)
        git("checkout-index", "--all", f"--prefix={source}/", cwd=TEMPLATE, env=env)
        root = work / project.prefix
        copier.run_copy(str(source), root, data=dict(answers), defaults=True, quiet=True, overwrite=True)
        # The project's attributes say how files are stored (line ends, LFS), not those of the render.
        own = {path for path in work.rglob(".gitattributes") if path.is_file()}
        texts = {path: path.read_bytes() for path in own}
        for path in own:
            path.unlink()
        for name, (_, oid) in read_tree(project.path, "HEAD").items():
            if name.rpartition("/")[2] == ".gitattributes":
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                (work / name).write_bytes(read_blob(project.path, oid))
        env = {"GIT_INDEX_FILE": str(Path(folder, "index-of-project"))}
        repository = git("rev-parse", "--absolute-git-dir", cwd=project.path).rstrip("\n")
        where = [f"--git-dir={repository}", f"--work-tree={work}", "-c", "core.fileMode=true"]
        git(*where, "add", "--force", "--all", "--", ".", cwd=root, env=env)
        stored = read_tree(project.path, git(*where, "write-tree", cwd=work, env=env).strip())
        tree = {path.removeprefix(project.prefix): entry for path, entry in stored.items()}
        tree = {path: entry for path, entry in tree.items() if path.rpartition("/")[2] != ".gitattributes"}
        for path, text in texts.items():
            tree[path.relative_to(root).as_posix()] = ("100644", write_blob(project.path, text))
    tree.pop(project.answers_file, None)  # Copier writes it
    return tree


# --- what steers the merge ---


def regex(pattern: str) -> str:
    """`*` is a part of a name, `**` any number of folders and names; each is a group."""
    wild = {"**": "(.*)", "*": "([^/]*)"}
    return "".join(wild.get(part) or re.escape(part) for part in re.split(r"(\*\*?)", pattern))


@cache
def owners() -> dict[str, str]:
    """`yours` or `baseline`, by pattern."""
    lists = yaml.safe_load((HERE / "ownership.yml").read_text(encoding="utf-8"))
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
                stars = iter(found.groups())
                return re.sub(r"\*\*?", lambda _, stars=stars: next(stars), str(self.target))  # type: ignore[misc]
        return None


def declared(old: Version, new: Version) -> list[Move]:
    """What moves.yml says of the versions after `old`, up to `new`; oldest first."""
    by_version = yaml.safe_load((HERE / "moves.yml").read_text(encoding="utf-8"))
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
    taken = {path for path, place in places.items() if place != path and (place in base or place in yours)}

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
            template.pop(path, None)
            template.pop(by_template.get(path, ""), None)
        elif is_yours(path) and path not in template and path not in by_template and yours.get(path) != base[path]:
            template[path] = base[path]
            sides.kept.append(path)
    for path in [path for path in template if path not in base]:
        if path in yours and is_yours(path):
            del template[path]
        elif path not in yours and (place := project.occupied(path)):
            del template[path]
            sides.notes.append(f"{path} was left out: git ignores {place}, which is in its place.")


# --- the merge ---


@dataclass
class Merged:
    """What git made of the three trees.

    Attributes:
        tree: the files; those in conflict hold both versions.
        stages: index entries (mode and id, stage, path) of the conflicts.
        kinds: what git calls the conflict, by path.
    """

    tree: Tree
    stages: list[tuple[Entry, str, str]]
    kinds: dict[str, str]


def merge(project: Project, sides: Sides, names: tuple[str, str]) -> Merged:
    """Merge the sides; `names` stand at the marks of conflicts."""

    def commit(tree: Tree, *parents: str) -> str:
        after = [word for parent in parents for word in ("-p", parent)]
        written = write_tree(project.path, tree)
        return git("commit-tree", "-m", "-", *after, written, cwd=project.path, env=AUTHOR).strip()

    base = commit(sides.base)
    ours, theirs = commit(sides.yours, base), commit(sides.template, base)
    said = git(*RENAMES, "merge-tree", "--write-tree", "-z", ours, theirs, cwd=project.path, ok=(0, 1)).split("\0")
    end = said.index("", 1) if "" in said[1:] else len(said)
    stages = [((line.split()[0], line.split()[1]), line.split()[2][0], line.split("\t", 1)[1]) for line in said[1:end]]
    kinds, rest = dict[str, str](), said[end + 1 : -1]
    while rest:
        count = int(rest[0])
        paths, kind, rest = rest[1 : count + 1], rest[count + 1], rest[count + 3 :]
        if kind.startswith("CONFLICT"):
            kinds |= dict.fromkeys(paths, kind)
    tree = read_tree(project.path, said[0])
    for path in {path for _, _, path in stages} & set(tree):
        text = read_blob(project.path, tree[path][1])
        for commit_id, name in zip((ours, theirs, base), (*names, "base"), strict=True):
            text = re.sub(rb"(?m)^([<>|]{7}) " + commit_id.encode() + rb"\b", rb"\1 " + name.encode(), text)
        tree[path] = (tree[path][0], write_blob(project.path, text))
    return Merged(tree, stages, kinds)


def mend_imports(project: Project, sides: Sides, merged: Merged) -> None:
    """Relative imports of a module that is now in a folder further up or down get a dot less or more."""
    conflicts = {path for _, _, path in merged.stages}
    for path, was in sides.came_from.items():
        by = path.count("/") - was.count("/")
        if by == 0 or not path.endswith(".py") or path not in merged.tree or path in conflicts or not is_yours(path):
            continue
        mode, oid = merged.tree[path]
        text = read_blob(project.path, oid).decode()
        try:
            module = ast.parse(text)
        except SyntaxError:
            continue
        lines = text.split("\n")
        for node in ast.walk(module):
            if isinstance(node, ast.ImportFrom) and node.level and node.level + by > 0:
                line = lines[node.lineno - 1]
                lines[node.lineno - 1] = re.sub(r"\bfrom\s+\.+", "from " + "." * (node.level + by), line, count=1)
        if "\n".join(lines) != text:
            merged.tree[path] = (mode, write_blob(project.path, "\n".join(lines).encode()))
            sides.notes.append(f"{path}: relative imports changed to fit its new folder.")


def old_names(project: Project, update: Update, sides: Sides, merged: Merged) -> None:
    """Note which files of the owner still name a package or module that has another name now."""
    was, now = update.old["package_name"], update.new["package_name"]
    gone = {was: now} if was != now else {}
    for path, old in sides.came_from.items() if was == now else ():
        modules = [re.sub(r"^src/|/__init__(?=\.py$)|\.py$", "", name).replace("/", ".") for name in (old, path)]
        if modules[0] != modules[1] and path in merged.tree and old not in merged.tree and path.endswith(".py"):
            gone[modules[0]] = modules[1]
    tree = write_tree(project.path, merged.tree)
    for name, new_name in gone.items():
        found = listed(git("grep", "-lzwF", "-e", name, tree, cwd=project.path, ok=(0, 1)))
        paths = [path.partition(":")[2] for path in found]
        paths = [path for path in paths if is_yours(path) or path not in sides.template]
        if paths:
            sides.notes.append(f"{name} is {new_name} now; these still name it: {', '.join(paths)}")


def lay(project: Project, merged: Merged) -> None:
    """Put the outcome into index and work tree."""
    before = project.head
    for path in merged.tree:
        if path not in before and (place := project.occupied(path)):
            raise Refusal(f"{place} is in the way of {path}, and git ignores it: move it, then update again")
    whole = {
        path: entry for path, entry in read_tree(project.path, "HEAD").items() if not path.startswith(project.prefix)
    }
    whole |= {project.prefix + path: entry for path, entry in merged.tree.items()}
    project.lay(write_tree(project.path, whole))
    unmerged = {path: f"0 {'0' * 40}\t{project.prefix}{path}\0" for _, _, path in merged.stages}
    entries = [f"{mode} {oid} {stage}\t{project.prefix}{path}\0" for (mode, oid), stage, path in merged.stages]
    given = "".join([*unmerged.values(), *entries])
    git("update-index", "-z", "--index-info", cwd=project.top, given=given)


ADVICE = {
    "contents": "both changed the same lines: keep what you want, delete the marks, git add {path}",
    "add/add": "both have a file of this name: keep what you want, delete the marks, git add {path}",
    "binary": "both replaced it, and yours is in place; theirs: git show :3:./{path} > {path}; then git add {path}",
    "modify/delete": "you changed it, the template removed it: git add {path} keeps it, git rm {path} does not",
}


def report(project: Project, update: Update, sides: Sides, merged: Merged) -> str:
    """What happened, to be read at a glance."""
    conflicts = sorted({path for _, _, path in merged.stages})
    went = {
        new: old for new, old in sides.came_from.items() if new != old and old in project.head and new in merged.tree
    }
    done: dict[str, list[str]] = {"updated": [], "merged": [], "moved": [], "added": [], "removed": []}
    done["moved"] = [f"{old} → {new}" for new, old in sorted(went.items()) if new not in conflicts]
    trees = write_tree(project.path, sides.yours), write_tree(project.path, merged.tree)
    words = listed(git("diff-tree", "-r", "-z", "--name-status", *trees, cwd=project.path))
    for letter, path in zip(words[::2], words[1::2], strict=True):
        if path in conflicts or path in went or path == project.answers_file:
            continue
        untouched = sides.yours.get(path) == sides.base.get(path)
        done[{"A": "added", "D": "removed"}.get(letter) or ("updated" if untouched else "merged")].append(path)
    done["removed"] = [path for path in done["removed"] if path not in sides.moved_away]
    done["kept as yours"] = sorted(sides.kept)
    says = {"merged": ", your changes and the template's", "kept as yours": ", though a new project starts with others"}
    lines = [f"{update.old_ref} → {update.new_ref}" + (", other answers" if update.old != update.new else "")]
    for kind, paths in done.items():
        if paths:
            lines.append(f"{len(paths):5} {kind}{says.get(kind, '')}")
            shown = [] if kind in ("updated", "added") else paths[:12]
            lines += [f"        {path}" for path in shown]
            lines += [f"        and {len(paths) - 12} more" for _ in shown[:1] if len(paths) > 12]
    lines += [line for note in sides.notes for line in ("", *note.split("\n"))]
    if conflicts:
        lines += ["", f"{len(conflicts)} in conflict:"]
        for path in conflicts:
            kind = merged.kinds.get(path, "CONFLICT").removeprefix("CONFLICT (").removesuffix(")")
            advice = ADVICE.get(kind, "{kind}; see git status, then git add or git rm {path}")
            lines += [f"  {path}", f"      {advice.format(path=shlex.quote(path), kind=kind)}"]
        lines += ["", "Then: git status, make test, git commit"]
    else:
        lines += ["", "Next: git diff --cached, make test, git commit" if len(lines) > 1 else "nothing to do"]
    return "\n".join([*lines, f"Go back: {GO_BACK}"])


# --- after Copier's part ---


def finish(project: Project, paths: set[str], refs: tuple[str, str], versions: tuple[Version, Version]) -> int:
    """Put the merge in the place of what Copier did; 1 if there are conflicts."""
    answers = (project.path / project.answers_file).read_bytes()
    project.go_back(paths)
    try:
        old = read_answers(git("show", f"HEAD:./{project.answers_file}", cwd=project.path))
        update = Update(*refs, *versions, old, read_answers(answers.decode()))
        sides = prepare(project, update)
        merged = merge(project, sides, ("yours", update.new_ref))
        mend_imports(project, sides, merged)
        old_names(project, update, sides, merged)
        mode = project.head[project.answers_file][0]
        merged.tree[project.answers_file] = (mode, write_blob(project.path, answers))
        said = report(project, update, sides, merged)
        lay(project, merged)
    except BaseException:
        project.go_back(paths)
        print("The project is as it was before the update.", file=sys.stderr)
        raise
    git("update-ref", "-d", KEPT, cwd=project.path)
    print(said)
    return 1 if merged.stages else 0


def read_answers(text: str) -> dict[str, Any]:
    """The answers in an answers file, without what Copier notes for itself."""
    return {key: value for key, value in yaml.safe_load(text).items() if not key.startswith("_")}


def main(answers_file: str) -> int:
    """One stage of an update of the project in the current folder; what it is about, Copier says in the environment."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may be no text, a terminal may lack an arrow
    env = os.environ
    old, new = Version(env["VERSION_PEP440_FROM"]), Version(env["VERSION_PEP440_TO"])
    try:
        project = Project(Path.cwd(), answers_file)
        paths = template_paths(env["VERSION_FROM"]) | template_paths("HEAD")
        if env["STAGE"] == "before":
            check(project, paths, old, new)
            return 0
        return finish(project, paths, (env["VERSION_FROM"], env["VERSION_TO"]), (old, new))
    except Refusal as error:
        print(f"No update: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
