"""A project made by an earlier version takes over what changed, and keeps what its owner wrote."""

import re
import sys
from pathlib import Path

import copier
import yaml
from conftest import NEXT, copy, git, run, save, tree

CONFLICT = (b"\n<<<<<<< ", b"\n>>>>>>> ")


def edit(project: Path) -> None:
    """What an owner does: changes some files, adds one, deletes one."""
    config = project / "configs" / "train.yaml"
    config.write_text(re.sub(r"epochs: \d+", "epochs: 99", config.read_text()))
    with (project / "README.md").open("a") as file:
        file.write("\nWritten by the owner.\n")
    with (project / "src" / "my_project" / "model" / "cnn.py").open("a") as file:
        file.write("\n\nOWN = True\n")
    (project / "notes.txt").write_text("own\n")
    (project / "notebooks" / "1_tutorial.ipynb").unlink()
    save(project, "own work")


def update(project: Path, version: str) -> None:
    copier.run_update(project, defaults=True, overwrite=True, quiet=True, vcs_ref=version)
    for name, (content, _) in tree(project).items():
        assert not name.endswith(".rej"), name
        assert not any(mark in b"\n" + content for mark in CONFLICT), name


def assert_kept(project: Path) -> None:
    assert "epochs: 99" in (project / "configs" / "train.yaml").read_text()
    assert (project / "README.md").read_text().endswith("\nWritten by the owner.\n")
    assert (project / "src" / "my_project" / "model" / "cnn.py").read_text().endswith("\n\nOWN = True\n")
    assert (project / "notes.txt").read_text() == "own\n"
    assert not (project / "notebooks" / "1_tutorial.ipynb").exists()


def test_there_is_a_release(releases: list[str]) -> None:
    assert releases, "no commit has the subject `Release vX.Y.Z` yet"


def test_an_edited_project_of_each_release_updates_with_its_edits_kept(
    releases: list[str], template: Path, tmp_path: Path
) -> None:
    for version in releases:
        project = tmp_path / version
        copy(template, project, version)
        save(project, "new project")
        edit(project)
        update(project, NEXT)
        assert_kept(project)
        assert yaml.safe_load((project / ".copier-answers.yml").read_text())["_commit"] == NEXT


def test_an_untouched_project_of_each_release_becomes_what_a_new_one_is(
    releases: list[str], template: Path, tmp_path: Path
) -> None:
    fresh = tmp_path / "fresh"
    copy(template, fresh, NEXT)
    for version in releases:
        project = tmp_path / version
        copy(template, project, version)
        save(project, "new project")
        update(project, NEXT)
        assert tree(project) == tree(fresh)


def test_what_the_next_version_changes_reaches_an_edited_project(template: Path, project: Path, tmp_path: Path) -> None:
    clone = tmp_path / "template"
    git("clone", "--quiet", template, clone, cwd=tmp_path)
    with (clone / "template" / "project" / "Makefile.jinja").open("a") as file:
        file.write("\n# from the next version\n")
    save(clone)
    git("tag", "v9999.0.1", cwd=clone)
    answers = project / ".copier-answers.yml"
    answers.write_text(answers.read_text().replace(str(template), str(clone)))
    save(project)
    edit(project)
    update(project, "v9999.0.1")
    assert_kept(project)
    assert (project / "Makefile").read_text().endswith("\n# from the next version\n")


def test_a_shallow_clone_says_what_to_do(template: Path, tmp_path: Path) -> None:
    git("clone", "--quiet", "--depth=1", template.as_uri(), tmp_path / "shallow", cwd=tmp_path)
    done = run(sys.executable, "-m", "pytest", "-q", "tests/test_update.py", cwd=tmp_path / "shallow", ok=False)
    assert done.returncode == 2
    assert "git fetch --unshallow" in done.stdout


def test_tags_are_made_for_release_commits_only_and_never_moved(tmp_path: Path, template: Path) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "Makefile").write_bytes((template / "Makefile").read_bytes())
    for subject in ("start", "Release v0.1.0", "Release notes", "Release v0.2.0", "Revert Release v0.2.0"):
        save(repo, subject)
    run("make", "tags", cwd=repo)
    run("make", "tags", cwd=repo)
    assert git("tag", cwd=repo).split() == ["v0.1.0", "v0.2.0"]
    assert git("log", "-1", "--format=%s", "v0.2.0", cwd=repo) == "Release v0.2.0"
    git("tag", "--force", "v0.1.0", "HEAD", cwd=repo)
    assert run("make", "tags", cwd=repo, ok=False).returncode != 0
