"""The two versions of the template: the paths that each can create, and each rendered with its answers."""

import contextlib
import glob
import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pathspec
import yaml
from packaging.version import InvalidVersion, Version

from .copies import both, copy, link
from .git import AUTHOR, Refusal, Tree, attempt, git, line, listed, read_blob, read_tree, write_blob
from .names import any_of, patterns
from .project import Project
from .rules import answer_effects, regex

HERE = Path(__file__).resolve().parent
TEMPLATE = next((folder for folder in HERE.parents if (folder / ".git").exists()), HERE.parents[1])
# Lists that all parts of copier.yml extend; for other settings, the last part counts.
JOINED = ("_exclude", "_jinja_extensions", "_secret_questions", "_skip_if_exists")
EXCLUDED = ["copier.yml", "copier.yaml", "*.py[co]", "__pycache__", ".git", ".DS_Store", ".svn"]  # Copier's default


@dataclass
class Versions:
    """The project's version and the one that it gets (ref and version of each), with their answers."""

    old_ref: str
    new_ref: str
    old_version: Version
    new_version: Version
    old: dict[str, Any]
    new: dict[str, Any]

    def same(self) -> bool:
        return (self.old_ref, self.old) == (self.new_ref, self.new)

    def other_answers(self) -> bool:
        return any(self.new[key] != value for key, value in self.old.items() if key in self.new)


def releases() -> dict[Version, str]:
    """The tags that are versions, without pre-releases, as Copier offers them; oldest first."""
    found = {}
    for tag in git("tag", "--list", cwd=TEMPLATE).split():
        try:
            found[Version(tag)] = tag
        except InvalidVersion:
            continue
    return {version: found[version] for version in sorted(found) if not version.is_prerelease}


def as_version(ref: str) -> Version:
    """The version of a ref: that of a tag, or for another commit a development version after the last tag."""
    try:
        return Version(ref)
    except InvalidVersion:
        described = line("describe", "--tags", "--always", "--long", ref, cwd=TEMPLATE)
        found = re.fullmatch(r"(.+)-(\d+)-g(\w+)", described)
        with contextlib.suppress(InvalidVersion):
            if found:
                return Version(found[1] if found[2] == "0" else f"{found[1]}.post{found[2]}.dev0+{found[3]}")
        return Version(f"0.0.0.post0.dev0+{described}")  # no tag; a commit such as 2c74801 reads as 2rc74801


def record(text: str, commit: str, source: str) -> str:
    """An answers file with the version and the template's address."""
    now = yaml.safe_load(text) | {"_commit": commit, "_src_path": source}
    noted = yaml.safe_dump({key: now[key] for key in ("_commit", "_src_path")}, allow_unicode=True, width=10**6)
    for key, lines in (("_commit", ""), ("_src_path", noted)):  # a template may write these keys between the answers
        text = re.sub(rf"(?m)^{key}:.*\n(?:[ \t].*\n)*", lines.replace("\\", r"\\"), text)
    if yaml.safe_load(text) != now:
        raise Refusal(f"{source!r} cannot be written to the answers file: move the template to a path in plain letters")
    return text


# --- rendering ---


def unpack(ref: str, folder: Path, tasks: bool = False) -> Path:
    """Unpack the template's files of a version into a folder without git.

    They may be hard links to the clone's files, so nothing may write to them: code of the template gets copies.
    """
    source = folder / "template"
    env = {"GIT_INDEX_FILE": str(folder / "index")}
    git("read-tree", ref, cwd=TEMPLATE, env=env)
    if tasks or settings(ref).get("_jinja_extensions") or not link(TEMPLATE, source, env):
        git("checkout-index", "--all", f"--prefix={source}/", cwd=TEMPLATE, env=env)
    return source


def lay_out(
    ref: str, answers: Mapping[str, Any], root: Path, name: str | None = None, address: str = "", tasks: bool = False
) -> None:
    """Let Copier render a version of the template with these answers into a new folder.

    Args:
        name: the answers file.
        address: the template's address, as the project records it.
        tasks: whether the template's tasks run.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = unpack(ref, Path(folder), tasks)
        options: dict[str, Any] = {"data": dict(answers), "defaults": True, "overwrite": True, "answers_file": name}
        if named := address and records_version(ref):
            make_repository(source, describe(ref))
        copy(source, root, skip_tasks=not tasks, **options)
        for path in root.rglob("*") if named else ():
            if path.is_file() and not path.is_symlink() and str(source).encode() in (text := path.read_bytes()):
                path.write_bytes(text.replace(str(source).encode(), address.encode()))


def records_version(ref: str) -> bool:
    """Whether files of a version may contain the template's version or address."""
    expression, suffix = r"_copier_answers *[.[]|_copier_conf *[.[][^}]*vcs", settings(ref).get("_templates_suffix")
    where = ["--", f"*{suffix or '.jinja'}"] if suffix != "" else []
    return attempt("grep", "--quiet", "--extended-regexp", expression, ref, *where, cwd=TEMPLATE).status == 0


def make_repository(source: Path, version: str) -> None:
    """Turn a version's files into a repository, so that Copier knows the version."""
    git("init", "--quiet", cwd=source)
    git("add", "--force", "--all", cwd=source)
    git("commit", "--quiet", "--no-verify", "--message", version, cwd=source, env=AUTHOR)
    git("tag", version, cwd=source)


def describe(ref: str) -> str:
    """A version as Copier records it: a tag, or a commit by its distance from the last tag."""
    return git("describe", "--tags", "--always", ref, cwd=TEMPLATE).strip()


def computed(config: dict[str, Any]) -> dict[str, str]:
    """Text questions that a version never asks; their defaults are computed from other answers."""
    questions = {key: value for key, value in config.items() if isinstance(value, dict) and key[0] != "_"}
    never = {key: value for key, value in questions.items() if value.get("when") is False and "default" in value}
    return {key: str(value["default"]) for key, value in never.items() if value.get("type") == "str"}


def conditional_questions(ref: str) -> set[str]:
    """Questions with a condition, so that Copier may have recorded no answer."""
    return {key for key, value in settings(ref).items() if isinstance(value, dict) and "when" in value}


def with_hidden_answers(ref: str, answers: dict[str, Any]) -> dict[str, Any]:
    """The answers, with the values of hidden questions that moves.yml names."""
    missing = set(answer_effects()).intersection(conditional_questions(ref)) - set(answers)
    if not missing:
        return answers
    with tempfile.TemporaryDirectory() as folder:
        source, root = unpack(ref, Path(folder)), Path(folder, "project")
        done = copy(source, root, data=answers, defaults=True, exclude=["*"], skip_tasks=True)
    return {**answers, **{name: done.answers.combined[name] for name in missing}}


def rendered(project: Project, ref: str, answers: Mapping[str, Any], tasks: bool = False) -> Tree:
    """A version of the template with these answers, as the project's repository would store it.

    With `tasks`, the changes of the template's tasks are included, except in files that git ignores.
    """
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "work")
        root = work / project.prefix
        others = copy_external_data(project, ref, answers, root)
        lay_out(ref, answers, root, project.answers_file, project.template)
        laid_out = [path for path in root.rglob("*") if path.is_symlink() or path.is_file()]
        if tasks := tasks and project.tasks and "_tasks" in settings(ref):
            lay_out(ref, answers, root, project.answers_file, project.template, tasks=True)
            shutil.rmtree(root / ".git", ignore_errors=True)
        # The project's attributes decide how files are stored (line ends, LFS), not those of the render.
        own = {path: path.read_bytes() for path in work.rglob(".gitattributes") if path.is_file()}
        for path in own:
            path.unlink()
        for name, (_, oid) in project.repository_files.items():
            if name.rpartition("/")[2] == ".gitattributes":
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                (work / name).write_bytes(read_blob(project.path, oid))
        env = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        repository = line("rev-parse", "--absolute-git-dir", cwd=project.path)
        where = [f"--git-dir={repository}", f"--work-tree={work}", "-c", "core.fileMode=true"]
        if tasks:  # without --force: a task may create ignored files, such as a virtual environment
            git(*where, "add", "--all", "--", ".", cwd=root, env=env)
        names = [path.relative_to(root).as_posix() for path in laid_out if os.path.lexists(path)] if tasks else ["."]
        given, chosen = "".join(f"{name}\0" for name in names), ["--pathspec-from-file=-", "--pathspec-file-nul"]
        git("--literal-pathspecs", *where, "add", "--force", *chosen, cwd=root, env=env, given=given)
        stored = read_tree(project.path, git(*where, "write-tree", cwd=work, env=env).strip())
        tree = {path.removeprefix(project.prefix): entry for path, entry in stored.items()}
        tree = {path: entry for path, entry in tree.items() if path.rpartition("/")[2] != ".gitattributes"}
        for path, text in own.items():
            tree[path.relative_to(root).as_posix()] = ("100644", write_blob(project.path, text))
    apart = {project.answers_file, *others}  # the answers file is written separately
    return {path: entry for path, entry in tree.items() if path not in apart}


def rendered_both(project: Project, versions: Versions) -> tuple[Tree, Tree]:
    """The old version with the old answers, and the new one with the new answers; with the changes of tasks."""
    old = partial(rendered, project, versions.old_ref, versions.old, tasks=True)
    if versions.same():
        base = old()
        return base, dict(base)
    new = partial(rendered, project, versions.new_ref, versions.new, tasks=True)
    if project.tasks and any("_tasks" in settings(ref) for ref in (versions.old_ref, versions.new_ref)):
        return old(), new()  # tasks may read from the terminal, or use one place
    return both(old, new)


def copy_external_data(project: Project, ref: str, answers: Mapping[str, Any], root: Path) -> list[str]:
    """Copy the files that a version reads from the project (`_external_data`) to where it is rendered."""
    config = settings(ref)
    values = (config.get("_external_data") or {}).values()
    names = {name for value in values for name in patterns(value, config.get("_envops") or {}, answers)}
    found = [path for path in project.head if glob.escape(path) in names]
    for path in found:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(read_blob(project.path, project.head[path][1]))
    return found


def template_files(ref: str) -> list[str]:
    """All files of a version of the template's repository."""
    return listed(git("ls-tree", "-r", "-z", "--name-only", "--full-tree", ref, cwd=TEMPLATE))


def settings(ref: str) -> dict[str, Any]:
    """The settings and questions of a version: all documents of its copier.yml, with their includes."""
    return read_settings(TEMPLATE, line("rev-parse", f"{ref}^{{commit}}", cwd=TEMPLATE))


@cache
def read_settings(template: Path, commit: str) -> dict[str, Any]:
    files = template_files(commit)

    fast: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(fast):  # type: ignore[misc]
        """A loader with Copier's tag `!include`."""

    def parts(path: str) -> Iterator[dict[str, Any]]:
        for part in yaml.load_all(git("show", f"{commit}:{path}", cwd=template), Loader):
            yield from part if isinstance(part, list) else [part or {}]

    def include(_: yaml.Loader, node: yaml.Node) -> list[dict[str, Any]]:
        return [part for path in files if re.fullmatch(regex(node.value), path) for part in parts(path)]

    Loader.add_constructor("!include", include)
    name = next((name for name in ("copier.yml", "copier.yaml") if name in files), None)
    if name is None:
        raise Refusal(f"the template has no copier.yml at commit {commit[:10]}: check its address")
    found: dict[str, Any] = {}
    for part in parts(name):
        found |= {key: [*found.get(key, ()), *(part[key] or ())] if key in JOINED else part[key] for key in part}
    return found


def template_paths(ref: str, answers: Mapping[str, Any] | None = None) -> set[str]:
    """Patterns of all paths that a version of the template can create, whatever the answers.

    Known answers are filled in; others match any name.
    """
    config = settings(ref)
    suffix, envops = config.get("_templates_suffix", ".jinja"), config.get("_envops") or {}
    root = config.get("_subdirectory", "").strip("/").removeprefix(".")
    below = re.compile(f"(?:{any_of(patterns(root, envops, answers or {})).pattern})/" if root else "")
    excluded = [line for line in config.get("_exclude", () if root else EXCLUDED) if "{" not in line]
    spec, values, found = pathspec.GitIgnoreSpec.from_lines(excluded), computed(config), set()
    for source in template_files(ref):
        name = source[inside.end() :] if (inside := below.match(source)) else ""
        if not name or spec.match_file(name):
            continue
        for path in patterns(name.removesuffix(suffix), envops, answers or {}, values):
            if all(path.split("/")):  # Copier skips a folder whose name is empty
                found.add(posixpath.normpath(path))
    return found - {"*"}  # the answers file


def changelog_sections(old: Version, new: Version) -> Iterator[str]:
    """The CHANGELOG's sections of the versions after `old`, up to `new`; Unreleased too for a development version."""
    log = TEMPLATE / "CHANGELOG.md"
    for section in re.split(r"^(?=## )", log.read_text(encoding="utf-8"), flags=re.M)[1:] if log.exists() else ():
        named = re.match(r"## +\[?(?:(Unreleased)|v?(\d[\w.+-]*))", section, flags=re.IGNORECASE)
        try:
            wanted = named and (new.is_devrelease if named[1] else old < Version(named[2]) <= new)
        except InvalidVersion:
            continue
        if wanted:
            yield section.strip()
