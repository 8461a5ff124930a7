"""A cache of rendered projects in build/, and of compiled templates, for all workers and later runs of the tests.

`Renders` copies projects from the cache. `merge` updates a project by the template's script in this process, without
Copier's own changes, which the script reverts anyway. Both save a second per test; `copier_copy` and `copier_update`
in conftest.py run the real commands.
"""

import contextlib
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Mapping
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import copier
import jinja2
import pytest
import warm
import yaml

ANSWERS = ".copier-answers.yml"
SOURCES = ["copier.yml", "extensions", "template"]  # what a render depends on
FITS = {  # extras that only some kinds may have
    "timm": ("image_classification", "image_segmentation", "object_detection"),
    "labels": ("image_classification", "text_classification", "audio_classification"),
    "transformers": ("language_modeling", "text_classification", "audio_classification"),
}
TWO_DAYS = 2 * 24 * 3600


def git(*arguments: str, cwd: Path) -> str:
    return subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


class Renders:
    """The folder of the cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def clean(self) -> None:
        """Remove what no run has used for two days."""
        for path in self.folder.iterdir():
            if time.time() - path.lstat().st_mtime > TWO_DAYS:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def get(self, template: Path, version: str, answers: Mapping[str, Any]) -> Path:
        """A cached project, not to be changed. Its answers file has neither the version nor the template's path."""
        sources = git("ls-tree", version, *SOURCES, cwd=template)
        known = questions(template, sources, version)
        given = {key: value for key, value in answers.items() if key in known}
        if isinstance(given.get("extras"), str):  # a string of words, so that answers are hashable
            given["extras"] = [extra for extra in given["extras"].split() if extra in known["extras"]]
        kind = given.get("data_kind", "image_classification")
        if len(given.get("extras", [])) > 1:  # tests of all extras
            given["extras"] = [extra for extra in given["extras"] if kind in FITS.get(extra, [kind])]
        made = self.place(sources, given)
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=self.folder.parent) as temporary:
                lay_out(template, version, given, Path(temporary, "project"))
                recorded = yaml.safe_load(Path(temporary, "project", ANSWERS).read_text())
                keep(Path(temporary, "project"), made)
            whole = {key: value for key, value in recorded.items() if key in known}
            with contextlib.suppress(FileExistsError):
                self.place(sources, whole).symlink_to(made.name)
        os.utime(made, follow_symlinks=False)
        return made

    def place(self, sources: str, answers: Mapping[str, Any]) -> Path:
        key = json.dumps([sources, answers, copier.__file__, sys.version], sort_keys=True)
        return self.folder / hashlib.sha256(key.encode()).hexdigest()[:24]

    def copy(self, template: Path, version: str, answers: Mapping[str, Any], project: Path) -> None:
        """Create a project as `copier copy` does."""
        shutil.copytree(self.get(template, version, answers), project, symlinks=True, dirs_exist_ok=True)
        record(project, template, version)


@cache
def questions(template: Path, sources: str, version: str) -> dict[str, list[str]]:
    """The questions of a version, each with its choices."""
    settings = yaml.safe_load(git("show", f"{version}:copier.yml", cwd=template))
    choices = {key: about.get("choices", []) for key, about in settings.items() if not key.startswith("_")}
    return {key: list(of.values() if isinstance(of, dict) else of) for key, of in choices.items()}


config = cache(importlib.import_module("copier._template").load_template_config)


def lay_out(template: Path, version: str, answers: Mapping[str, Any], project: Path) -> None:
    source = unpacked(template, git("rev-parse", f"{version}^{{tree}}", cwd=template), version)
    worker: Any = importlib.import_module("copier._main").Worker
    render_template = worker._render_template

    def once(self: Any) -> None:
        """Compute what templates can refer to once, after the questions, instead of for each part of a path."""
        patch.setattr(worker, "answers_relpath", self.answers_relpath)
        context = self._render_context()
        patch.setattr(worker, "_render_context", lambda _: dict(context))
        render_template(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("copier._main.is_git_available", lambda: False, raising=False)  # called for each file
        patch.setattr(worker, "_render_template", once)
        patch.setattr("copier._template.load_template_config", lambda *file: deepcopy(config(*file)))
        copier.run_copy(str(source), project, data=dict(answers), defaults=True, quiet=True)


@cache
def unpacked(template: Path, tree: str, version: str) -> Path:
    """A version of the template as files, in a folder that is removed with those of the tests."""
    folder = Path(tempfile.mkdtemp())
    where = f"--git-dir={template / '.git'}", f"--work-tree={folder}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_INDEX_FILE", f"{folder}-index")
        git(*where, "checkout", "--quiet", version, "--", *SOURCES, cwd=folder)
    return folder


COMPILED: dict[tuple[Any, ...], types.CodeType] = {}
compile_source: Any = jinja2.Environment.compile


def compiled(
    environment: jinja2.Environment, source: str, name: str | None = None, filename: str | None = None
) -> types.CodeType:
    """Compile a Jinja template, once for all processes and later runs: most renders compile the same templates."""
    environment.preprocess(source, name)  # resets Copier's tag `yield` for each template
    settings = [item for item in vars(environment).items() if isinstance(item[1], str | bool | None)]
    about = (source, name, type(environment), *settings, *environment.extensions)
    if (filename, about) not in COMPILED:
        again = partial(compile_source, environment, source, name, filename)
        versions = jinja2.__version__, copier.__version__
        COMPILED[filename, about] = warm.kept(repr((versions, about)), filename or "<template>", again)
    return COMPILED[filename, about]


def keep(made: Path, place: Path) -> None:
    """Move a render into the cache, unless another worker was faster."""
    with contextlib.suppress(OSError):
        made.rename(place)
    assert place.exists()


def record(project: Path, template: Path, version: str) -> None:
    """Record the template's path and version in the answers file, as Copier does."""
    path = project / ANSWERS
    text, count = re.subn("^_src_path: .*", f"_commit: {version}\n_src_path: {template}", path.read_text(), flags=re.M)
    assert count == 1
    path.write_text(text)


# --- updates in this process ---


@cache
def scripts(clone: Path, sources: str) -> dict[str, ModuleType]:
    """The modules of the update, imported from a clone of the template, so that they read its files."""

    def taken() -> dict[str, ModuleType]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "update"}

    before = taken()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(clone / "extensions")
        importlib.import_module("update.commands")
    modules = taken()
    sys.modules.update(before)
    return modules


def merge(
    renders: Renders, project: Path, version: str, answers: Mapping[str, Any]
) -> "subprocess.CompletedProcess[str]":
    """Update a project with both stages of the template's script; of Copier's part, only the answers are written."""
    recorded = yaml.safe_load((project / ANSWERS).read_text())
    clone, old = Path(recorded["_src_path"]), recorded["_commit"]
    assert git("diff", "--stat", "HEAD", version, "--", *SOURCES, cwd=clone) == "", f"{clone} is at another version"
    env = {"VERSION_FROM": old, "VERSION_TO": version}
    env |= {"VERSION_PEP440_FROM": old.removeprefix("v"), "VERSION_PEP440_TO": version.removeprefix("v")}
    words, done = ["copier", ANSWERS, "inline", "[]"], []
    for stage in ("before", "after"):
        done.append(script(renders, clone, project, words, STAGE=stage, **env))
        if done[-1].returncode:
            break
        if stage == "before":
            shutil.copy(renders.get(clone, version, {**recorded, **answers}) / ANSWERS, project / ANSWERS)
            record(project, clone, version)
    said, complaint = ("".join(getattr(one, stream) for one in done) for stream in ("stdout", "stderr"))
    return subprocess.CompletedProcess(["update"], done[-1].returncode, said, complaint)


def script(
    renders: Renders, clone: Path, project: Path, words: list[str], **env: str
) -> "subprocess.CompletedProcess[str]":
    """Run the program `extensions/update` of a clone in a project, in this process and with cached renders."""
    modules = scripts(clone, git("ls-tree", "HEAD", *SOURCES, cwd=clone))

    def from_renders(ref: str, given: Mapping[str, Any], root: Path, *_: Any) -> None:
        shutil.copytree(renders.get(clone, ref, given), root, symlinks=True, dirs_exist_ok=True)

    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.chdir(project),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(modules["update.versions"], "lay_out", from_renders)
        for key, value in env.items():
            patch.setenv(key, value)
        modules["update.versions"].read_settings.cache_clear()  # as in a new process
        status = modules["update.commands"].main(words)
    return subprocess.CompletedProcess(["update", *words], status, out.getvalue(), err.getvalue())
