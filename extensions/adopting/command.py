"""Adopt: from a project and a version of the template to a merge on a new branch."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from update.commands import parse
from update.git import Refusal, git
from update.versions import computed, unpack

from .guesses import guess
from .merge import merge, report, warn
from .project import ANSWERS, Found, check_way, look
from .proof import prove
from .render import accept, commit_render, record
from .template import Release, copy, lacks, source_of


def adopt(folder: Path, branch: str, version: Release, texts: list[str], defaults: bool, smoke: bool) -> int:
    """Merge a version of the template into a project; the exit status."""
    project = look(folder, branch, version.clone)
    settings = yaml.safe_load(git("show", f"{version.commit}:copier.yml", cwd=version.clone))
    questions = [key for key in settings if key[0] != "_" and key not in computed(settings)]
    data = parse(texts, version.commit)
    print(f"Answers for copier-torch {version.name}, and where they come from:\n")
    source = source_of(version.clone)
    with tempfile.TemporaryDirectory() as temporary:
        unpacked = unpack(version.commit, Path(temporary))
        guesses = accept(unpacked, questions, data, guess(project))
        if defaults and "data_kind" in questions and "data_kind" not in {**data, **guesses}:
            kinds = settings["data_kind"]["choices"]
            known = ", ".join(kinds.values() if isinstance(kinds, dict) else kinds)  # a list up to v0.6.1
            raise Refusal(f"what the project learns from can't be told: add -d data_kind=KIND, which is one of {known}")
        print("" if defaults else "\nThe questions start from these:\n")
        render = Path(temporary, "render")
        copy(unpacked, render, data=data, user_defaults=guesses, defaults=defaults)
        answers = record(render / ANSWERS, source, version)
        files = {project.prefix + f.relative_to(render).as_posix(): f for f in render.rglob("*") if f.is_file()}
        own = kept(project, files, answers["license"] == guesses.get("license"))
        files = {path: file for path, file in files.items() if path not in own}
        check_way(project, files)
        label = f"copier-torch/{answers['_commit']}"
        commit = commit_render(project, files, f"Render {label}", Path(temporary, "staged"))
    missing = lacks(source, version)
    conflicts, complaint = merge(project, branch, commit, label, files)
    try:
        report(project, branch, answers["_commit"], conflicts, complaint, own)
        warn(project, files)
        origin(version, source, missing)
        packages(project, answers, version.clone)
        works = prove(project, answers, not (conflicts or complaint), smoke)
    except (KeyboardInterrupt, Refusal) as error:
        print(f"\n{str(error) or 'Stopped'}; the merge stays.")
        works = False
    return 0 if works and not conflicts and not complaint else 1


def kept(project: Found, files: Iterable[str], same_license: bool) -> list[str]:
    """The owner's files that stay without a conflict: no code reads them, and nobody would give up theirs."""
    names = ["README.md", *(["LICENSE"] if same_license else [])]
    return [path for name in names if (path := project.prefix + name) in files and path in project.tracked]


def origin(version: Release, source: str, missing: bool) -> None:
    """Say where updates come from, and what is missing there."""
    print(f"\nLater, `copier update --trust` brings new versions there, from {source}.")
    if missing:
        print(f"That has no {version.name} yet, and needs it: git push origin {version.name}, in {version.clone}")


def packages(project: Found, answers: dict[str, Any], clone: Path) -> None:
    """Say where the owner's code is, and where the template's is that it goes to."""
    name = answers["package_name"]
    if f"{name}/__init__.py" in project.files:
        print(f"Your package stays in {name}/, the template's is src/{name}/: move what you keep there, with git mv.")
    print(f"How a training script of yours moves to src/{name}/, step by step: {clone / 'docs' / 'adopting.md'}")
