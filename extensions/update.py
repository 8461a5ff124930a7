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
import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.version import Version
from update_sides import Sides, Update, is_yours, prepare
from update_trees import (
    AUTHOR,
    RENAMES,
    TEMPLATE,
    Entry,
    Project,
    Refusal,
    Tree,
    check_git,
    git,
    listed,
    read_blob,
    read_tree,
    template_paths,
    write_blob,
    write_tree,
)


def way_back(conflicts: bool, *others: str) -> str:
    """The command that makes the project HEAD again, but for other paths.

    While a path is in conflict that HEAD lacks, git restores nothing: so it comes into the index first.
    """
    where = " ".join([".", *(shlex.quote(f":(exclude,literal){path}") for path in others)])
    resolve = f"git -c core.safecrlf=false add --update {where} && " if conflicts else ""
    return f"{resolve}git restore --source=HEAD --staged --worktree {where}"


# --- before Copier's part ---


def check(project: Project, paths: set[str], old: Version, new: Version) -> None:
    """Refuse what would fail later; keep the ignored files that Copier could overwrite; say what is on offer."""
    check_git(project.path)
    if (form := git("rev-parse", "--show-object-format", cwd=project.path).strip()) != "sha1":
        raise Refusal(f"the repository names its objects by {form}, which Copier doesn't take: it needs one with sha1")
    if strange := [path for path in project.head if re.search("[\udc80-\udcff]", path)]:
        raise Refusal(f"the name {strange[0]} is no UTF-8, which Copier needs: git mv it, and commit")
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
    # What else is in src/ is none of the template's.
    own = {re.sub(r"^src/\*", f"src/{answers['package_name']}", path) for path in paths}
    folders = {str(folder) for path in own for folder in Path(path).parents}
    for path in sorted(path for pattern in folders - {"."} for path in glob.glob(pattern, root_dir=project.path)):
        place = project.path / path
        inside = place.resolve().is_relative_to(project.path.resolve())
        if not inside or (place.is_symlink() and path in project.head):
            raise Refusal(
                f"{path} is a link, where the template has a folder: Copier would write to what it leads to. "
                f"Make {path} a folder, with links in it"
            )
        if not place.is_dir():
            raise Refusal(f"{path} is a file here, and a folder in the template: rename it")
    for path in sorted(path for pattern in own for path in glob.glob(pattern, root_dir=project.path)):
        place = project.path / path
        if place.is_dir():
            raise Refusal(f"{path} is a folder here, and a file in the template: rename it")
        if place.exists() and not place.stat().st_mode & 0o200:
            raise Refusal(f"{path} is read-only: chmod u+w {shlex.quote(path)}")
    ways = project.in_the_way(paths)
    try:
        earlier = project.keep(ways)
    except OSError as error:
        raise Refusal(f"{error.filename} can't be kept aside: {error.strerror}") from error
    if earlier:
        print(f"An update before this one was interrupted. The ignored files that it kept are in {earlier}")
    back = f"cd {shlex.quote(str(project.path))} && {way_back(conflicts=True)} && git clean --force -d --quiet ."
    if ways:
        back += f" && cp -a {shlex.quote(str(project.kept))}/. ."
    print(*news(old, new), f"If this is interrupted, go back with\n    {back}\n", sep="\n\n", flush=True)


def news(old: Version, new: Version) -> Iterator[str]:
    """What the CHANGELOG says of the versions after `old`, up to `new`, and of what is not released yet."""
    for section in re.split(r"^(?=## )", (TEMPLATE / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.M)[1:]:
        name = section.split()[1]
        if new.is_devrelease if name == "Unreleased" else old < Version(name) <= new:
            yield section.strip()


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
    labels = dict(zip((ours, theirs, base), (*names, "base"), strict=True))

    def named(path: str) -> str:
        """Two things of one name: git puts the commit behind that of one, and this what it is of."""
        stem, _, commit_id = path.rpartition("~")
        return f"{stem}~{labels[commit_id]}" if commit_id in labels else path

    stages = [(entry, stage, named(path)) for entry, stage, path in stages]
    kinds = {named(path): kind for path, kind in kinds.items()}
    tree = {named(path): entry for path, entry in read_tree(project.path, said[0]).items()}
    for path in {path for _, _, path in stages} & set(tree):
        text = read_blob(project.path, tree[path][1])
        for commit_id, name in labels.items():
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
        text = read_blob(project.path, oid)
        try:
            module = ast.parse(text)
        except (SyntaxError, ValueError):  # no Python, or of no encoding that Python reads
            continue
        lines = re.split(rb"(?<=\n)|(?<=\r)(?!\n)", text)  # as Python counts them
        for node in ast.walk(module):
            if isinstance(node, ast.ImportFrom) and node.level and node.level + by > 0:
                dots = b"from " + b"." * (node.level + by)
                lines[node.lineno - 1] = re.sub(rb"\bfrom\s+\.+", dots, lines[node.lineno - 1], count=1)
        if b"".join(lines) != text:
            merged.tree[path] = (mode, write_blob(project.path, b"".join(lines)))
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


def lay(project: Project, merged: Merged, changed: list[str]) -> None:
    """Put the outcome into index and work tree, at paths where it differs from HEAD."""
    before = project.head
    touched = [path for path in {**before, **merged.tree} if before.get(path) != merged.tree.get(path)]
    if lost := sorted(set(touched) & set(changed)):
        raise Refusal(f"{lost[0]} was changed while this ran: commit it, then update again")
    for path in merged.tree:
        if path not in before and (place := project.occupied(path)):
            raise Refusal(f"{place} is in the way of {path}, and git ignores it: move it, then update again")
    whole = {
        path: entry for path, entry in read_tree(project.path, "HEAD").items() if not path.startswith(project.prefix)
    }
    whole |= {project.prefix + path: entry for path, entry in merged.tree.items()}
    project.lay(write_tree(project.path, whole), touched)
    unmerged = {path: f"0 {'0' * 40}\t{project.prefix}{path}\0" for _, _, path in merged.stages}
    entries = [f"{mode} {oid} {stage}\t{project.prefix}{path}\0" for (mode, oid), stage, path in merged.stages]
    given = "".join([*unmerged.values(), *entries])
    git("update-index", "-z", "--index-info", cwd=project.top, given=given)


ADVICE = {
    "contents": "both changed the same lines: keep what you want, delete the marks, git add {path}",
    "add/add": "both have a file of this name: keep what you want, delete the marks, git add {path}",
    "binary": "both replaced it, and yours is in place; theirs: git show :3:./{path} > {path}; then git add {path}",
    "rename/rename": "you and the template moved it to two places: git add the one that you keep, git rm the others",
    "rename/delete": "one moved it, the other removed it: git add {path} keeps it, git rm {path} does not",
    "distinct modes": "a file for one, a link for the other: git add what you keep, git rm the other (~: whose it is)",
    "modify/delete": "you changed it, the template removed it: git add {path} keeps it, git rm {path} does not",
}


def report(project: Project, update: Update, sides: Sides, merged: Merged, changed: list[str]) -> str:
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
    others = any(update.new[key] != value for key, value in update.old.items() if key in update.new)
    lines = [f"{update.old_ref} → {update.new_ref}" + (", other answers" if others else "")]
    for kind, paths in done.items():
        if paths:
            lines.append(f"{len(paths):5} {kind}{says.get(kind, '')}")
            lines += [f"        {path}" for path in paths[:12]]
            lines += [f"        and {len(paths) - 12} more"] if len(paths) > 12 else []
    if changed:
        sides.notes.append(f"Changed while this ran, and left as it is: {', '.join(changed)}")
    lines += [line for note in sides.notes for line in ("", *note.split("\n"))]
    if conflicts:
        lines += ["", f"{len(conflicts)} in conflict:"]
        for path in conflicts:
            kind = merged.kinds.get(path, "CONFLICT").removeprefix("CONFLICT (").removesuffix(")")
            advice = ADVICE.get(kind, "{kind}; see git status, then git add or git rm {path}")
            lines += [f"  {path}", f"      {advice.format(path=shlex.quote(path), kind=kind)}"]
        lines += ["", "Then: git status, make test, git commit"]
    else:
        nothing = "nothing to do"
        if len(lines) == 1 and update.old_ref != update.new_ref:
            nothing = f"No file of yours changes; {project.answers_file} records the new version: git commit"
        lines += ["", "Next: git diff --cached, make test, git commit" if len(lines) > 1 else nothing]
    return "\n".join([*lines, f"Go back: {way_back(bool(conflicts), *changed)}"])


# --- after Copier's part ---


def finish(project: Project, paths: set[str], refs: tuple[str, str], versions: tuple[Version, Version]) -> int:
    """Put the merge in the place of what Copier did; 1 if there are conflicts."""
    answers = (project.path / project.answers_file).read_bytes()
    try:
        project.go_back(paths)
        changed = project.changed()
        old = read_answers(git("show", f"HEAD:./{project.answers_file}", cwd=project.path))
        update = Update(*refs, *versions, old, read_answers(answers.decode()))
        sides = prepare(project, update)
        merged = merge(project, sides, ("yours", update.new_ref))
        mend_imports(project, sides, merged)
        old_names(project, update, sides, merged)
        mode = project.head[project.answers_file][0]
        merged.tree[project.answers_file] = (mode, write_blob(project.path, answers))
        said = report(project, update, sides, merged, changed)
        lay(project, merged, changed)
    except BaseException:
        try:
            project.go_back(paths)
        except (OSError, Refusal) as error:
            print(f"Going back failed ({error}): use the command that is printed above.", file=sys.stderr)
        else:
            print("The project is as it was before the update.", file=sys.stderr)
        raise
    project.forget()
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
