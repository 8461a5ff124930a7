"""Cases in which Copier alone silently loses an owner's work. `make losses` prints how each ends."""

import os
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from conftest import NEXT, copier_copy, copier_update, copy, git, pruned, save, tagged_clone, unmerged, update

LATER = "v9999.0.1"
PNG = b"\x89PNG\r\n\x1a\n\0%s\0"


@dataclass
class Case:
    """A change of the template, an earlier edit of the owner, and a check that the edit is kept.

    Attributes:
        name: as in docs/updating.md.
        change: turns the template's current version into the next one.
        edit: the owner's work in a project of the current version.
        kept: whether the work is still there, or in a conflict with a non-zero exit status.
        prepare: adds to the current version what the case needs.
        answers: new answers at the update.
    """

    name: str
    change: Callable[[Path], object]
    edit: Callable[[Path], object]
    kept: Callable[[Path, int], bool]
    prepare: Callable[[Path], object] = lambda template: None
    answers: dict[str, str] = field(default_factory=dict)


def append(path: Path, text: str) -> Path:
    with path.open("a") as file:
        file.write(text)
    return path


def replace(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def files(folder: Path) -> str:
    """The contents of all files of a project, to search for a line."""
    paths = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts]
    return "\n".join(path.read_bytes().decode(errors="replace") for path in paths)


SCRIPT = "scripts/train.sh"
SCRIPT_SOURCE = "template/project/scripts/train.sh.jinja"
BLOCK = "kind = 'conv'\nstride = 1\npadding = 1\nbias = true\nwidth = 8\ngroups = 1\ndilation = 1\nmode = 'zeros'\n"
BLOCKS = "\n".join(f"[block.{name}]\n{BLOCK}" for name in "abcdef")


def move_script(template: Path) -> None:
    (template / "template/project/bin").mkdir()
    (template / SCRIPT_SOURCE).rename(template / "template/project/bin/train.sh.jinja")


def add_blocks(template: Path) -> None:
    path = template / "template/project/blocks.toml"
    path.write_text(BLOCKS.replace("block.", "block.new_") + "\n" + path.read_text())


CASES = [
    Case(
        name="the template moves a file that the owner changed",
        change=move_script,
        edit=lambda project: append(project / SCRIPT, "echo own\n"),
        kept=lambda project, status: "echo own\n" in files(project),
    ),
    Case(
        name="the template removes a file that the owner changed",
        change=lambda template: (template / SCRIPT_SOURCE).unlink(),
        edit=lambda project: append(project / SCRIPT, "echo own\n"),
        kept=lambda project, status: "echo own\n" in files(project) and status != 0,
    ),
    Case(
        name="another package name, and a changed module",
        change=lambda template: None,
        edit=lambda project: append(project / "src/my_project/loss.py", "\n\nOWN = 1\n"),
        kept=lambda project, status: "OWN = 1\n" in (project / "src/own_name/loss.py").read_text(),
        answers={"package_name": "own_name"},
    ),
    Case(
        name="from `loss.py` to `loss/`, and a loss of the owner's",
        change=lambda template: None,
        edit=lambda project: append(project / "src/my_project/loss.py", "\n\nOWN = 1\n"),
        kept=lambda project, status: "OWN = 1\n" in files(project / "src"),
        answers={"components": "folder"},
    ),
    Case(
        name="both replaced a binary file",
        prepare=lambda template: (template / "template/project/docs/logo.png").write_bytes(PNG % b"first"),
        change=lambda template: (template / "template/project/docs/logo.png").write_bytes(PNG % b"second"),
        edit=lambda project: (project / "docs/logo.png").write_bytes(PNG % b"own"),
        kept=lambda project, status: (project / "docs/logo.png").read_bytes() == PNG % b"own" and status != 0,
    ),
    Case(
        name="repeated blocks, and a change in one of them",
        prepare=lambda template: (template / "template/project/blocks.toml").write_text(BLOCKS),
        change=add_blocks,
        edit=lambda project: (project / "blocks.toml").write_text(
            BLOCKS.replace("width = 8", "width = 99", 3).replace("width = 99", "width = 8", 2)
        ),
        kept=lambda project, status: (
            [
                name
                for name, block in tomllib.loads((project / "blocks.toml").read_text())["block"].items()
                if block["width"] == 99
            ]
            == ["c"]
        ),
    ),
    Case(
        name="a file of `_skip_if_exists` that the owner deleted",
        prepare=lambda template: append(template / "copier.yml", "\n_skip_if_exists: [setup.py]\n"),
        change=lambda template: append(template / SCRIPT_SOURCE, "\n# later\n"),
        edit=lambda project: (project / "setup.py").unlink(),
        kept=lambda project, status: not (project / "setup.py").exists(),
    ),
    Case(
        name="a new file where the owner has one that git ignores",
        change=lambda template: (template / "template/project/secrets.yml").write_text("template: 1\n"),
        edit=lambda project: (
            append(project / ".gitignore", "secrets.yml\n"),
            (project / "secrets.yml").write_text("own: 1\n"),
        ),
        kept=lambda project, status: (project / "secrets.yml").read_text() == "own: 1\n",
    ),
    Case(
        name="a file that the owner moved, and the template's change to it",
        change=lambda template: append(template / SCRIPT_SOURCE, "\n# later\n"),
        edit=lambda project: (project / SCRIPT).rename(project / "train-it.sh"),
        kept=lambda project, status: "# later\n" in files(project),
    ),
    Case(
        name="exit status when both changed the same line",
        change=lambda template: replace(template / SCRIPT_SOURCE, "set -euo pipefail", "set -eu"),
        edit=lambda project: replace(project / SCRIPT, "set -euo pipefail", "set -e"),
        kept=lambda project, status: status != 0 and unmerged(project) == [SCRIPT],
    ),
]


def is_kept(case: Case, template: Path, folder: Path, alone: bool) -> bool:
    """Run a case in a folder; returns whether the owner's work is kept.

    Args:
        template: a clone tagged as in conftest.py; it is copied.
        alone: update without the template's migration, as Copier does by itself.
    """
    clone, project = folder / "template", folder / "project"
    if alone:
        pruned(template, clone)
        settings = yaml.safe_load((clone / "copier.yml").read_text())
        assert settings.pop("_migrations")
        (clone / "copier.yml").write_text(yaml.safe_dump(settings, sort_keys=False))
    else:
        git("clone", "--quiet", template, clone, cwd=folder)
    case.prepare(clone)
    save(clone, "current")
    git("tag", "--force", NEXT, cwd=clone)
    (copier_copy if alone else copy)(clone, project, NEXT)
    save(project, "new project")
    case.edit(project)
    save(project, "own work")
    case.change(clone)
    save(clone, "later")
    git("tag", LATER, cwd=clone)
    done = (copier_update if alone else update)(project, LATER, ok=False, **case.answers)
    return case.kept(project, done.returncode)


def row(case: Case, alone: bool, ours: bool) -> str:
    words = {False: "lost", True: "kept"}
    return f"| {case.name} | {words[alone]} | {words[ours]} |"


def main() -> None:
    print("| case | Copier alone | with `extensions/update` |\n|---|---|---|")
    identity = {f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    os.environ |= identity | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    with tempfile.TemporaryDirectory() as place:
        template = Path(place, "copier-torch")
        tagged_clone(template)
        for case in CASES:
            outcome = []
            for alone in (True, False):
                with tempfile.TemporaryDirectory() as folder:
                    outcome.append(is_kept(case, template, Path(folder), alone))
            print(row(case, *outcome), flush=True)


if __name__ == "__main__":
    main()
