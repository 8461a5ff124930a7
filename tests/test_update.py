"""A project of an earlier version gets the template's changes and keeps its owner's work."""

import ast
import glob
import itertools
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from conftest import (
    EXTRAS,
    NEXT,
    ROOT,
    Render,
    command,
    copier_python,
    copier_update,
    copy,
    extension,
    git,
    in_project,
    of_the_day,
    pruned,
    run,
    save,
    tree,
    turn,
    unmerged,
    update,
)
from renders import FITS
from test_configs import KINDS

LATER = "v9999.0.1"
DEFAULT = "image_classification"
MANY = [
    {},
    {"components": "folder", "tracker": "tensorboard"},
    {"package_name": "own_name", "config_format": "ini", "license": "Apache-2.0"},
    {"components": "folder", "config_format": "py", "license": "none"},
]
slow = pytest.mark.slow
several = pytest.mark.parametrize(
    "answers",
    [pytest.param(answers, marks=slow if answers else ()) for answers in [*MANY, {"extras": EXTRAS}]],
    ids=lambda answers: " ".join(answers.values()) or "defaults",
)


MORE = [
    *({"data_kind": kind} for kind in KINDS),
    *({"extras": extra, "data_kind": FITS.get(extra, [DEFAULT])[0]} for extra in EXTRAS.split()),
    *({"tracker": tracker} for tracker in ("mlflow", "wandb", "trackio")),
    *({"ci": ci} for ci in ("gitlab", "none")),
]
EVERYTHING = {"extras": EXTRAS}
each_answers = pytest.mark.parametrize(
    "answers",
    [*of_the_day(MANY, 1), *(pytest.param(each, marks=pytest.mark.exhaustive) for each in [*MORE, EVERYTHING])],
    ids=lambda answers: " ".join(answers.values())[:30] or "defaults",
)


def edit(project: Path, package: str = "my_project") -> None:
    """Edit a project as its owner would: change some files, add one, delete one."""
    with (project / "README.md").open("a") as file:
        file.write("\nWritten by the owner.\n")
    with (project / "src" / package / "model" / "utils.py").open("a") as file:
        file.write("\n\nOWN = True\n")
    with (project / "Makefile").open("a") as file:
        file.write("\nown:\n\techo own\n")
    (project / "notes.txt").write_text("own\n")
    (project / "notebooks" / "1_tutorial.ipynb").unlink()
    save(project, "own work")


def assert_kept(project: Path, package: str = "my_project") -> None:
    assert (project / "README.md").read_text().endswith("\nWritten by the owner.\n")
    assert (project / "src" / package / "model" / "utils.py").read_text().endswith("\n\nOWN = True\n")
    assert (project / "Makefile").read_text().endswith("\nown:\n\techo own\n")
    assert (project / "notes.txt").read_text() == "own\n"
    assert not (project / "notebooks" / "1_tutorial.ipynb").exists()


def later(template: Path, folder: Path, change: Callable[[Path], object], small: bool = False) -> Path:
    """A clone of the template with a version after the work tree; `small`: with one kind of data, which is faster."""
    clone = folder / "template"
    if small:
        pruned(template, clone)
    else:
        git("clone", "--quiet", template, clone, cwd=folder)
    change(clone)
    save(clone, "later")
    git("tag", LATER, cwd=clone)
    return clone


def made(template: Path, project: Path, version: str = NEXT, **answers: str) -> Path:
    copy(template, project, version, **answers)
    save(project, "new project")
    return project


def accepting(releases: list[str], template: Path, answers: dict[str, str]) -> list[str]:
    """The versions that have these questions and accept these answers."""

    def accepts(version: str) -> bool:
        questions = yaml.safe_load(git("show", f"{version}:copier.yml", cwd=template))
        for question, answer in answers.items():
            choices = questions.get(question, {}).get("choices", [])
            values = choices.values() if isinstance(choices, dict) else choices
            if question not in questions or (values and not set(answer.split()) <= set(values)):
                return False
        return True

    return [version for version in releases if accepts(version)]


# --- from every release ---


def test_there_is_a_release(releases: list[str]) -> None:
    assert releases, "no commit has the subject `Release vX.Y.Z` yet"


@slow
@each_answers
def test_edits_survive_an_update_from_each_release(
    answers: dict[str, str], releases: list[str], template: Path, tmp_path: Path
) -> None:
    package = answers.get("package_name", "my_project")
    for version in accepting(releases, template, answers):
        project = made(template, tmp_path / version, version, **answers)
        edit(project, package)
        update(project)
        assert_kept(project, package)
        assert unmerged(project) == []
        assert yaml.safe_load((project / ".copier-answers.yml").read_text())["_commit"] == NEXT


def test_copier_update_does_the_same_from_the_last_release(releases: list[str], template: Path, tmp_path: Path) -> None:
    assert_the_same_by_copier(template, tmp_path, releases[-1])


@slow
@pytest.mark.parametrize("many", [1, pytest.param(99, marks=pytest.mark.exhaustive)])
def test_copier_update_does_the_same_from_older_releases(
    many: int, releases: list[str], template: Path, tmp_path: Path
) -> None:
    """From the first release, and from others that change daily."""
    older = releases[:-1]
    day = int(os.environ["SEED"]) // 1000
    for version in {older[0], *(older[(day + n) % len(older)] for n in range(min(many, len(older))))}:
        assert_the_same_by_copier(template, tmp_path / version, version)


def assert_the_same_by_copier(template: Path, folder: Path, version: str) -> None:
    """`copier update` of an edited project ends as `update` does, down to the index."""
    projects = [made(template, folder / name, version) for name in ("here", "copier")]
    for project, tool in zip(projects, (update, copier_update), strict=True):
        edit(project)
        tool(project)
        assert_kept(project)
    indexes = [git("ls-files", "--stage", cwd=project) for project in projects]
    assert indexes[0] == indexes[1]
    assert tree(projects[0]) == tree(projects[1])


@slow
@each_answers
def test_an_unedited_project_of_each_release_becomes_a_new_one(
    answers: dict[str, str], releases: list[str], template: Path, rules: ModuleType, tmp_path: Path
) -> None:
    """Except the files of the owner."""
    copy(template, tmp_path / "fresh", NEXT, **answers)
    fresh = tree(tmp_path / "fresh")
    for version in accepting(releases, template, answers):
        project = made(template, tmp_path / version, version, **answers)
        start = tree(project)
        assert ", changed answers" not in update(project).stdout
        now = tree(project)
        assert set(now) == set(fresh)
        for name, content in now.items():
            assert content == (start[name] if rules.is_owned(name) and name in start else fresh[name]), name


@several
def test_each_generated_file_is_at_a_path_that_an_update_expects(
    answers: dict[str, str], releases: list[str], template: Path, tmp_path: Path
) -> None:
    versions = extension("update.versions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "TEMPLATE", template)
        for version in [*releases, NEXT]:
            copy(template, tmp_path / version, version, **answers)
            patterns = versions.template_paths(version)
            expected = {path for p in patterns for path in glob.glob(p, root_dir=tmp_path / version)}
            assert set(tree(tmp_path / version)) - expected == {".copier-answers.yml"}


@several
def test_each_generated_file_has_an_owner(
    answers: dict[str, str], releases: list[str], template: Path, rules: ModuleType, tmp_path: Path
) -> None:
    for version in [*releases, NEXT]:
        copy(template, tmp_path / version, version, **answers)
        for name in tree(tmp_path / version):
            fitting = [p for p in rules.owners() if re.fullmatch(rules.regex(p), name)]
            longest = [p for p in fitting if len(p) == max(map(len, fitting))]
            assert len(longest) == 1, f"{name} of {version}: extensions/ownership.yml has {fitting or 'no line for it'}"


def test_each_line_of_the_ownership_list_has_a_reason_and_fits_a_file(render: Render, rules: ModuleType) -> None:
    lists = yaml.safe_load((ROOT / "extensions" / "ownership.yml").read_text())
    assert set(lists) == {"yours", "baseline"}
    answers = [*MANY, {"extras": EXTRAS, "ci": "gitlab"}, *({"data_kind": kind} for kind in KINDS)]
    names = {name for given in answers for name in tree(render(**given))}
    for reasons in lists.values():
        for pattern, reason in reasons.items():
            assert reason, pattern
            assert any(re.fullmatch(rules.regex(pattern), name) for name in names | {".copier-answers.yml"}), pattern


@pytest.mark.parametrize("answers", [{}, {"components": "folder", "extras": EXTRAS}, {"data_kind": "object_detection"}])
def test_two_pages_list_the_files_of_the_owner(render: Render, rules: ModuleType, answers: dict[str, str]) -> None:
    project = render(**answers)
    agents, updating = ((project / name).read_text() for name in ("AGENTS.md", "docs/updating.md"))
    listed = agents.partition("These files are the owner's")[2].partition("All other files")[0]
    row = next(line for line in updating.splitlines() if line.startswith("| yours |"))
    assert re.findall("`.+?`", row) == re.findall("`.+?`", listed)
    top, package = (re.findall("`(.+?)`", part) for part in listed.split("`src/my_project/`: "))
    named = tuple(top) + tuple(f"src/my_project/{name}" for name in package)
    empty = {f"src/my_project/{name}/__init__.py" for name in ("loss", "optim", "scheduler", "transforms")}
    for path in tree(project).keys() - empty:
        assert path.startswith(named) == rules.is_owned(path), path


@several
def test_paths_removed_since_a_release_are_declared_in_moves(
    answers: dict[str, str], releases: list[str], template: Path, rules: ModuleType, tmp_path: Path
) -> None:
    for before, after in itertools.pairwise([*releases, NEXT]):
        project, later = tmp_path / before / "project", tmp_path / before / "later"
        copy(template, project, before, **answers)
        recorded = yaml.safe_load((project / ".copier-answers.yml").read_text())
        known = {"extras": " ".join(recorded["extras"])} if "extras" in recorded else {}
        copy(template, later, after, **{**answers, **known})  # a path that an extra replaces doesn't count as removed
        moves = rules.declared(rules.Version(before), rules.Version(after))
        for name in set(tree(project)) - set(tree(later)):
            fitting = [m for m in moves if any(re.fullmatch(rules.regex(s), name) for s in m.sources)]
            assert fitting, f"{name} of {before} is not in {after}: declare it in extensions/moves.yml"
            assert all(m.target is None or m.follow(name) in tree(later) for m in fitting), name


EACH: dict[str, Any] = {
    **{extra: {"extras": extra} for extra in EXTRAS.split() if DEFAULT in FITS.get(extra, [DEFAULT])},
    **{tracker: {"tracker": tracker} for tracker in ("tensorboard", "mlflow", "wandb", "trackio")},
    **{ci: {"ci": ci} for ci in ("gitlab", "none")},
    "other name": {"package_name": "other"},
    "folder": {"components": "folder"},
    "ini": {"config_format": "ini"},
}


@turn(0, of=2)
def test_changed_answers_cause_no_conflict_in_an_unedited_project(
    releases: list[str], template: Path, tmp_path: Path
) -> None:
    """The owner's files are still those of the first version. Each day tests a third of the answers."""
    before = made(template, tmp_path / "before", releases[0])
    update(before)
    save(before, "updated")
    for name, answers in list(EACH.items())[int(os.environ["SEED"]) % 3 :: 3]:
        project = tmp_path / "project"
        shutil.copytree(before, project)
        update(project, **answers)
        assert unmerged(project) == [], name
        shutil.rmtree(project)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("edited", [False, True], ids=["unedited", "edited"])
def test_each_answer_fits_each_release_whose_tests_then_pass(
    edited: bool, name: str, releases: list[str], template: Path, tmp_path: Path
) -> None:
    for version in releases:
        project = made(template, tmp_path / version, version)
        if edited:
            edit(project)
        update(project)
        save(project, "updated")
        update(project, **EACH[name])
        assert unmerged(project) == [], version
        if edited:
            assert_kept(project, EACH[name].get("package_name", "my_project"))
        in_project(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test")


THERE = {
    "data_kind": "tabular",
    "package_name": "other",
    "components": "folder",
    "config_format": "ini",
    "tracker": "mlflow",
    "license": "Apache-2.0",
    "extras": EXTRAS,
    "ci": "gitlab",
}
FLIPPED: list[dict[str, Any]] = [  # the answers of each project at the start, and whether its owner edits it
    {"edited": False},
    {"edited": True},
    {"edited": True, "components": "folder", "config_format": "py", "extras": "export"},
    {"edited": False, "data_kind": "text_classification", "tracker": "tensorboard", "ci": "none"},
    {"edited": True, "data_kind": "time_series", "license": "none"},
]


@turn(1, of=2)
@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("start", of_the_day(FLIPPED, 1))
def test_answers_changed_and_changed_back_lose_no_line(
    start: dict[str, Any], rounds: int, template: Path, tmp_path: Path
) -> None:
    """One by one, and all at once."""
    answers = {key: value for key, value in start.items() if key != "edited"}
    project = made(template, tmp_path / "project", **answers)
    recorded = yaml.safe_load((project / ".copier-answers.yml").read_text())
    back = {key: " ".join(value) if isinstance(value := recorded[key], list) else value for key in THERE}
    if start["edited"]:
        edit(project)
    began = tree(project)
    for number in range(rounds):
        at_once = number % 2 == start["edited"]
        steps = [THERE, back] if at_once else [{key: a[key]} for key in THERE for a in (THERE, back)]
        for step in steps:
            done = update(project, ok=False, **step)
            assert unmerged(project) == [] or start["edited"], done.stdout
            for path in unmerged(project):  # this side has everything that the owner wrote
                git("checkout", "--ours", "--", path, cwd=project)
            save(project, str(step))
            if start["edited"]:
                assert_kept(project, yaml.safe_load((project / ".copier-answers.yml").read_text())["package_name"])
        if not start["edited"]:
            assert {name: content for name, content in tree(project).items() if content != began.get(name)} == {}
            assert set(began) == set(tree(project))


@slow
@pytest.mark.exhaustive
def test_extras_pass_their_tests_in_a_project_of_the_first_release(
    releases: list[str], template: Path, tmp_path: Path
) -> None:
    project = made(template, tmp_path / "project", releases[0])
    update(project)
    save(project, "updated")
    update(project, extras=EXTRAS, tracker="tensorboard")
    in_project(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test")


@slow
def test_changed_answers_reach_an_edited_file_of_an_older_version(
    releases: list[str], template: Path, tmp_path: Path
) -> None:
    """As a diff of the version that the file started from."""
    project = made(template, tmp_path / "project", releases[0])
    path = project / "test" / "test_dataloader.py"
    path.write_text("# mine\n" + path.read_text())
    save(project, "mine")
    update(project)
    save(project, "updated")
    update(project, package_name="other")
    assert unmerged(project) == []
    assert path.read_text().startswith("# mine\n")
    assert "my_project" not in path.read_text()


@slow
def test_what_the_next_version_changes_reaches_an_edited_project(template: Path, tmp_path: Path) -> None:
    def change(clone: Path) -> None:
        path = clone / "template" / "project" / "Makefile.jinja"
        path.write_text("# from the next version\n" + path.read_text())

    clone = later(template, tmp_path, change)
    project = made(clone, tmp_path / "project")
    edit(project)
    update(project, LATER)
    assert_kept(project)
    assert (project / "Makefile").read_text().startswith("# from the next version\n")


# --- ownership ---


@slow
def test_no_version_edits_removes_or_restores_files_of_the_owner(template: Path, tmp_path: Path) -> None:
    root = "template/project/{{image_classification}}"

    def change(clone: Path) -> None:
        (clone / "template/project/README.md.jinja").write_text("# other\n")
        for name in ("src/{{package_name}}/task.py", "src/{{package_name}}/model/cnn.py"):
            (clone / root / name).write_text("# other\n")
        (clone / root / "src/{{package_name}}/model/resnet.py").unlink()
        (clone / root / "src/{{package_name}}/model/new.py").write_text("# new\n")
        (clone / root / "src/{{package_name}}/model/own.py").write_text("# the template's\n")

    clone = later(template, tmp_path, change)
    project = made(clone, tmp_path / "project")
    model = project / "src" / "my_project" / "model"
    (model / "cnn.py").unlink()
    (model / "own.py").write_text("# own\n")
    save(project)
    before = tree(project)
    assert "kept as yours: it is yours" in command(project, "--explain", str(project / "README.md")).stdout
    said = update(project, LATER).stdout
    assert "4 kept as yours" in said
    after = tree(project)
    assert set(after) == {*before, "src/my_project/model/new.py"}
    assert {name for name in before if after[name] != before[name]} == {".copier-answers.yml"}


@slow
def test_a_deleted_file_stays_deleted_when_the_template_changes_it(template: Path, tmp_path: Path) -> None:
    """Also when the template moves it."""

    def change(clone: Path) -> None:
        for name in (".editorconfig", "docs/install.md.jinja"):
            with (clone / "template" / "project" / name).open("a") as file:
                file.write("\n# later\n")
        docs = clone / "template" / "project" / "docs"
        (docs / "faults.md").rename(docs / "errors.md")

    project = made(later(template, tmp_path, change), tmp_path / "project")
    git("rm", "--quiet", ".editorconfig", "docs/install.md", "docs/faults.md", cwd=project)
    save(project, "not needed")
    update(project, LATER)
    for name in (".editorconfig", "docs/install.md", "docs/faults.md", "docs/errors.md"):
        assert not (project / name).exists()


@slow
def test_a_new_file_is_not_written_through_an_ignored_link(template: Path, tmp_path: Path) -> None:
    def change(clone: Path) -> None:
        (clone / "template" / "project" / "more").mkdir()
        (clone / "template" / "project" / "more" / "new.md").write_text("later\n")

    project = made(later(template, tmp_path, change), tmp_path / "project")
    (project / "more").symlink_to("docs")
    (project / ".git" / "info" / "exclude").write_text("more\n")
    said = update(project, LATER).stdout
    assert "more/new.md was left out" in said
    assert not (project / "docs" / "new.md").exists()


@slow
def test_an_ignored_file_where_a_declared_move_leads_is_not_overwritten(template: Path, tmp_path: Path) -> None:
    project = made(template, tmp_path / "project", "v0.1.0")
    own = project / "src" / "my_project" / "cli.py"
    own.write_text("own\n")
    (project / ".git" / "info" / "exclude").write_text("cli.py\n")
    done = update(project, ok=False)
    assert done.returncode == 1
    assert "blocks src/my_project/cli.py" in done.stderr
    assert own.read_text() == "own\n"


def test_the_changelog_excerpt_has_the_sections_after_the_old_version() -> None:
    versions = extension("update.versions")
    news = versions.changelog_sections(versions.Version("0.4.0"), versions.Version("0.6.0"))
    assert [section.split()[1] for section in news] == ["v0.6.0", "v0.5.0"]


def test_an_edit_follows_a_move_though_a_new_file_has_the_old_path(template: Path, tmp_path: Path) -> None:
    project = made(template, tmp_path / "project", "v0.1.0")
    package = project / "src" / "my_project"
    text = (package / "__main__.py").read_text()
    (package / "__main__.py").write_text(text.replace('"""Train a model,', '"""OWN: train a model,', 1))
    save(project, "own work")
    update(project)
    assert (package / "cli.py").read_text().startswith('"""OWN: train a model,')
    assert "OWN" not in (package / "__main__.py").read_text()
    assert unmerged(project) == []


@slow
def test_a_moved_folder_includes_the_owners_files(template: Path, rules: ModuleType, tmp_path: Path) -> None:
    def change(clone: Path) -> None:
        folders = [*(clone / "template" / "project").rglob("visualization")]
        for folder in folders:
            folder.rename(folder.with_name("pictures"))
        moves = clone / "extensions" / "moves.yml"
        text = f"\n{LATER}:\n  - {{from: ['src/*/visualization/**'], to: 'src/*/pictures/**'}}\n"
        moves.write_text(moves.read_text() + text)
        lists = clone / "extensions" / "ownership.yml"
        lists.write_text(lists.read_text().replace("src/*/visualization/**", "src/*/pictures/**"))

    clone = later(template, tmp_path, change)
    project = made(clone, tmp_path / "project")
    package = project / "src" / "my_project"
    with (package / "visualization" / "plots.py").open("a") as file:
        file.write("\n\nOWN = True\n")
    (package / "visualization" / "own.py").write_text("from ..errors import UserError as UserError\n")
    (project / "test" / "test_own.py").write_text("import my_project.visualization.plots\n")
    save(project)
    said = update(project, LATER).stdout
    assert not (package / "visualization").exists()
    assert (package / "pictures" / "plots.py").read_text().endswith("\n\nOWN = True\n")
    assert (package / "pictures" / "own.py").read_text() == "from ..errors import UserError as UserError\n"
    assert (
        "my_project.visualization.plots is now my_project.pictures.plots; these files still use the old name: " in said
    )
    assert "test/test_own.py" in said


@slow
def test_a_custom_tracker_in_engine_still_works(template: Path, tmp_path: Path) -> None:
    project = made(template, tmp_path / "project", "v0.1.0", tracker="tensorboard")
    engine = project / "src/my_project/engine"
    (engine / "own.py").write_text("class Tracker:\n    def __init__(self, run, config):\n        print('own')\n")
    (engine / "tensorboard.py").write_text((engine / "tensorboard.py").read_text() + "\n\nOWN = True\n")
    save(project)
    update(project)
    assert (engine / "tracking" / "tensorboard.py").read_text().endswith("\n\nOWN = True\n")
    command = "from my_project.engine.tracking import open_tracker as o, Path; o('own', Path(), {})"
    assert in_project(project, "-c", command).stdout == "own\n"


# --- answers that shape paths ---


@slow
def test_another_package_name_moves_everything(template: Path, tmp_path: Path) -> None:
    project = made(template, tmp_path / "project")
    edit(project)
    (project / "src" / "my_project" / "own").mkdir()
    (project / "src" / "my_project" / "own" / "thing.py").write_text("OWN = 1\n")
    (project / "src" / "my_project" / "data" / "__init__.py").write_text("OWN = 1\n")  # empty: no rename to detect
    (project / "test" / "test_own.py").write_text("from my_project.own import thing\n")
    save(project)
    said = update(project, package_name="other").stdout
    assert unmerged(project) == []
    assert_kept(project, "other")
    assert not (project / "src" / "my_project").exists()
    assert (project / "src" / "other" / "own" / "thing.py").read_text() == "OWN = 1\n"
    assert (project / "src" / "other" / "data" / "__init__.py").read_text() == "OWN = 1\n"
    assert "from other.cli import main" in (project / "test" / "test_train.py").read_text()
    assert "my_project is now other; these files still use the old name: test/test_own.py" in said
    in_project(project, "-c", "import other.cli")


def weights(project: Path) -> dict[str, torch.Tensor]:
    """The weights after a short training with the owner's loss."""
    configs = ["configs/train.yaml", "configs/debug.yaml", "train.epochs=1"]
    in_project(project, "-m", "my_project", "train", *configs, "loss.name=own", "loss.args={}", "run.name=a-run")
    model: dict[str, torch.Tensor] = torch.load(project / "checkpoints/a-run/last.pt", weights_only=True)["model"]
    shutil.rmtree(project / "checkpoints/a-run")
    return model


@slow
def test_a_deleted_file_that_moved_does_not_come_back_at_its_old_path(
    releases: list[str], template: Path, tmp_path: Path
) -> None:
    """`__main__.py` of the first release is now `cli.py`, and there is a new `__main__.py`."""
    project = made(template, tmp_path / "project", releases[0])
    package = project / "src" / "my_project"
    (package / "__main__.py").unlink()
    save(project, "no command line")
    update(project)
    assert not (package / "cli.py").exists()
    assert not (package / "__main__.py").exists()


@slow
def test_a_package_that_the_owner_renamed_by_hand_is_the_same_package(template: Path, tmp_path: Path) -> None:
    project = made(template, tmp_path / "project")
    with (project / "src" / "my_project" / "task.py").open("a") as file:
        file.write("MINE = 1\n")
    (project / "src" / "my_project" / "model" / "mine.py").write_text("from my_project.task import MINE\n")
    git("mv", "src/my_project", "src/renamed", cwd=project)
    for path in [path for path in project.rglob("*") if path.is_file() and ".git" not in path.parts]:
        if path.name != ".copier-answers.yml" and b"my_project" in path.read_bytes():
            path.write_bytes(path.read_bytes().replace(b"my_project", b"renamed"))
    save(project, "another name")
    before = tree(project)
    said = update(project, package_name="renamed").stdout
    changed = {name for name in {**before, **tree(project)} if before.get(name) != tree(project).get(name)}
    assert changed == {".copier-answers.yml"}, said
    assert unmerged(project) == []


@slow
def test_a_module_with_a_syntax_error_moves_unchanged(template: Path, tmp_path: Path) -> None:
    project = made(template, tmp_path / "project")
    loss = project / "src" / "my_project" / "loss.py"
    loss.write_text(f"{loss.read_text()}from .errors import (\n")
    save(project)
    text = loss.read_text()
    update(project, components="folder")
    assert (project / "src" / "my_project" / "loss" / "focal.py").read_text() == text


@slow
def test_components_go_to_folders_and_back_with_the_owners_code(template: Path, tmp_path: Path) -> None:
    project = made(template, tmp_path / "project")
    own = "\n\nfrom .errors import UserError as UserError\n\n\n"
    own += "def own(logits, targets):\n    return logits.square().mean()\n"
    loss = project / "src" / "my_project" / "loss.py"
    # In another encoding, and with a form feed, which some tools treat as a line break.
    loss.write_text("# coding: latin-1\n# \f caf\u00e9\n" + loss.read_text() + own, encoding="latin-1")
    save(project)
    before, first = tree(project), weights(project)
    save(project, update(project, components="folder").stdout)
    assert (
        (project / "src/my_project/loss/focal.py")
        .read_text("latin-1")
        .endswith(own.replace("from .errors", "from ..errors"))
    )
    assert not loss.exists()
    second = weights(project)
    save(project, update(project, components="file").stdout)
    assert {name: content for name, content in tree(project).items() if name in before} == before
    assert git("ls-files", cwd=project).split("\n") == sorted(before)
    third = weights(project)
    for name, weight in first.items():
        assert torch.equal(weight, second[name])
        assert torch.equal(weight, third[name])


@slow
def test_a_component_folder_with_files_of_the_owner_stays_a_folder(template: Path, tmp_path: Path) -> None:
    project = made(template, tmp_path / "project", components="folder")
    (project / "src/my_project/loss/own.py").write_text("def own(logits, targets):\n    return logits.mean()\n")
    save(project)
    said = update(project, components="file").stdout
    assert "src/my_project/loss/ stays a folder because of src/my_project/loss/own.py" in said
    assert (project / "src/my_project/optim.py").exists()
    assert not (project / "src/my_project/loss.py").exists()
    known = "from my_project import components, loss; print(*components.defined_in(loss))"
    assert {"own", "FocalLoss"} <= set(in_project(project, "-c", known).stdout.split())


@slow
def test_joined_files_stay_separate_if_the_owner_changed_one(
    releases: list[str], template: Path, tmp_path: Path
) -> None:
    project = made(template, tmp_path / "project", "v0.1.0", components="folder")
    flip = project / "src/my_project/transforms/flip.py"
    flip.write_text(flip.read_text() + "\n\nOWN = 1\n")
    save(project)
    said = update(project).stdout
    names = sorted(path.name for path in flip.parent.iterdir())
    assert names == ["__init__.py", "affine.py", "erase.py", "flip.py"]
    assert flip.read_text().endswith("\n\nOWN = 1\n")
    assert "transforms/augment.py was not created" in said


@slow
def test_a_tracker_and_a_license_can_be_added_and_removed(template: Path, tmp_path: Path) -> None:
    project = made(template, tmp_path / "project")
    edit(project)
    before = tree(project)
    update(project, tracker="tensorboard", license="BSD-3-Clause")
    assert_kept(project)
    assert "tensorboard" in (project / "pyproject.toml").read_text()
    assert "BSD" in (project / "LICENSE").read_text()
    save(project)
    update(project, tracker="none", license="MIT")
    assert tree(project) == before


@slow
def test_extras_a_tracker_and_another_ci_can_be_added_and_removed(
    template: Path, releases: list[str], rules: ModuleType, tmp_path: Path
) -> None:
    project = made(template, tmp_path / "project", releases[-1])
    edit(project)
    update(project)
    save(project)
    before = tree(project)
    own = project / "src" / "my_project" / "commands" / "own.py"
    update(project, extras=EXTRAS, tracker="mlflow", ci="gitlab")
    assert_kept(project)
    assert unmerged(project) == []
    fresh = tmp_path / "fresh"
    copy(template, fresh, extras=EXTRAS, tracker="mlflow", ci="gitlab")
    changed = {
        "README.md",
        "Makefile",
        "src/my_project/model/utils.py",
        "notebooks/1_tutorial.ipynb",
        "configs/train.yaml",
    }
    now, new = tree(project), tree(fresh)
    assert set(new) - set(now) == {"notebooks/1_tutorial.ipynb"}
    other = {name for name in new if name in now and new[name] != now[name]}
    assert not [name for name in other - changed if not rules.is_owned(name)]  # those are of the last release
    assert not [name for name in now if name.startswith(".github/")]
    save(project)
    own.write_text("def add_to(add):\n    pass\n")
    save(project)
    update(project, extras="", tracker="none", ci="github")
    assert tree(project) == before | {"src/my_project/commands/own.py": tree(project)["src/my_project/commands/own.py"]}


@slow
def test_another_config_format_leaves_configs_and_explains_conversion(template: Path, tmp_path: Path) -> None:
    project = made(template, tmp_path / "project")
    train = project / "configs" / "train.yaml"
    train.write_text(re.sub(r"epochs: \d+", "epochs: 99", train.read_text()))
    (project / "configs" / "own.yaml").write_text("run:\n  seed: 7\n")
    save(project)
    before = {path.name: path.read_text() for path in train.parent.iterdir()}
    whole = ["-m", "my_project", "config", "--to", "yaml"]
    resolved = in_project(project, *whole, "configs/train.yaml", "configs/own.yaml").stdout
    assert "epochs: 99" in resolved
    for old, new in (("yaml", "ini"), ("ini", "json"), ("json", "py"), ("py", "yaml")):
        said = update(project, config_format=new).stdout
        now = {path.name: path.read_text() for path in train.parent.iterdir()}
        assert now == before
        assert f"configs/train.{new}" in (project / "Makefile").read_text()
        save(project, "updated")
        command = re.search(r"To convert them:\n(.*?)\n\n", said, re.DOTALL)
        assert command
        python = f"PYTHONPATH=src {shlex.quote(sys.executable)}"
        run("bash", "-ec", command[1].replace("      .venv/bin/python ", f"      {python} "), cwd=project)
        before = {path.name: path.read_text() for path in train.parent.iterdir()}
        assert sorted(before) == [f"{name}.{new}" for name in ("debug", "long", "own", "train")]
        files = [f"configs/{name}.{new}" for name in ("train", "own")]
        assert in_project(project, *whole, *files).stdout == resolved, f"{old} to {new}"
        save(project, "converted")


@slow
@pytest.mark.parametrize("known", [False, True], ids=["new to the template", "known to the old version"])
def test_another_kind_of_data_never_deletes_an_edited_file(known: bool, template: Path, tmp_path: Path) -> None:
    root = Path("template/project")

    def add_kind(clone: Path) -> None:
        kind = root / "{{toy}}"
        shutil.copytree(clone / root / "{{image_classification}}", clone / kind)
        shutil.copytree(clone / "template/kinds/image_classification", clone / "template/kinds/toy")
        model = clone / kind / "src/{{package_name}}/model"
        (model / "resnet.py").unlink()
        (model / "toy.py").write_text("TOY = 1\n")
        for name in ("cnn.py", "../task.py"):
            (model / name).write_text("# of toy\n" + (model / name).read_text().replace("\n", "  # toy\n", 30))
        settings = (clone / "copier.yml").read_text()
        settings = settings.replace('    "tabular: ', '    "toy: a kind of data": toy\n    "tabular: ')
        switch = "toy: {when: false, type: str, default: \"{% if data_kind == 'toy' %}.{% endif %}\"}\n"
        (clone / "copier.yml").write_text(settings + switch)

    clone = later(template, tmp_path, add_kind)
    target = LATER
    if known:
        save(clone, "later still")
        target = "v9999.0.2"
        git("tag", target, cwd=clone)
    project = made(clone, tmp_path / "project", LATER if known else NEXT)
    model = project / "src/my_project/model"
    for name in ("cnn.py", "resnet.py"):
        (model / name).write_text("# own\n" + (model / name).read_text())
    save(project)
    done = update(project, target, ok=False, data_kind="toy")
    assert done.returncode == 1
    assert "src/my_project/model/cnn.py" in unmerged(project)
    for name in ("cnn.py", "resnet.py"):
        assert "# own\n" in (model / name).read_text()
    assert (model / "toy.py").read_text() == "TOY = 1\n"
    assert (model.parent / "task.py").read_text().startswith("# of toy\n")


# --- conflicts ---


def test_a_conflict_is_marked_reported_and_in_the_exit_status(template: Path, tmp_path: Path) -> None:
    def change(clone: Path) -> None:
        path = clone / "template" / "project" / "setup.py"
        path.write_text(path.read_text().replace("\n", "  # template\n", 1))
        (clone / "template" / "project" / "scripts" / "run.sh.jinja").unlink()

    clone = later(template, tmp_path, change, small=True)
    project = made(clone, tmp_path / "project")
    for name in ("setup.py", "scripts/run.sh"):
        path = project / name
        path.write_text(path.read_text().replace("\n", "  # own\n", 1))
    save(project)
    before, status = tree(project), git("status", "--porcelain", cwd=project)
    done = copier_update(project, LATER, ok=False)
    assert done.returncode == 1
    assert unmerged(project) == ["scripts/run.sh", "setup.py"]
    text = (project / "setup.py").read_text()
    assert re.search(rf"^<<<<<<< yours\n.*  # own\n=======\n.*  # template\n>>>>>>> {LATER}\n", text, re.MULTILINE)
    assert "2 in conflict:" in done.stdout
    assert done.stdout.rstrip().endswith("The update is complete.)"), "or Copier's own last line looks like a crash"
    assert "git add setup.py" in done.stdout
    assert "git rm scripts/run.sh" in done.stdout
    [back] = re.findall(r"To undo: (.*)", done.stdout)
    run("sh", "-c", back, cwd=project)
    assert (tree(project), git("status", "--porcelain", cwd=project)) == (before, status)


@slow
def test_each_kind_of_conflict_is_reported_with_what_to_do(template: Path, tmp_path: Path) -> None:
    def change(clone: Path) -> None:
        sources = clone / "template" / "project"
        git("mv", sources / "docs/api.md.jinja", sources / "docs/reference.md.jinja", cwd=clone)
        (sources / "docs/faults.md").unlink()
        (sources / "setup.py").write_text((sources / "setup.py").read_text() + "# template\n")

    clone = later(template, tmp_path, change)
    project = made(clone, tmp_path / "project")
    git("mv", "docs/api.md", "docs/interface.md", cwd=project)
    git("mv", "docs/faults.md", "docs/mistakes.md", cwd=project)
    git("mv", "setup.py", "build.py", cwd=project)
    (project / "setup.py").symlink_to("build.py")
    (project / "build.py").write_text("# mine\n")
    save(project)
    before = tree(project)
    done = update(project, LATER, ok=False)
    assert done.returncode == 1
    for path, advice in (
        ("docs/interface.md", "you and the template moved it to different places"),
        ("docs/mistakes.md", "one moved it, the other removed it: git add docs/mistakes.md to keep it"),
        (f"setup.py~{LATER}", "one has a file, the other a link"),
    ):
        assert re.search(rf"^  {re.escape(path)}\n +{re.escape(advice)}", done.stdout, re.MULTILINE), done.stdout
    run("sh", "-c", re.findall(r"To undo: (.*)", done.stdout)[0], cwd=project)
    assert tree(project) == before


# --- in the project ---


@slow
def test_make_update_prints_what_is_new_and_updates(template: Path, tmp_path: Path) -> None:
    def change(clone: Path) -> None:
        log = clone / "CHANGELOG.md"
        head, _, rest = log.read_text().partition("\n## ")
        log.write_text(f"{head}\n## {LATER} (2100-01-01)\n\nThe moon is made of cheese.\n\n## {rest}")

    clone = later(template, tmp_path, change, small=True)
    project = made(clone, tmp_path / "project")
    command = ["make", "update", f"PYTHON={copier_python()}", "ARGS=--defaults"]
    said = run(*command, cwd=project).stdout
    assert said.index(f"## {LATER}") < said.index("The moon is made of cheese.") < said.index(f"{NEXT} → {LATER}")
    assert "v0.1.0 (" not in said
    save(project)
    assert "up to date" in run(*command, cwd=project).stdout
    answers = project / ".copier-answers.yml"
    answers.write_text(answers.read_text().replace(str(clone), str(tmp_path / "gone")))
    assert run(*command, cwd=project, ok=False).returncode != 0


@slow
@pytest.mark.parametrize("conflict", [False, True], ids=["clean", "in conflict"])
def test_the_workflow_opens_a_pull_request_with_the_report(conflict: bool, template: Path, tmp_path: Path) -> None:
    def change(clone: Path) -> None:
        path = clone / "template" / "project" / "setup.py"
        path.write_text(path.read_text().replace("\n", "  # template\n", 1))

    project = made(later(template, tmp_path, change, small=True), tmp_path / "project")
    if conflict:
        (project / "setup.py").write_text((project / "setup.py").read_text().replace("\n", "  # own\n", 1))
        save(project)
    git("clone", "--quiet", "--bare", project, tmp_path / "origin.git", cwd=tmp_path)
    git("remote", "add", "origin", tmp_path / "origin.git", cwd=project)
    other = tmp_path / "other"
    git("clone", "--quiet", tmp_path / "origin.git", other, cwd=tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gh").write_text(f'#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done > "{tmp_path}/pull"\n')
    (programs / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(str(copier_python()))} "$@"\n')
    for program in programs.iterdir():
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    workflow = yaml.safe_load((project / ".github" / "workflows" / "update.yml").read_text())
    assert workflow["permissions"] == {}
    assert workflow["jobs"]["update"]["permissions"] == {"contents": "read"}
    env: dict[str, Any] = {"PATH": f"{programs}:{os.environ['PATH']}", "RUNNER_TEMP": str(tmp_path)}
    env["GITHUB_OUTPUT"] = str(tmp_path / "output")

    def job(name: str, folder: Path, **more: Any) -> subprocess.CompletedProcess[str]:
        [script] = [step["run"] for step in workflow["jobs"][name]["steps"] if "\n" in step.get("run", "")]
        return run("bash", "-eo", "pipefail", "-c", script, cwd=folder, **env, **more)

    job("update", project)
    assert (tmp_path / "output").read_text() == f"version={LATER}\n"
    job("pull-request", other, VERSION=LATER)
    pull = (tmp_path / "pull").read_text().splitlines()
    assert pull[pull.index("--title") + 1] == ("[conflicts] " if conflict else "") + f"Template {LATER}"
    body = Path(pull[pull.index("--body-file") + 1]).read_text()
    assert f"{NEXT} → {LATER}" in body
    assert ("1 in conflict" in body) == conflict
    assert tree(other) == tree(project)
    pushed = git("show", f"template-{LATER}:setup.py", cwd=tmp_path / "origin.git")
    assert "# template" in pushed
    assert ("<<<<<<< yours" in pushed) == conflict
    (tmp_path / "pull").unlink()
    assert "already exists" in job("pull-request", other, VERSION=LATER).stdout
    assert not (tmp_path / "pull").exists(), "one pull request is enough"


@slow
def test_gitlab_opens_a_merge_request_with_the_report(template: Path, tmp_path: Path) -> None:
    def change(clone: Path) -> None:
        path = clone / "template" / "project" / "setup.py"
        path.write_text(path.read_text().replace("\n", "  # template\n", 1))

    project = made(later(template, tmp_path, change, small=True), tmp_path / "project", ci="gitlab")
    git("clone", "--quiet", "--bare", project, tmp_path / "origin.git", cwd=tmp_path)
    git("config", "receive.advertisePushOptions", "true", cwd=tmp_path / "origin.git")
    hook = tmp_path / "origin.git" / "hooks" / "pre-receive"
    hook.write_text(f'#!/bin/sh\nenv | grep ^GIT_PUSH_OPTION_ > "{tmp_path}/options"\n')
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(str(copier_python()))} "$@"\n')
    for program in (hook, tmp_path / "python"):
        program.chmod(0o755)
    jobs = yaml.safe_load((project / ".gitlab-ci.yml").read_text())
    env: dict[str, Any] = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TEMPLATE_UPDATE_TOKEN": "secret"}
    env |= {"CI_SERVER_PROTOCOL": "https", "CI_SERVER_HOST": "host.example", "CI_PROJECT_PATH": "a/b"}
    env |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{tmp_path}/origin.git.insteadOf"}
    env["GIT_CONFIG_VALUE_0"] = "https://oauth2:secret@host.example/a/b.git"
    run("bash", "-eo", "pipefail", "-c", "\n".join(jobs["update"]["script"][1:]), cwd=project, **env)
    git("reset", "--hard", "--quiet", cwd=project)
    [script] = jobs["merge-request"]["script"]
    run("bash", "-eo", "pipefail", "-c", script, cwd=project, **env)
    assert f"merge_request.title=Template {LATER}" in (tmp_path / "options").read_text()
    assert "# template" in git("show", f"template-{LATER}:setup.py", cwd=tmp_path / "origin.git")
    assert f"{NEXT} → {LATER}" in git("log", "-1", "--format=%b", f"template-{LATER}", cwd=tmp_path / "origin.git")
    assert "already exists" in run("bash", "-e", "-c", script, cwd=project, **env).stdout


@slow
def test_the_workflow_does_nothing_without_a_new_version(template: Path, tmp_path: Path) -> None:
    project = made(later(template, tmp_path, lambda clone: None, small=True), tmp_path / "project", LATER)
    workflow = yaml.safe_load((project / ".github" / "workflows" / "update.yml").read_text())
    [script] = [step["run"] for step in workflow["jobs"]["update"]["steps"] if step.get("id") == "update"]
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(str(copier_python()))} "$@"\n')
    (tmp_path / "python").chmod(0o755)
    env: dict[str, Any] = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RUNNER_TEMP": str(tmp_path)}
    said = run("bash", "-eo", "pipefail", "-c", script, cwd=project, GITHUB_OUTPUT=str(tmp_path / "output"), **env)
    assert "up to date" in said.stdout
    assert not (tmp_path / "output").exists()


@slow
def test_the_readme_shows_the_real_output_of_an_update(template: Path, tmp_path: Path) -> None:
    copier = tmp_path / "copier"
    copier.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m copier "$@"\n')
    copier.chmod(0o755)
    said = run("bench/transcript.sh", cwd=template, COPIER=str(copier)).stdout
    assert said in (ROOT / "README.md").read_text()


# --- what the scripts need ---


SCRIPTS = sorted(path.relative_to(ROOT / "extensions").as_posix() for path in (ROOT / "extensions").rglob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_scripts_import_only_copier_and_its_dependencies(name: str) -> None:
    beside = {"copier", "jinja2", "packaging", "pathspec", "plumbum", "yaml", "update", "adopting"}
    nodes = list(ast.walk(ast.parse((ROOT / "extensions" / name).read_text())))
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    assert {module.partition(".")[0] for module in modules} <= sys.stdlib_module_names | beside
    private = [ast.unparse(n) for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n).startswith("copier._")]
    assert not private


# --- releases ---


@slow
def test_a_shallow_clone_is_refused_with_advice(template: Path, tmp_path: Path) -> None:
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


# --- projects and runs of earlier versions ---


@slow
@pytest.mark.parametrize(
    "which", [*of_the_day(["first", "last"], 1), pytest.param("all others", marks=pytest.mark.exhaustive)]
)
def test_projects_of_each_release_pass_their_tests_and_resume_runs(
    which: str, releases: list[str], template: Path, tmp_path: Path
) -> None:
    quick = ["model.args.width=4", "run.device=cpu"]
    for version in {"first": releases[:1], "last": releases[-1:]}.get(which, releases[1:-1]):
        project = made(template, tmp_path / version, version)
        train = ["-m", "my_project", "train", "configs/train.yaml", *quick]
        in_project(project, *train, "run.name=whole", "train.epochs=2")
        in_project(project, *train, "run.name=stopped", "train.epochs=2", "scheduler.name=ConstantLR")
        for name, extra in (("before", []), ("stopped-early", ["scheduler.name=ConstantLR"])):
            in_project(project, *train, f"run.name={name}", "train.epochs=1", *extra)
        update(project)
        assert unmerged(project) == []
        in_project(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test")
        in_project(project, "-m", "my_project", "test", "before")
        in_project(project, "-m", "my_project", "train", "--resume", "stopped-early", "train.epochs=2")
        ends = [
            torch.load(project / "checkpoints" / name / "last.pt", weights_only=True)["model"]
            for name in ("stopped", "stopped-early")
        ]
        torch.testing.assert_close(*ends, rtol=0, atol=0)
        # Within an epoch too, though the project's old loaders can't save a position.
        stop = "import signal, sys, my_project.cli as c, my_project.engine.loop as l\n"
        stop += "step = l.train_step\n"
        stop += "def train_step(state, *rest):\n"
        stop += "    if state.step == 9: signal.raise_signal(signal.SIGTERM)\n"
        stop += "    return step(state, *rest)\n"
        stop += "l.train_step = train_step\nsys.exit(c.main(sys.argv[1:]))\n"
        arguments = [*train[2:], "run.name=middle", "train.epochs=2"]
        assert in_project(project, "-c", stop, *arguments, ok=False).returncode == 75
        in_project(project, "-m", "my_project", "train", "--resume", "middle")
        ends = [
            torch.load(project / "checkpoints" / name / "last.pt", weights_only=True)["model"]
            for name in ("whole", "middle")
        ]
        torch.testing.assert_close(*ends, rtol=0, atol=0)
