"""An existing project is adopted into the template, and its owner loses nothing."""

import contextlib
import importlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import copier
import pytest
import yaml
from conftest import NEXT, RENDERS, ROOT, command, git, in_terminal, run, save, tree

pytestmark = pytest.mark.slow

ANSWERS = ".copier-answers.yml"
GPL = (ROOT / "template" / "licenses" / "GPL-3.0-or-later.txt").read_text()
FLAT = {
    "README.md": "# Mine\n\nMy own words.\n",
    "setup.py": "from setuptools import setup\nNAME = 'tiny'\nsetup(name=NAME, author='Kim')\n",
    "tiny/__init__.py": "",
    "tiny/loss.py": "from tensorboardX import SummaryWriter\n",
    "config/a.json": "{}\n",
    "config/b.json": "{}\n",
    "config/b.yaml": "a: 1\n",
}


class Outcome(NamedTuple):
    """The exit status and the output of the command."""

    status: int
    out: str
    err: str


Adopt = Callable[..., Outcome]


GIVEN = ["--defaults", "-d", "data_kind=image_classification"]  # most projects here are too small for a guess


@contextlib.contextmanager
def imported(clone: Path) -> Iterator[None]:
    """Import the modules of the command from a clone of the template."""

    def taken() -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.partition(".")[0] in ("adopt", "adopting", "update")]
        return {name: sys.modules.pop(name) for name in names}

    before = taken()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(clone / "extensions")
            yield
    finally:
        taken()
        sys.modules.update(before)


def load(clone: Path, name: str = "adopting.command") -> ModuleType:
    """A module of the command."""
    with imported(clone):
        return importlib.import_module(name)


def call(clone: Path, *arguments: str | Path, part: str = "", **replaced: Any) -> Outcome:
    """Run the command with some names of one of its modules replaced."""
    out, err = io.StringIO(), io.StringIO()

    def from_renders(ref: str, given: Mapping[str, Any], root: Path, *_: Any) -> None:
        shutil.copytree(RENDERS.get(clone, ref, given), root, symlinks=True, dirs_exist_ok=True)

    with (
        imported(clone),
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        for name, value in replaced.items():
            patch.setattr(importlib.import_module(f"adopting.{part}"), name, value)
        patch.setattr(importlib.import_module("update.versions"), "lay_out", from_renders)  # for the trial update
        status = importlib.import_module("adopt").main([str(argument) for argument in arguments])
    return Outcome(status, out.getvalue(), err.getvalue())


@pytest.fixture
def adopt(template: Path) -> Adopt:
    """Adopt a project, with the guesses as answers."""
    return lambda *arguments: call(template, *GIVEN, *arguments)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Make a project of these files, by path, and commit them."""

    def made(files: dict[str, str], folder: str = "theirs") -> Path:
        project = tmp_path / folder
        for name, text in files.items():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).write_text(text)
        save(project, "own work")
        return project

    return made


def state(project: Path) -> tuple[Any, ...]:
    """Everything that adopting could change."""
    commands = [
        "symbolic-ref -q HEAD",
        "for-each-ref",
        "ls-files --stage -v",
        "status --porcelain --ignored",
        "stash list",
    ]
    said = [run("git", *command.split(), cwd=project, ok=False).stdout for command in commands]
    return (*said, tree(project))


def unmerged(project: Path) -> set[str]:
    return {line.split("\t")[1] for line in git("ls-files", "--unmerged", cwd=project).splitlines()}


def answers(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((project / ANSWERS).read_text())
    return found


def assert_refused(outcome: Outcome, *words: str) -> None:
    """Assert a refusal of one line that contains these words."""
    assert outcome.status == 2, outcome
    assert outcome.err.count("\n") == 1, outcome.err
    for word in ("Not adopted: ", *words):
        assert word in outcome.err


# --- guesses ---


def test_a_flat_package_with_a_setup_py_is_read_and_not_run(template: Path, make: Callable[..., Path]) -> None:
    project = make(FLAT | {"setup.py": FLAT["setup.py"] + "raise SystemExit('run')\n"})
    adopt = load(template)
    assert adopt.guess(adopt.inspect_project(project, "new", template)) == {
        "project_name": ("tiny", "name in setup.py"),
        "package_name": ("tiny", "folder tiny"),
        "description": (None, "nothing found"),
        "user_name": ("Kim", "author in setup.py"),
        "user_email": (None, "nothing found"),
        "license": ("none", "no license found"),
        "data_kind": (None, "nothing found"),
        "config_format": ("json", "2 of 3 config files"),
        "components": ("file", "tiny/loss.py"),
        "tracker": ("tensorboard", "tiny/loss.py"),
        "ci": (None, "nothing found"),
    }


def test_a_package_in_src_with_a_pyproject_is_read(template: Path, make: Callable[..., Path]) -> None:
    pyproject = """
        [project]
        name = "Tiny-Net"
        description = '''Tiny nets
          for {{ tiny }} "images"'''
        authors = [{name = "김민수", email = "kim@example.com"}]
        dependencies = ["torch"]
        optional-dependencies.dev = ["TensorBoard>=2"]
        """
    files = {
        "pyproject.toml": pyproject,
        "LICENSE.txt": (template / "template" / "licenses" / "Apache-2.0.txt").read_text(),
        "src/tiny_net/__init__.py": "",
        "src/tiny_net/losses/dice.py": "",
        "src/other/__init__.py": "",
        "tests/__init__.py": "",
        "conf/train.ini": "[a]\n",
        "conf/__init__.py": "",
    }
    adopt = load(template)
    assert adopt.guess(adopt.inspect_project(make(files), "new", template)) == {
        "project_name": ("Tiny-Net", "name in pyproject.toml"),
        "package_name": ("tiny_net", "folder src/tiny_net"),
        "description": ('Tiny nets for {{ tiny }} "images"', "description in pyproject.toml"),
        "user_name": ("김민수", "author in pyproject.toml"),
        "user_email": ("kim@example.com", "author in pyproject.toml"),
        "license": ("Apache-2.0", "LICENSE.txt"),
        "data_kind": (None, "nothing found"),
        "config_format": ("ini", "1 of 1 config files"),
        "components": ("folder", "src/tiny_net/losses/dice.py"),
        "tracker": ("tensorboard", "required in pyproject.toml"),
        "ci": (None, "nothing found"),
    }


def test_without_metadata_the_answers_come_from_folder_and_commits(template: Path, make: Callable[..., Path]) -> None:
    project = make({"main.py": "print('hi')\n"}, "my work")
    for name, email, times in (("Lee", "lee@example.com", 3), ("ci[bot]", "bot@example.com", 5)):
        for _ in range(times):
            git("commit", "-q", "--allow-empty", "-m", "x", f"--author={name} <{email}>", cwd=project)
    (project / "main.py").write_text("print('ho')\n")
    git("commit", "-qam", "x", "--author=Lee <lee@example.com>", cwd=project)
    (project / "main.py").write_text("print('hi')\n")
    git("commit", "-qam", "x", "--author=Lee <lee@example.com>", cwd=project)
    adopt = load(template)
    assert adopt.guess(adopt.inspect_project(project, "new", template)) == {
        "project_name": ("my work", "name of the folder"),
        "package_name": (None, "no package found"),
        "description": (None, "nothing found"),
        "user_name": ("Lee", "2 of 3 commits"),
        "user_email": ("lee@example.com", "2 of 3 commits"),
        "license": ("none", "no license found"),
        "data_kind": (None, "nothing found"),
        "config_format": (None, "nothing found"),
        "components": (None, "nothing found"),
        "tracker": (None, "nothing found"),
        "ci": (None, "nothing found"),
    }


@pytest.mark.parametrize(
    ("files", "question", "guess"),
    [
        ({"setup.cfg": "[metadata]\nname = x-y\nauthor-email = a@b.example\n"}, "project_name", "x-y"),
        ({"setup.cfg": "[metadata]\nname = attr: x.name\n"}, "project_name", "theirs"),
        ({"setup.cfg": "[metadata]\nauthor = A\nauthor_email = a@b.example\n"}, "user_email", "a@b.example"),
        ({"setup.cfg": "[options]\ninstall_requires =\n    torch\n    tensorboard\n"}, "tracker", "tensorboard"),
        ({"pyproject.toml": '[tool.poetry]\nauthors = ["A B <a@b.example>"]\n'}, "user_email", "a@b.example"),
        ({"pyproject.toml": '[tool.poetry]\ndependencies = {tensorboard = "*"}\n'}, "tracker", "tensorboard"),
        ({"pyproject.toml": '[project]\nname = "x"\nlicense = 1\n'}, "license", "none"),
        ({"setup.py": "from setuptools import *\nsetup(name=f())\nsetup(**x)\n"}, "project_name", "theirs"),
        ({"setup.py": "import setuptools\nsetuptools.setup(license='MIT License')"}, "license", "MIT"),
        ({"setup.py": "X = '\\d'\nsetup(name='x')"}, "project_name", "x"),
        ({"setup.py": "setup(license='GPL-3.0-only')"}, "license", "none"),
        ({"setup.py": "setup(license='GPL-3.0-only')", "COPYING": GPL}, "license", "none"),
        ({"pyproject.toml": '[project]\nlicense = {text = "BSD-3-Clause"}'}, "license", "BSD-3-Clause"),
        ({"LICENSE": "All mine."}, "license", "none"),
        ({"a/__init__.py": "", "b/__init__.py": ""}, "package_name", None),
        ({"a/__init__.py": "", "src/b/__init__.py": ""}, "package_name", "b"),
        ({"a/__init__.py": "", "theirs/__init__.py": ""}, "package_name", "theirs"),
        ({"models/__init__.py": "", "conf/__init__.py": ""}, "package_name", None),
        ({"configs/a.yml": "", "configs/deep/b.yaml": "", "configs/c.py": ""}, "config_format", "yaml"),
        ({"configs/a.toml": ""}, "config_format", None),
        ({"requirements-dev.txt": "torch\ntensorboard==2.1\n"}, "tracker", "tensorboard"),
        ({"a.py": "if True:\n    from torch.utils.tensorboard import SummaryWriter\n"}, "tracker", "tensorboard"),
        ({"a.py": "# from tensorboard\n"}, "tracker", None),
        ({"a.py": "import wandb\n"}, "tracker", "wandb"),
        ({"setup.cfg": "[options]\ninstall_requires =\n    mlflow-skinny\n"}, "tracker", "mlflow"),
        ({".gitlab-ci.yml": "test: {}\n"}, "ci", "gitlab"),
        ({".github/workflows/tests.yml": ""}, "ci", "github"),
    ],
)
def test_a_guess_is_right_or_none(
    files: dict[str, str], question: str, guess: str | None, template: Path, make: Callable[..., Path]
) -> None:
    adopt = load(template)
    project = adopt.inspect_project(make(files), "new", template)
    assert adopt.guess(project)[question][0] == guess


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", "[project\n"),
        ("pyproject.toml", '[project]\nname = "x"\nauthors = [3]\n'),
        ("setup.cfg", "name = x\n"),
        ("setup.py", "if True\n"),
        ("setup.py", "\0"),
        ("setup.py", "setup(name='x', install_requires=3)"),
    ],
)
def test_an_unreadable_file_is_named_and_left_out(
    name: str, text: str, template: Path, make: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    adopt = load(template)
    assert adopt.guess(adopt.inspect_project(make({name: text}), "new", template))["project_name"][0] == "theirs"
    assert f"  {name}: cannot be read, so it is not used for guesses: " in capsys.readouterr().out


def test_every_license_of_the_template_is_recognized(template: Path, make: Callable[..., Path]) -> None:
    adopt = load(template)
    for license in ("MIT", "Apache-2.0", "BSD-3-Clause", "GPL-3.0-or-later"):
        text = (template / "template" / "licenses" / f"{license}.txt").read_text()
        project = adopt.inspect_project(make({"LICENCE": text}, license), "new", template)
        assert adopt.guess(project)["license"] == (license, "LICENCE")


def test_a_guess_that_the_template_refuses_is_reported_and_not_used(adopt: Adopt, make: Callable[..., Path]) -> None:
    pyproject = '[project]\nname = "Big Net"\nauthors = [{name = "Kim", email = "root@localhost"}]\n'
    project = make({"pyproject.toml": pyproject, "src/BigNet/__init__.py": ""})
    outcome = adopt(project, "-d", "user_email=kim@example.com", "--data", "license=MIT")
    assert (
        "\n  package_name: big_net (the template's default; folder src/BigNet is 'BigNet', but use a-z, 0-9, _"
        in outcome.out
    )
    assert "\n  user_email: kim@example.com (given)\n" in outcome.out
    assert answers(project)["package_name"] == "big_net"
    assert answers(project)["user_email"] == "kim@example.com"


def test_several_extras_need_no_brackets(adopt: Adopt, make: Callable[..., Path]) -> None:
    project = make(FLAT)
    adopt(project, "-d", "extras=sweep,docker")
    assert answers(project)["extras"] == ["sweep", "docker"]


def test_an_answer_that_the_template_refuses_is_an_error(adopt: Adopt, make: Callable[..., Path]) -> None:
    project = make(FLAT)
    before = state(project)
    assert_refused(adopt(project, "-d", "package_name=Ä"), "package_name", "use a-z, 0-9, _")
    assert_refused(adopt(project, "-d", "licence=MIT"), "licence=MIT", "license")
    assert_refused(adopt(project, "-d", "license"), "KEY=VALUE")
    assert state(project) == before


def test_the_newest_release_is_that_of_the_highest_number(template: Path, tmp_path: Path) -> None:
    save(tmp_path)
    for tag in ("v0.9.0", "v0.10.0", "v0.2.0", "v1.0.0-rc1", "vintage"):
        git("tag", tag, cwd=tmp_path)
    assert load(template, "adopting.template").find_version(tmp_path.resolve(), None).name == "v0.10.0"


# --- adoption ---


def test_without_common_files_everything_is_merged(adopt: Adopt, make: Callable[..., Path], template: Path) -> None:
    mine = {"main.py": "print('hi')\n", "data/own.csv": "1\n", "tiny/__init__.py": "", ".gitignore.orig": "x\n"}
    project = make(mine)
    before, was = tree(project), git("rev-parse", "HEAD", cwd=project)
    outcome = adopt(project)
    assert outcome.status == 0, outcome
    assert git("rev-parse", "main", "HEAD^1", cwd=project).split() == [was, was]
    assert len(git("rev-list", "--parents", "-1", "HEAD", cwd=project).split()) == 3
    assert git("rev-list", "--count", "HEAD^2", cwd=project) == "1"
    assert git("log", "-1", "--format=%an %ae %s", cwd=project) == f"Test test@example.com Adopt copier-torch/{NEXT}"
    assert git("branch", "--show-current", cwd=project) == "copier-torch"
    assert git("status", "--porcelain", "--ignored", cwd=project) == ""
    assert git("for-each-ref", "--format=%(refname)", cwd=project).split() == [
        "refs/heads/copier-torch",
        "refs/heads/main",
    ]
    after = tree(project)
    assert before.items() <= after.items()
    given = {key: value for key, value in answers(project).items() if not key.startswith("_")}
    fresh = project.parent / "fresh"
    copier.run_copy(str(template), fresh, data=given, defaults=True, quiet=True, vcs_ref=NEXT)
    rendered = tree(fresh)
    assert {path for path in after if path not in before} == set(rendered)
    assert {path for path in rendered if after[path] != rendered[path]} == {ANSWERS}
    assert after["scripts/train.sh"][1]
    assert "Changed without a conflict" not in outcome.out


@pytest.fixture
def project(make: Callable[..., Path]) -> Path:
    """A project with 50 commits, files that the template has too, a binary file and ignored files."""
    more = {".gitignore": "*.pt\n", "docs/notes.md": "n\n", "Makefile": "all:\n\ttrue\n", "setup.py": ""}
    project = make(FLAT | more, "it's 나의")
    (project / "tiny" / "logo.png").write_bytes(bytes(range(256)))
    (project / "tiny" / "run.sh").write_text("#!/bin/sh\n")
    (project / "tiny" / "run.sh").chmod(0o755)
    git("add", "--all", cwd=project)
    git("commit", "--quiet", "--amend", "--no-edit", cwd=project)
    first = git("rev-parse", "HEAD", cwd=project)
    commits = "".join(
        f"commit refs/heads/main\ncommitter Kim <kim@example.com> {1_700_000_000 + number} +0900\ndata 4\nwork\n"
        f"{'' if number else f'from {first}'}\nM 644 inline tiny/model.py\ndata {4 + len(str(number))}\na = {number}\n"
        for number in range(49)
    ).replace("\n\nM", "\nM")
    subprocess.run(["git", "fast-import", "--quiet"], cwd=project, input=commits, text=True, check=True)
    git("reset", "--hard", "--quiet", cwd=project)
    (project / "model.pt").write_text("trained for days")
    return project


def test_history_is_kept_and_only_common_files_conflict(adopt: Adopt, project: Path) -> None:
    log, before = git("log", "--format=%H %s", cwd=project), tree(project)
    assert len(log.splitlines()) == 50
    outcome = adopt(project)
    assert outcome.status == 1
    both, merged = {"Makefile"}, {".gitignore", "setup.py"}
    assert "\nKept as yours: README.md. " in outcome.out
    assert "\nChanged without a conflict: .gitignore, setup.py\n" in outcome.out
    assert unmerged(project) == both
    assert all(f"\n    {path}\n" in outcome.out for path in both)
    assert git("log", "--format=%H %s", "main", cwd=project) == log
    assert git("diff", "--name-only", "--diff-filter=MD", "main", cwd=project).split() == sorted(both | merged)
    assert {path for path, content in before.items() if tree(project)[path] != content} == both | merged
    makefile = (project / "Makefile").read_text()
    assert "\n>>>>>>> copier-torch/" in makefile
    assert "all:\n\ttrue\n" in makefile
    assert (project / "README.md").read_text() == FLAT["README.md"]
    assert "Your package stays in tiny/, the template's is src/tiny/" in outcome.out

    git("checkout", "--ours", "--", *both, cwd=project)
    git("checkout", "main", "--", *merged, cwd=project)
    save(project, "adopted")
    assert git("merge-base", "main", "HEAD", cwd=project) == git("rev-parse", "main", cwd=project)
    assert {path: tree(project)[path] for path in before} == before


def test_the_printed_undo_commands_restore_the_project(adopt: Adopt, project: Path) -> None:
    git("checkout", "--quiet", "--detach", "HEAD~3", cwd=project)
    before = state(project)
    outcome = adopt(project, "--branch", "it's/new")
    assert outcome.status == 1, outcome
    folder = outcome.out.split("\nIn ")[1].split(", copier-torch ")[0]
    commands = outcome.out.split("To undo:\n\n")[1].split("\n\n")[0]
    run("sh", "-ec", f"cd {folder}\n{commands}", cwd=project.parent)
    assert state(project) == before


@pytest.fixture
def published(template: Path, tmp_path: Path) -> Path:
    """A clone of the template as a remote, in a folder with an unusual name."""
    clone = tmp_path / 'it\'s "the" 틀: of us' / "copier torch"
    git("clone", "--quiet", template, clone, cwd=tmp_path)
    git("remote", "remove", "origin", cwd=clone)
    return clone


def next_version(published: Path) -> None:
    with (published / "template" / "project" / "Makefile.jinja").open("a") as file:
        file.write("\n# from the next version\n")
    save(published)
    git("tag", "v9999.0.1", cwd=published)


def update(project: Path) -> None:
    copier.run_update(project, defaults=True, overwrite=True, quiet=True, unsafe=True, vcs_ref="v9999.0.1")
    assert answers(project)["_commit"] == "v9999.0.1"


def test_later_updates_reach_an_adopted_project_and_keep_edits(
    published: Path, make: Callable[..., Path], tmp_path: Path
) -> None:
    project = make(FLAT | {".gitignore": "*.pt\n", "docs/running.md": "As I do.\n"})
    git("clone", "--quiet", os.path.relpath(published, tmp_path), "clone", cwd=tmp_path)
    git("config", "remote.origin.url", os.path.relpath(published, tmp_path / "clone"), cwd=tmp_path / "clone")
    outcome = call(tmp_path / "clone", *GIVEN, project)
    assert outcome.status == 1
    assert f" new versions of the template from {published}.\n" in outcome.out
    assert answers(project)["_src_path"] == str(published)
    assert answers(project)["_commit"] == NEXT
    git("checkout", "--ours", "--", *unmerged(project), cwd=project)
    save(project, "adopted")
    before = tree(project)

    next_version(published)
    update(project)
    assert (project / "Makefile").read_text().endswith("\n# from the next version\n")
    changed = {path for path, content in tree(project).items() if before[path] != content}
    assert changed == {"Makefile", ANSWERS}


def test_a_folder_of_a_larger_repository_is_adopted_and_updated(published: Path, make: Callable[..., Path]) -> None:
    mine = {
        "README.md": "# All\n",
        "a b/나의/README.md": "# Mine\n",
        "a b/나의/Makefile": "all:\n",
        "a b/나의/tiny/__init__.py": "",
        "other/x.py": "x\n",
    }
    top = make(mine)
    project = top / "a b" / "나의"
    outcome = call(published, *GIVEN, project)
    assert outcome.status == 1, outcome
    assert unmerged(top) == {'"a b/\\353\\202\\230\\354\\235\\230/Makefile"'}
    assert "\n    Makefile\n" in outcome.out
    assert "\nKept as yours: README.md. " in outcome.out
    assert answers(project)["package_name"] == "tiny"
    outside = {path for path in tree(top) if not path.startswith("a b/나의/")}
    assert outside == {"README.md", "other/x.py"}
    git("checkout", "--theirs", "--", "Makefile", cwd=project)
    save(top, "adopted")

    next_version(published)
    update(project)
    assert (project / "Makefile").read_text().endswith("\n# from the next version\n")
    assert (project / "README.md").read_text() == "# Mine\n"
    assert {path for path in tree(top) if not path.startswith("a b/나의/")} == outside


# --- a trial update, and a step of training ---


def overlooked(project: Path) -> None:
    git("update-index", "--skip-worktree", "main.py", cwd=project)


def folder_for_a_file(project: Path) -> None:
    (project / "Dockerfile").mkdir()
    (project / "Dockerfile" / "cpu").write_text("FROM scratch\n")
    save(project)


def name_in_latin_1(project: Path) -> None:
    (project / os.fsdecode(b"caf\xe9.py")).write_text("")
    save(project)


WOULD_BE_REFUSED = [
    (overlooked, "main.py: skip-worktree is set", "git update-index --no-skip-worktree main.py"),
    (folder_for_a_file, "Dockerfile is a folder, but a file in the template: rename it", "git mv Dockerfile old"),
    (name_in_latin_1, "the file name is not UTF-8, which Copier needs", "git mv caf*.py cafe.py"),
]


@pytest.mark.parametrize("files", [{}, {"Makefile": "all:\n"}], ids=["merged", "in conflict"])
@pytest.mark.parametrize(("prepare", "words", "way_out"), WOULD_BE_REFUSED)
def test_what_would_block_a_later_update_is_reported_at_adoption(
    prepare: Callable[[Path], None],
    words: str,
    way_out: str,
    files: dict[str, str],
    published: Path,
    make: Callable[..., Path],
) -> None:
    project = make({"main.py": "", **files})
    prepare(project)
    outcome = call(published, *GIVEN, project)
    assert outcome.status == 1, outcome
    assert "\nA later update would be refused: " in outcome.out
    assert words in outcome.out
    for path in unmerged(project):
        git("checkout", "--theirs", "--", path, cwd=project)
    save(project, "adopted")
    refused = command(project, "--preview", ok=False)
    assert words in refused.stderr
    run("sh", "-ec", way_out, cwd=project)
    save(project, "the way out")
    assert "up to date" in command(project, "--preview").stdout


def test_files_of_the_owner_in_src_block_no_update(published: Path, make: Callable[..., Path]) -> None:
    project = make({"src/__init__.py": "", "src/train.py": "import torch\n", "src/data.csv": "1\n"}, "my first net")
    outcome = call(published, *GIVEN, project)
    assert outcome.status == 0, outcome
    assert "\nTrial update: a later update would not be refused.\n" in outcome.out
    next_version(published)
    update(project)
    assert (project / "Makefile").read_text().endswith("\n# from the next version\n")
    assert (project / "src" / "train.py").read_text() == "import torch\n"


@pytest.mark.parametrize("folder", ["it's 나의", pytest.param("of all/a part", marks=pytest.mark.exhaustive)])
def test_the_adopted_project_trains_a_step(folder: str, template: Path, make: Callable[..., Path]) -> None:
    top = make({f"{folder}/src/__init__.py": "", f"{folder}/model.py": "import torch\n"}, "top")
    outcome = call(template, *GIVEN, "--smoke", top / folder)
    assert outcome.status == 0, outcome
    assert re.search(r"\nSmoke run: a step of training and of validation, and a checkpoint: \S+ s\n$", outcome.out)
    assert git("status", "--porcelain", cwd=top) == ""


def test_a_failed_smoke_run_is_shown_and_the_merge_is_kept(template: Path, make: Callable[..., Path]) -> None:
    project = make({f"data/{split}/cat/1.png": "not a picture" for split in ("train", "valid", "test")})
    outcome = call(template, *GIVEN, "--smoke", project)
    assert outcome.status == 1, outcome
    assert "\nSmoke run: failed with exit status 2; the merge stays." in outcome.out
    assert "data/train/cat/1.png: not an image" in outcome.out
    assert git("log", "-1", "--format=%s", cwd=project) == f"Adopt copier-torch/{NEXT}"
    assert git("status", "--porcelain", cwd=project) == ""
    again = outcome.out.rstrip().rpartition(": ")[2]
    assert "not an image" in run("sh", "-c", again, cwd=project, ok=False).stderr


def test_without_torch_the_command_of_the_smoke_run_is_printed(
    template: Path, make: Callable[..., Path], tmp_path: Path
) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare", cwd=tmp_path)
    bare = str(tmp_path / "bare" / "bin" / "python")
    outcome = call(template, *GIVEN, "--smoke", make({"main.py": ""}), part="proof", pythons=lambda folder: [bare])
    assert outcome.status == 1, outcome
    assert "Smoke run: skipped, since no Python here has torch." in outcome.out
    assert "    make install\n    .venv/bin/python -P -m theirs train --smoke\n" in outcome.out


def test_after_conflicts_the_two_printed_checks_pass(template: Path, make: Callable[..., Path]) -> None:
    project = make({"Makefile": "all:\n", "LICENSE": "All mine.\n"})
    outcome = call(template, *GIVEN, "--smoke", project)
    assert outcome.status == 1, outcome
    assert "\nKept as yours: LICENSE. " in outcome.out
    assert "Smoke run" not in outcome.out
    git("checkout", "--theirs", "--", "Makefile", cwd=project)
    save(project, "adopted")
    train, preview = re.findall(r"^    (?:PYTHONPATH|python3).*", outcome.out, re.MULTILINE)
    assert "and a checkpoint: " in run("sh", "-ec", train, cwd=project).stdout
    assert preview == "    python3 scripts/update.py --preview"
    assert (project / "LICENSE").read_text() == "All mine.\n"


def test_ctrl_c_after_the_merge_keeps_it(template: Path, make: Callable[..., Path]) -> None:
    def stop(*_: object) -> str:
        raise KeyboardInterrupt

    project = make({"main.py": ""})
    outcome = call(template, *GIVEN, project, part="proof", refused=stop)
    assert outcome.status == 1, outcome
    assert outcome.out.endswith("\nStopped; the merge stays.\n")
    assert git("log", "-1", "--format=%s", cwd=project) == f"Adopt copier-torch/{NEXT}"


# --- where updates come from ---


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("https://github.com/them/copier-torch", "https://github.com/them/copier-torch"),
        ("https://kim:secret@example.com/torch", "git+https://example.com/torch"),
        ("https://token@example.com/torch.git", "https://example.com/torch.git"),
        ("ssh://git@example.com/torch.git", "ssh://git@example.com/torch.git"),
        ("ssh://git@example.com/torch", "git+ssh://git@example.com/torch"),
        ("git@example.com:torch", "git@example.com:torch"),
        ("kim@example.com:torch", "git+kim@example.com:torch"),
    ],
)
def test_the_origin_is_recorded_for_copier_without_a_password(
    url: str, source: str, template: Path, tmp_path: Path
) -> None:
    git("init", "--quiet", cwd=tmp_path)
    git("remote", "add", "origin", url, cwd=tmp_path)
    assert load(template).source_of(tmp_path) == source


def test_updates_work_from_a_bare_origin_and_name_a_missing_version(
    published: Path, make: Callable[..., Path], tmp_path: Path
) -> None:
    git("clone", "--quiet", "--bare", published, "bare", cwd=tmp_path)
    git("clone", "--quiet", "bare", "clone", cwd=tmp_path)
    git("tag", "--delete", NEXT, cwd=tmp_path / "bare")
    project = make({"main.py": ""})
    outcome = call(tmp_path / "clone", *GIVEN, project)
    source = answers(project)["_src_path"]
    assert source == f"git+{tmp_path}/bare"
    assert (
        f" from {source}.\nThe tag {NEXT} is missing there; in {tmp_path}/clone: git push origin {NEXT}\n"
        in outcome.out
    )
    git("push", "--quiet", "origin", NEXT, cwd=tmp_path / "clone")
    copier.run_copy(source, tmp_path / "copy", vcs_ref=answers(project)["_commit"], defaults=True, quiet=True)
    assert answers(tmp_path / "copy")["_commit"] == NEXT


def test_another_version_can_be_adopted(
    adopt: Adopt, template: Path, releases: list[str], make: Callable[..., Path]
) -> None:
    project = make({"main.py": ""})
    outcome = adopt(project, "--vcs-ref", releases[0])
    assert outcome.status == 0, outcome
    assert answers(project)["_commit"] == releases[0]
    assert_refused(adopt(make({"main.py": ""}, "other"), "--vcs-ref", "v0.0.0"), "--vcs-ref v0.0.0: unknown version")


def test_a_clone_without_the_tags_of_releases_says_how_to_make_them(template: Path, make: Callable[..., Path]) -> None:
    project = make({"main.py": ""})
    clone = project.parent / "clone"
    git("clone", "--quiet", "--no-tags", template, clone, cwd=project)
    assert_refused(call(clone, "--defaults", project), "make tags")
    shutil.rmtree(clone / ".git")
    assert_refused(call(clone, "--defaults", project), "not a clone")


# --- the owner's settings ---


def test_hooks_that_fail_do_not_run(adopt: Adopt, make: Callable[..., Path]) -> None:
    project = make({"main.py": ""})
    for hook in ("pre-commit", "pre-merge-commit", "commit-msg", "post-checkout", "reference-transaction"):
        (project / ".git" / "hooks" / hook).write_text("#!/bin/sh\nexit 1\n")
        (project / ".git" / "hooks" / hook).chmod(0o755)
    outcome = adopt(project)
    assert outcome.status == 0, outcome


def test_without_a_git_identity_everything_is_staged(
    adopt: Adopt, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make({"main.py": ""})
    git("config", "user.useConfigOnly", "true", cwd=project)
    with monkeypatch.context() as patch:
        for who in ("AUTHOR", "COMMITTER"):
            patch.delenv(f"GIT_{who}_NAME")
            patch.delenv(f"GIT_{who}_EMAIL")
        outcome = adopt(project)
    assert outcome.status == 1
    assert "Please tell me who you are" in outcome.out
    assert "Everything is staged. Fix this, then run: git commit --no-edit\n" in outcome.out
    assert unmerged(project) == set()
    git("commit", "--quiet", "--no-edit", cwd=project)
    assert git("log", "-1", "--format=%s%n%P", cwd=project).startswith("Adopt copier-torch/")
    assert git("status", "--porcelain", cwd=project) == ""


def test_line_endings_and_ignore_rules_of_the_owner_do_not_matter(
    adopt: Adopt, make: Callable[..., Path], template: Path, tmp_path: Path
) -> None:
    same = (template / "template" / "project" / "setup.py").read_text()
    project = make({"main.py": "", "setup.py": same})
    (tmp_path / "ignore").write_text("*.sh\ndocs/\n.copier*\n*.png\n")
    for key, value in (
        ("core.autocrlf", "true"),
        ("core.safecrlf", "true"),
        ("core.excludesFile", str(tmp_path / "ignore")),
        ("merge.ff", "only"),
        ("pull.twohead", "ours"),
        ("merge.renames", "false"),
        ("status.showUntrackedFiles", "no"),
    ):
        git("config", key, value, cwd=project)
    outcome = adopt(project)
    assert outcome.status == 0, outcome
    assert git("status", "--porcelain", "--untracked-files=all", cwd=project) == ""
    assert git("show", "HEAD:setup.py", cwd=project) == same.strip()
    assert b"\r" not in (project / "scripts" / "train.sh").read_bytes()
    assert b"\r\n" in (project / "docs" / "running.md").read_bytes()
    assert git("cat-file", "blob", "HEAD:docs/running.md", cwd=project).count("\r") == 0


def test_files_are_stored_by_the_owners_gitattributes(adopt: Adopt, make: Callable[..., Path]) -> None:
    """Tested with a base64 filter; a filter for large files would store pointers."""
    project = make({"main.py": "", "images/.gitattributes": "*.png filter=turn\n"})
    git("config", "filter.turn.clean", "base64", cwd=project)
    git("config", "filter.turn.smudge", "base64 --decode", cwd=project)
    git("config", "filter.turn.required", "true", cwd=project)
    outcome = adopt(project)
    assert outcome.status == 0, outcome
    assert git("status", "--porcelain", cwd=project) == ""
    assert git("cat-file", "blob", "HEAD:images/sample/two.png", cwd=project).startswith("iVBORw0K")
    assert (project / "images" / "sample" / "two.png").read_bytes().startswith(b"\x89PNG")


# --- refusals and failures ---


def no_repository(project: Path) -> None:
    shutil.rmtree(project / ".git")


def no_commit(project: Path) -> None:
    no_repository(project)
    git("init", "--quiet", cwd=project)


def changed(project: Path) -> None:
    (project / "main.py").write_text("changed")


def staged(project: Path) -> None:
    changed(project)
    git("add", "main.py", cwd=project)


def untracked(project: Path) -> None:
    git("config", "status.showUntrackedFiles", "no", cwd=project)
    (project / "new 나.py").write_text("new")


def merging(project: Path) -> None:
    git("checkout", "--quiet", "-b", "side", cwd=project)
    save(project, "side")
    git("checkout", "--quiet", "main", cwd=project)
    git("merge", "--quiet", "--no-ff", "--no-commit", "side", cwd=project)


def rebasing(project: Path) -> None:
    save(project, "more")
    run("git", "rebase", "--quiet", "--exec", "false", "HEAD~1", cwd=project, ok=False)


def made_already(project: Path) -> None:
    (project / ANSWERS).write_text("_commit: v1\n")
    save(project)


def branch_there(project: Path) -> None:
    git("branch", "copier-torch", cwd=project)


def branch_below(project: Path) -> None:
    git("branch", "copier-torch/side", cwd=project)


def in_the_way(project: Path) -> None:
    for name, text in (("pyproject.toml", ""), ("scripts", "a file"), ("LICENSE/MIT", "in a folder")):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    (project / "docs").symlink_to("..")
    (project / "notebooks").mkdir()
    save(project / "notebooks")  # as a repository in the repository
    save(project)
    git("update-index", "--skip-worktree", "pyproject.toml", cwd=project)
    (project / "pyproject.toml").write_text("local")
    (project / ".git" / "info" / "exclude").write_text("data/\nMakefile\nimages\n")
    (project / "data").mkdir()
    for name in ("data/README.md", "Makefile"):
        (project / name).write_text("mine")
    (project / "images").symlink_to("/nonexistent")


IN_THE_WAY = [
    "LICENSE (a folder)",
    "Makefile (git ignores it)",
    "data/README.md (git ignores it)",
    "docs (not a plain folder)",
    "images (not a plain folder)",
    "notebooks (not a plain folder)",
    "pyproject.toml (skip-worktree or assume-unchanged is set)",
    "scripts (not a plain folder)",
]


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (no_repository, ["git init, list data", "git add --all, git commit"]),
        (no_commit, ["no commit yet", "git add --all, git commit"]),
        (changed, ["(main.py)", "commit them"]),
        (staged, ["(main.py)", "commit them"]),
        (untracked, ["(new 나.py)", "git stash --include-untracked"]),
        (merging, ["finish or abort"]),
        (rebasing, ["finish or abort"]),
        (made_already, ["copier update"]),
        (branch_there, ["copier-torch", "--branch"]),
        (branch_below, ["copier-torch/side"]),
        (in_the_way, [", ".join(IN_THE_WAY), "git add --force"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_project_that_cannot_be_adopted_is_refused_unchanged(
    prepare: Callable[[Path], None], words: list[str], adopt: Adopt, make: Callable[..., Path]
) -> None:
    project = make({"main.py": "print('hi')\n"})
    prepare(project)
    before = state(project)
    assert_refused(adopt(project), *words)
    assert state(project) == before


def test_a_path_that_is_no_project_is_refused(
    adopt: Adopt, make: Callable[..., Path], template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make({"main.py": "", "LICENSE": "x"})
    git("clone", "--quiet", "--bare", project, "bare.git", cwd=tmp_path)
    (project / "empty").mkdir()
    assert_refused(adopt(tmp_path / "bare.git"), "bare")
    assert_refused(adopt(project / ".git"), "inside of .git")
    assert_refused(adopt(project / "main.py"), "not a folder")
    assert_refused(adopt(project / "none"), "not a folder")
    assert_refused(adopt(project / "empty"), "nothing of", "git init")
    assert_refused(adopt(template), "the template itself")
    assert_refused(adopt(project, "--branch", "a..b"), "--branch")
    assert_refused(call(template, project), "--defaults")
    monkeypatch.setenv("GIT_DIR", str(project / ".git"))
    assert_refused(adopt(project), "unset GIT_DIR")


def test_an_old_or_missing_git_is_refused(
    adopt: Adopt, make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, real = make({"main.py": ""}), shutil.which("git")
    old = tmp_path / "bin" / "git"
    old.parent.mkdir()
    old.write_text(f'#!/bin/sh\ncase "$*" in *version) echo git version 2.37.9;; *) exec {real} "$@";; esac\n')
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{old.parent}:{os.environ['PATH']}")
    assert_refused(adopt(project), "git 2.37", "2.38")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert_refused(adopt(project), "git not found")


def test_a_merge_that_fails_is_undone(adopt: Adopt, make: Callable[..., Path]) -> None:
    """A filter fails to write its files after git has written others."""
    project = make(FLAT | {"images/.gitattributes": "*.png filter=broken\n"})
    (project / ".git" / "info" / "exclude").write_text("docs/\n")
    git("config", "filter.broken.smudge", "false", cwd=project)
    git("config", "filter.broken.clean", "cat", cwd=project)
    git("config", "filter.broken.required", "true", cwd=project)
    before = state(project)
    outcome = adopt(project)
    assert outcome.status == 2, outcome
    assert "The merge was undone and the new branch deleted." in outcome.err
    assert state(project) == before


def test_a_merge_that_is_stopped_is_undone(template: Path, make: Callable[..., Path]) -> None:
    project, attempt = make(FLAT), load(template, "adopting.merge").attempt
    before = state(project)

    def stop(*arguments: str, **options: Any) -> Any:
        done = attempt(*arguments, **options)
        if "merge" in arguments and "--abort" not in arguments:
            raise KeyboardInterrupt
        return done

    outcome = call(template, *GIVEN, project, part="merge", attempt=stop)
    assert outcome.status == 2
    assert "The merge was undone" in outcome.err
    assert state(project) == before


# --- in a terminal ---


KINDS = {
    "language_modeling": {"train.py": "import tiktoken\n", "model.py": "class GPT: pass\n", "sample_gpt.py": ""},
    "object_detection": {"train.py": "from pycocotools.coco import COCO\nimport torchvision\n", "detect_yolo.py": ""},
    "image_segmentation": {"unet/unet_model.py": "", "train.py": "from unet import UNet\nimport torchvision\n"},
    "audio_classification": {"requirements.txt": "torch\nlibrosa==0.10\n", "train.py": "import librosa\n"},
    "image_classification": {"main.py": "from torchvision import datasets\n"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_of_data_is_guessed(kind: str, template: Path, make: Callable[..., Path]) -> None:
    project = make(KINDS[kind])
    outcome = call(template, "--defaults", project)
    assert answers(project)["data_kind"] == kind, outcome


def test_the_kind_of_data_is_guessed_from_the_folder_name_too(template: Path, make: Callable[..., Path]) -> None:
    project = make({"main.py": "import torch\n"}, "word_language_model")
    outcome = call(template, "--defaults", project)
    assert "data_kind: language_modeling (name of the folder)\n" in outcome.out
    assert answers(project)["data_kind"] == "language_modeling"


def test_an_unknown_kind_of_data_must_be_given(template: Path, make: Callable[..., Path]) -> None:
    assert_refused(
        call(template, "--defaults", make({"main.py": "import torch\n"})), "add -d data_kind=KIND", "tabular"
    )


def test_gitignore_has_the_lines_of_both_and_hidden_files_are_listed(make: Callable[..., Path], adopt: Adopt) -> None:
    project = make({"main.py": "", ".gitignore": "# mine\ndata/\n*.ckpt\n"})
    outcome = adopt(project)
    assert outcome.status == 0, outcome
    lines = (project / ".gitignore").read_text().splitlines()
    assert {"# mine", "data/", "*.ckpt"} <= set(lines)
    assert "/.venv/" in lines
    assert re.search(r"\.gitignore, line \d+: data/ also ignores src/theirs/data/\S+ and new files", outcome.out)


def adopt_in_terminal(clone: Path, project: Path, key: str) -> tuple[int, str]:
    return in_terminal([sys.executable, clone / "extensions" / "adopt.py", project], project, key)


def test_the_questions_start_from_the_guesses(template: Path, make: Callable[..., Path]) -> None:
    project = make({"main.py": "", "tiny/__init__.py": "", "conf/a.ini": ""}, "Tiny thing")
    status, seen = adopt_in_terminal(template, project, "\r")
    assert status == 0, seen
    assert answers(project)["project_name"] == "Tiny thing"
    assert answers(project)["package_name"] == "tiny"
    assert answers(project)["config_format"] == "ini"


def test_ctrl_c_at_a_question_changes_nothing(template: Path, make: Callable[..., Path]) -> None:
    project = make({"main.py": ""})
    before = state(project)
    status, seen = adopt_in_terminal(template, project, "\x03")
    assert status == 2
    assert "Stopped; nothing has changed." in seen
    assert "Traceback" not in seen
    assert state(project) == before


def test_the_help_explains_the_call_and_the_exit_status(template: Path) -> None:
    said = run(sys.executable, "extensions/adopt.py", "--help", cwd=template).stdout
    assert said.startswith("usage: python3 extensions/adopt.py [-h]")
    for words in ("--vcs-ref REF", "--data KEY=VALUE", "exit status:\n  0  merged\n"):
        assert words in said
