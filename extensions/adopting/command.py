"""Adopt: from a project and a version of the template to a merge on a new branch."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from update.commands import parse_answers
from update.git import Refusal, git
from update.versions import computed, unpack

from .guesses import guess
from .merge import merge, print_ignored, report
from .project import ANSWERS, Candidate, check_paths, inspect_project
from .proof import verify
from .render import accepted_guesses, commit_render, record
from .template import Release, copy, lacks_tag, source_of


def adopt(folder: Path, branch: str, version: Release, texts: list[str], defaults: bool, smoke: bool) -> int:
    """Merge a version of the template into a project and return the exit status."""
    project = inspect_project(folder, branch, version.clone)
    settings = yaml.safe_load(git("show", f"{version.commit}:copier.yml", cwd=version.clone))
    questions = [key for key in settings if key[0] != "_" and key not in computed(settings)]
    data = parse_answers(texts, version.commit)
    print(f"Answers for copier-torch {version.name}, and where they come from:\n")
    source = source_of(version.clone)
    with tempfile.TemporaryDirectory() as temporary:
        unpacked = unpack(version.commit, Path(temporary))
        guesses = accepted_guesses(unpacked, questions, data, guess(project))
        if defaults and "data_kind" in questions and "data_kind" not in {**data, **guesses}:
            kinds = settings["data_kind"]["choices"]
            known = ", ".join(kinds.values() if isinstance(kinds, dict) else kinds)  # a list up to v0.6.1
            raise Refusal(f"the kind of data is unknown: add -d data_kind=KIND, where KIND is one of {known}")
        print("" if defaults else "\nThe questions, with these answers as defaults:\n")
        render = Path(temporary, "render")
        copy(unpacked, render, data=data, user_defaults=guesses, defaults=defaults)
        answers = record(render / ANSWERS, source, version)
        files = {project.prefix + f.relative_to(render).as_posix(): f for f in render.rglob("*") if f.is_file()}
        own = kept_files(project, files, answers["license"] == guesses.get("license"))
        files = {path: file for path, file in files.items() if path not in own}
        check_paths(project, files)
        label = f"copier-torch/{answers['_commit']}"
        commit = commit_render(project, files, f"Render {label}", Path(temporary, "staged"))
    missing = lacks_tag(source, version)
    conflicts, complaint = merge(project, branch, commit, label, files)
    try:
        report(project, branch, answers["_commit"], conflicts, complaint, own)
        print_ignored(project, files)
        print_source(version, source, missing)
        print_layout(project, answers, version.clone)
        works = verify(project, answers, not (conflicts or complaint), smoke)
    except (KeyboardInterrupt, Refusal) as error:
        print(f"\n{str(error) or 'Stopped'}; the merge stays.")
        works = False
    return 0 if works and not conflicts and not complaint else 1


def kept_files(project: Candidate, files: Iterable[str], same_license: bool) -> list[str]:
    """The owner's files that are kept without a conflict: no code reads them, and owners always keep theirs."""
    names = ["README.md", *(["LICENSE"] if same_license else [])]
    return [path for name in names if (path := project.prefix + name) in files and path in project.tracked]


def print_source(version: Release, source: str, missing: bool) -> None:
    """Print where updates come from, and a tag that is missing there."""
    print(f"\nLater, `copier update --trust` brings new versions of the template from {source}.")
    if missing:
        print(f"The tag {version.name} is missing there; in {version.clone}: git push origin {version.name}")


def print_layout(project: Candidate, answers: dict[str, Any], clone: Path) -> None:
    """Print where the owner's package is, and where its code should go."""
    name = answers["package_name"]
    if f"{name}/__init__.py" in project.files:
        print(f"Your package stays in {name}/, the template's is src/{name}/: move the files you keep with git mv.")
    print(f"How to move a training script to src/{name}/, step by step: {clone / 'docs' / 'adopting.md'}")
