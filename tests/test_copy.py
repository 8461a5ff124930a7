"""A copy needs only Copier, and is reproducible."""

import itertools
import re
import sys
from pathlib import Path

import pytest
from conftest import NEXT, ROOT, Render, git, run, save, tree, with_copier

FORMATS = ["yaml", "json", "ini", "py"]
LAYOUTS = list(itertools.product(FORMATS, ["file", "folder"]))


def copier_copy(template: Path, project: Path, *options: str, program: Path | None = None) -> str:
    """Run the command, or this program of an environment, from another folder; returns its output."""
    command: list[str | Path] = ["copy", "--defaults", *options, template, project]
    where = project.parent
    done = run(program, *command, cwd=where) if program else with_copier("-m", "copier", *command, cwd=where)
    return done.stdout + done.stderr


def laid_out(project: Path) -> dict[str, tuple[bytes, int]]:
    """The files of a project, without version and address of the template in the answers file."""
    files = tree(project)
    answers, mode = files[".copier-answers.yml"]
    files[".copier-answers.yml"] = (re.sub(rb"(?m)^_(commit|src_path): .*\n", b"", answers), mode)
    return files


def install_copier(folder: Path, *options: str | Path) -> Path:
    """The program `copier` in a new environment of only Copier and what it needs: not even pip, which is slow."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    install: list[str | Path] = ["-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet"]
    run(sys.executable, *install, "--no-compile", *options, cwd=folder.parent)
    return folder / "bin" / "copier"


@pytest.mark.slow
def test_a_copy_needs_no_package_except_copier(template: Path, tmp_path: Path) -> None:
    program = install_copier(tmp_path / "venv", "--constraint", ROOT / "constraints.txt", "copier")
    said = copier_copy(template, tmp_path / "project", program=program)
    assert "warning" not in said.lower()
    assert (tmp_path / "project" / "pyproject.toml").is_file()


@pytest.mark.slow
def test_the_oldest_supported_copier_makes_the_same_project(plain: Path, render: Render, tmp_path: Path) -> None:
    (floor,) = [line for line in (ROOT / "copier.yml").read_text().splitlines() if "_min_copier_version" in line]
    version = floor.split('"')[1]
    program = install_copier(tmp_path / "venv", f"copier=={version}")
    copier_copy(plain, tmp_path / "project", program=program)
    assert laid_out(tmp_path / "project") == laid_out(render())


def test_the_commands_after_a_copy_commit_it_and_train(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = copier_copy(template, tmp_path / "my project")
    assert "warning" not in said.lower()
    first, *commands, last = said.strip().splitlines()[-5:]
    assert (first, last) == (f"cd '{tmp_path}/my project'", "make train")
    for part in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{part}_NAME", "A name")
        monkeypatch.setenv(f"GIT_{part}_EMAIL", "name@example.com")
    run("sh", "-ec", "\n".join((first, *commands)), cwd=tmp_path)
    assert not git("status", "--porcelain", cwd=tmp_path / "my project")
    assert git("log", "--format=%s", cwd=tmp_path / "my project") == "New project"


@pytest.mark.parametrize(("config_format", "components"), LAYOUTS)
def test_no_jinja_is_left_in_any_file_or_name(render: Render, config_format: str, components: str) -> None:
    project = render(config_format=config_format, components=components)
    marks = ("{%", "{#", "_copier_conf", ".jinja")
    for name, (content, _) in tree(project).items():
        assert not any(mark in name for mark in (*marks, "{{")), name
        if b"\0" in content:
            continue
        text = content.decode()
        if name.startswith(".github/"):
            text = text.replace("${{", "")  # expressions of GitHub Actions
        assert not any(mark in text for mark in marks), name
        assert "{{ " not in text, name


@pytest.mark.parametrize(("config_format", "components"), LAYOUTS)
def test_git_tracks_every_file_of_a_new_project(
    render: Render, tmp_path: Path, config_format: str, components: str
) -> None:
    project = render(config_format=config_format, components=components)
    git("init", "--quiet", tmp_path / "repo", cwd=tmp_path)
    git("--git-dir", tmp_path / "repo" / ".git", "--work-tree", project, "add", "--all", cwd=project)
    tracked = git("--git-dir", tmp_path / "repo" / ".git", "ls-files", "-z", cwd=project).strip("\0").split("\0")
    assert set(tracked) == set(tree(project))


@pytest.mark.slow
@pytest.mark.parametrize(("config_format", "components"), LAYOUTS)
def test_a_second_copy_is_identical(
    render: Render, plain: Path, tmp_path: Path, config_format: str, components: str
) -> None:
    first = render(config_format=config_format, components=components)
    options = ["--quiet", "-d", f"config_format={config_format}", "-d", f"components={components}"]
    assert copier_copy(plain, tmp_path / "project", *options) == ""
    assert laid_out(tmp_path / "project") == laid_out(first)


def test_python_files_of_the_package_are_copied_byte_for_byte(render: Render, template: Path) -> None:
    sources = {path.read_bytes() for path in (template / "template" / "project").rglob("src/**/*.py*")}
    for module in (render() / "src").rglob("*.py"):
        assert module.read_bytes() in sources, module


def test_only_scripts_are_executable(render: Render) -> None:
    executable = {name for name, (_, mode) in tree(render()).items() if mode}
    assert executable == {"scripts/train.sh", "scripts/test.sh", "scripts/run.sh", "scripts/slurm.sh"}


def test_a_path_that_renders_into_git_creates_no_hook(template: Path, tmp_path: Path) -> None:
    """A hook is a program that git runs, so a copy must not create one."""
    clone = tmp_path / "template"
    git("clone", "--quiet", template, clone, cwd=tmp_path)
    hook = clone / "template" / "project" / "{{ '.git' }}" / "hooks" / "post-checkout"
    hook.parent.mkdir(parents=True)
    hook.write_text("#!/bin/sh\n")
    save(clone)
    git("tag", "--force", NEXT, cwd=clone)
    project = tmp_path / "project"
    git("init", "--quiet", project, cwd=tmp_path)
    before = {path.name for path in (project / ".git" / "hooks").iterdir()}
    copier_copy(clone, project)
    assert {path.name for path in (project / ".git" / "hooks").iterdir()} == before


@pytest.mark.parametrize(
    "answer", ["package_name=../.git/hooks", "package_name=.git", "config_format=/../.git/hooks/x"]
)
def test_an_answer_that_would_shape_a_path_is_refused(plain: Path, tmp_path: Path, answer: str) -> None:
    done = with_copier("-m", "copier", "copy", "--defaults", "-d", answer, plain, "project", cwd=tmp_path, ok=False)
    assert done.returncode != 0
    assert list(tmp_path.iterdir()) == []
