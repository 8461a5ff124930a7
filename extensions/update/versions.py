"""The two versions of the template: which paths each can make, and what each makes with the answers to it."""

import glob
import itertools
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.version import InvalidVersion, Version

from .git import Refusal, Tree, git, line, listed, read_blob, read_tree, write_blob
from .project import Project

TEMPLATE = Path(__file__).resolve().parents[2]


@dataclass
class Versions:
    """The version that a project has and the one that it gets (a ref each, and what it means), with their answers."""

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
    """The tags that name versions, without those before a release, as Copier offers them; oldest first."""
    found = {}
    for tag in git("tag", "--list", cwd=TEMPLATE).split():
        try:
            found[Version(tag)] = tag
        except InvalidVersion:
            continue
    return {version: found[version] for version in sorted(found) if not version.is_prerelease}


def as_version(ref: str) -> Version:
    """What a ref means: a tag itself; another commit, a version in development after the last tag."""
    try:
        return Version(ref)
    except InvalidVersion:
        described = line("describe", "--tags", "--always", ref, cwd=TEMPLATE)
        found = re.fullmatch(r"(.+)-(\d+)-g(\w+)", described)
        try:
            return Version(f"{found[1]}.post{found[2]}.dev0+{found[3]}") if found else Version(described)
        except InvalidVersion:
            return Version(f"0.0.0.post0.dev0+{described}")


def record(text: str, commit: str, source: str) -> str:
    """An answers file that names a version, and where the template is."""
    now = yaml.safe_load(text) | {"_commit": commit, "_src_path": source}
    lines = re.sub(r"^(_commit|_src_path):.*\n(?:[ \t].*\n)*", "", text, flags=re.MULTILINE)
    comments = re.match(r"(?:#.*\n|\s*\n)*", lines)
    at = comments.end() if comments else 0
    noted = yaml.safe_dump({key: now[key] for key in ("_commit", "_src_path")}, allow_unicode=True, width=10**6)
    text = lines[:at] + noted + lines[at:]
    if yaml.safe_load(text) != now:
        raise Refusal(f"{source!r} can't be recorded among the answers: move the template to a plainer path")
    return text


# --- what a version makes ---


def unpack(ref: str, folder: Path) -> Path:
    """The template's files of a version, in a folder without git."""
    source = folder / "template"
    env = {"GIT_INDEX_FILE": str(folder / "index")}
    git("read-tree", ref, cwd=TEMPLATE, env=env)
    git("checkout-index", "--all", f"--prefix={source}/", cwd=TEMPLATE, env=env)
    return source


def lay_out(ref: str, answers: Mapping[str, Any], root: Path) -> None:
    """Let Copier make a project of a version of the template with these answers, in a new folder."""
    import copier

    with tempfile.TemporaryDirectory() as folder:
        source = unpack(ref, Path(folder))
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
        repository = line("rev-parse", "--absolute-git-dir", cwd=project.path)
        where = [f"--git-dir={repository}", f"--work-tree={work}", "-c", "core.fileMode=true"]
        git(*where, "add", "--force", "--all", "--", ".", cwd=root, env=env)
        stored = read_tree(project.path, git(*where, "write-tree", cwd=work, env=env).strip())
        tree = {path.removeprefix(project.prefix): entry for path, entry in stored.items()}
        tree = {path: entry for path, entry in tree.items() if path.rpartition("/")[2] != ".gitattributes"}
        for path, text in own.items():
            tree[path.relative_to(root).as_posix()] = ("100644", write_blob(project.path, text))
    tree.pop(project.answers_file, None)  # it's written by itself
    return tree


def template_paths(ref: str, answers: Mapping[str, Any] | None = None) -> set[str]:
    """Patterns of all paths that a version of the template can give to a project, whatever the answers.

    An answer that is given stands for itself in them; others for any name.
    """
    settings = yaml.safe_load(git("show", f"{ref}:copier.yml", cwd=TEMPLATE))
    suffix, root = settings.get("_templates_suffix", ".jinja"), settings.get("_subdirectory", "").strip("/")
    patterns = set()

    def name_for(expression: re.Match[str]) -> str:
        known = (answers or {}).get(expression[1].strip())
        return glob.escape(known) if isinstance(known, str) else "*"

    for source in listed(git("ls-tree", "-r", "-z", "--name-only", "--full-tree", ref, f"{root}/", cwd=TEMPLATE)):
        name = source.removeprefix(f"{root}/").removesuffix(suffix).replace("{{ _copier_conf.sep }}", "/")
        parts = re.split(r"{% if .*?%}(.*?){% endif %}", re.sub(r"{{(.*?)}}", name_for, name))
        for chosen in itertools.product((True, False), repeat=len(parts) // 2):
            path = "".join(part for i, part in enumerate(parts) if i % 2 == 0 or chosen[i // 2])
            if all(path.split("/")):  # a folder without a name is not made
                patterns.add(path.replace("./", "", 1) if path.startswith("./") else path)
    return patterns - {"*"}  # the answers file


def news(old: Version, new: Version) -> Iterator[str]:
    """What the CHANGELOG says of the versions after `old`, up to `new`, and of what is not released yet."""
    log = TEMPLATE / "CHANGELOG.md"
    for section in re.split(r"^(?=## )", log.read_text(encoding="utf-8"), flags=re.M)[1:] if log.exists() else ():
        name = section.split()[1]
        if new.is_devrelease if name == "Unreleased" else old < Version(name) <= new:
            yield section.strip()
