"""Changes to the owner's files that a version offers: an update reports them, only `--migrate` makes them."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT, command, copy, extension, git, in_project, mypy_cache, run, save, tree
from packaging.version import Version

pytestmark = pytest.mark.slow

FOLDERS = sorted((ROOT / "extensions" / "migrations").iterdir())
OWN = "# mine\nfrom my_project.__main__ import main\n\nassert main\n"
TESTS = ["test/test_mine.py", "test/test_test.py", "test/test_train.py"]
TRAINING = ["src/my_project/data/dataloader.py", "src/my_project/task.py"]
IMAGES = ["src/my_project/data/dataset.py"]


@pytest.fixture(scope="module")
def old(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of the first version, whose owner has a test that uses moved modules: read it, or copy it."""
    project = tmp_path_factory.mktemp("old") / "project"
    copy(template, project, "v0.1.0")
    (project / "test" / "test_mine.py").write_text(OWN)
    save(project, "mine")
    return project


@pytest.fixture
def project(old: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(old, tmp_path / "project"))


def updated(project: Path) -> str:
    said = command(project, "--defaults").stdout
    git("commit", "--quiet", "--message=update", cwd=project)
    return said


def migrate(project: Path, *words: str, ok: bool = True) -> str:
    done = command(project, "--migrate", *words, ok=ok)
    assert (done.returncode == 0) == ok
    return done.stdout + done.stderr


def changed(project: Path) -> list[str]:
    return git("diff", "--name-only", cwd=project).split()


def test_an_update_offers_changes_to_the_owners_files_and_makes_none(project: Path) -> None:
    before = tree(project)
    said = updated(project)
    for version, paths in (("v0.2.0", TESTS), ("v0.4.0", TRAINING), ("v0.8.0", IMAGES)):
        _, _, rest = said.partition(f"{version} can change these files of yours")
        assert rest.split("\n\n")[0].split(":\n")[1].split() == paths
    words = (ROOT / "extensions" / "migrations" / "v0.4.0" / "words.md").read_text().split("\n")[0]
    assert f"v0.4.0, what you can do by hand:\n    {words}" in said
    after = tree(project)
    assert all(after[path] == before[path] for path in [*TESTS, *TRAINING, *IMAGES])


def test_migrate_changes_files_of_the_owner_and_git_restores_them(project: Path) -> None:
    updated(project)
    before = tree(project)
    preview = migrate(project, "--preview")
    assert "+from my_project.cli import main" in preview
    assert tree(project) == before
    said = migrate(project)
    assert f"v0.2.0: {', '.join(TESTS)}\nv0.4.0: {', '.join(TRAINING)}\nv0.8.0: {IMAGES[0]}" in said
    assert changed(project) == sorted([*TESTS, *TRAINING, *IMAGES])
    assert (project / "test" / "test_mine.py").read_text() == OWN.replace("__main__", "cli")
    assert migrate(project).startswith("Nothing to change")
    git("restore", ".", cwd=project)
    assert tree(project) == before


def test_a_migrated_old_project_trains_and_passes_its_tests(project: Path) -> None:
    updated(project)
    migrate(project)
    in_project(project, "-m", "ruff", "check", ".")
    with mypy_cache() as cache:
        in_project(project, "-m", "mypy", "--cache-dir", cache)
    in_project(project, "-m", "pytest", "--quiet")
    loaders = """
import torch
from my_project.config import load
from my_project.options import Config
from my_project.task import Task
task = Task(load(Config, ["configs/train.yaml"]), torch.device("cpu"))
print(type(task.train_loader().sampler).__module__, type(task.eval_loader("valid").sampler).__name__)
"""
    assert in_project(project, "-c", loaders).stdout.split() == ["my_project.engine.sampler", "EvalSampler"]


@pytest.mark.parametrize(("file", "line"), [(TRAINING[0], "sampler: EpochSampler"), (TRAINING[1], "self.data.workers")])
def test_a_script_changes_no_file_with_unexpected_lines(file: str, line: str, project: Path) -> None:
    path = project / file
    path.write_text(path.read_text().replace(line, line.replace("sampler:", "order:").replace("self.data", "self.own")))
    save(project, "another loader")
    updated(project)
    migrate(project)
    assert changed(project) == [*IMAGES, *TESTS]


def test_a_migrated_project_does_not_open_postscript_called_png(project: Path, tmp_path: Path) -> None:
    updated(project)
    migrate(project)
    (tmp_path / "evil.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    read = "import sys, pathlib, PIL.EpsImagePlugin\nPIL.EpsImagePlugin.Ghostscript = lambda *_: sys.exit('started')\n"
    read += "from my_project.data.dataset import read_image\nread_image(pathlib.Path(sys.argv[1]), 20, 1)"
    done = in_project(project, "-c", read, tmp_path / "evil.png", ok=False)
    assert "evil.png: not an image" in done.stderr
    git("restore", ".", cwd=project)
    assert "started" in in_project(project, "-c", read, tmp_path / "evil.png", ok=False).stderr


def test_migrate_refuses_unstaged_changes_and_conflicts(project: Path) -> None:
    updated(project)
    (project / TESTS[0]).write_text(OWN * 2)
    before = tree(project)
    assert f"{TESTS[0]} has unstaged changes" in migrate(project, ok=False)
    assert tree(project) == before
    git("add", TESTS[0], cwd=project)
    migrate(project)
    assert (project / TESTS[0]).read_text().count("my_project.cli") == 2
    save(project, "two")
    for branch, text in (("theirs", "a\n"), ("mine", "b\n")):
        git("checkout", "--quiet", "-B", branch, "main~0" if branch == "theirs" else "theirs~1", cwd=project)
        (project / "README.md").write_text(text)
        save(project, branch)
    run("git", "merge", "theirs", cwd=project, ok=False)
    assert "unresolved conflicts" in migrate(project, ok=False)


def test_binary_files_links_and_submodules_are_left_out(project: Path, template: Path) -> None:
    (project / "test" / "test_bytes.py").write_bytes(OWN.encode() + b"\xff")
    (project / "test" / "test_link.py").symlink_to("test_mine.py")
    git("-c", "protocol.file.allow=always", "submodule", "add", "--quiet", template, "lib.py", cwd=project)
    save(project, "no text, a link, a submodule")
    updated(project)
    assert "test_link" not in migrate(project)
    assert (project / "test" / "test_link.py").is_symlink()
    assert changed(project) == sorted([*TESTS, *TRAINING, *IMAGES])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_migration_is_of_a_release_and_changes_no_new_project(
    folder: Path, releases: list[str], render: Callable[..., Path]
) -> None:
    assert folder.name in releases or Version(folder.name) > Version(releases[-1])
    found = extension("update.migrations")
    project = render()
    paths = [path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()]
    answers = extension("yaml").safe_load((project / ".copier-answers.yml").read_text())
    made = found.changes([folder], paths, partial(found.read_files, project), answers)
    assert made.new == {}
    assert all("its script" not in name for name in made.words)


def test_a_failing_script_does_not_stop_an_update(tmp_path: Path) -> None:
    (tmp_path / "migrate.py").write_text("FILES = ['**']\ndef migrate(files, answers):\n    return 1 / 0\n")
    made = extension("update.migrations").changes(
        [tmp_path], ["a.txt"], lambda paths: dict.fromkeys(paths, b"text"), {}
    )
    assert "division by zero" in made.words[f"{tmp_path.name} (its script)"]
    assert made.new == {}


def test_files_for_a_script_are_read_together_and_only_texts_given(tmp_path: Path) -> None:
    script = "FILES = ['*.txt']\ndef migrate(files, answers):\n    return {path: ' '.join(files) for path in files}\n"
    (tmp_path / "migrate.py").write_text(script)
    wanted = []

    def read(paths: list[str]) -> dict[str, bytes]:
        wanted.append(paths)
        return {"a.txt": b"text", "b.txt": b"text", "binary.txt": b"\xff"}  # one is missing

    paths = ["a.txt", "b.txt", "binary.txt", "missing.txt", "other.py"]
    made = extension("update.migrations").changes([tmp_path], paths, read, {})
    assert made.new == {"a.txt": "a.txt b.txt", "b.txt": "a.txt b.txt"}
    assert wanted == [paths[:4]]
