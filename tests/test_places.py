"""An update keeps the owner's work, wherever the project is and however git is configured."""

import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import NEXT, copier_update, copy, git, pruned, run, save, tree, unmerged, update, with_copier

pytestmark = pytest.mark.slow

LATER = "v9999.0.1"
SOURCES = "template/project/"


@pytest.fixture(scope="session")
def later(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A template whose next version changes, moves, adds and removes a file."""
    clone = pruned(template, tmp_path_factory.mktemp("later") / "template")
    with (clone / SOURCES / "Makefile.jinja").open("a") as file:
        file.write("\n# later\n")
    (clone / SOURCES / "bin").mkdir()
    git("mv", f"{SOURCES}scripts/train.sh.jinja", f"{SOURCES}bin/train.sh.jinja", cwd=clone)
    with (clone / SOURCES / "bin" / "train.sh.jinja").open("a") as file:
        file.write("# later\n")
    (clone / SOURCES / "NEW.md").write_text("later\n")
    (clone / SOURCES / "bin" / "new.sh").write_text("#!/bin/sh\n")
    (clone / SOURCES / "bin" / "new.sh").chmod(0o755)
    (clone / SOURCES / "setup.py").unlink()
    save(clone, "later")
    git("tag", LATER, cwd=clone)
    return clone


@pytest.fixture(scope="session")
def fresh(later: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of the previous version: read it, or copy it."""
    project = tmp_path_factory.mktemp("fresh") / "project"
    copy(later, project, NEXT)
    return project


@pytest.fixture
def project(fresh: Path, tmp_path: Path) -> Path:
    """The same, with the owner's changes, under version control."""
    return begun(fresh, tmp_path / "project")


def begun(fresh: Path, path: Path, top: Path | None = None) -> Path:
    """A project with the owner's changes, maybe in a folder of the repository `top`."""
    shutil.copytree(fresh, path)
    save(top or path, "new project")
    change(path)
    save(top or path, "own work")
    assert (path / ".git").exists() == (top is None)
    return path


def change(project: Path) -> None:
    """The owner's work: edits of a file that will move and of one that will change, and some ignored files."""
    for name in ("scripts/train.sh", "Makefile"):
        text = (project / name).read_text()
        (project / name).write_text(text.replace("\n", "\n# own\n", 1))
    (project / "own notes 메모.md").write_text("own\n")
    (project / ".venv").mkdir()
    (project / ".venv" / "python").write_text("ignored\n")
    (project / "checkpoints" / "best.pt").write_bytes(b"\0ignored")


def assert_updated(project: Path) -> None:
    """The project has both the next version and the owner's work."""
    makefile = (project / "Makefile").read_text()
    assert makefile.endswith("\n# later\n")
    assert "\n# own\n" in makefile
    assert "\n# own\n" in (project / "bin" / "train.sh").read_text()
    assert os.access(project / "bin" / "train.sh", os.X_OK)
    assert os.access(project / "bin" / "new.sh", os.X_OK)
    assert not (project / "scripts" / "train.sh").exists()
    assert not (project / "setup.py").exists()
    assert (project / "NEW.md").read_text() == "later\n"
    assert (project / "own notes 메모.md").read_text() == "own\n"
    assert (project / ".venv" / "python").read_text() == "ignored\n"
    assert (project / "checkpoints" / "best.pt").read_bytes() == b"\0ignored"
    assert unmerged(project) == []
    assert git("ls-files", "--others", "--exclude-standard", cwd=project) == ""
    assert git("diff", "--name-only", cwd=project) == "", "all is in the index"


def state(project: Path) -> tuple[object, ...]:
    """Everything that a failed update must not change: files, index, branches, HEAD."""
    where = ("rev-parse", "HEAD"), ("ls-files", "--stage"), ("for-each-ref",)
    return tree(project), links(project), *(git(*command, cwd=project) for command in where)


def links(project: Path) -> dict[str, str]:
    """The target of each link, and each file with mode 0600."""
    found = {path.relative_to(project).as_posix(): path for path in project.rglob("*") if ".git" not in path.parts}
    return {
        name: str(path.readlink()) if path.is_symlink() else "private"
        for name, path in found.items()
        if path.is_symlink() or (path.is_file() and not path.stat().st_mode & 0o077)
    }


def hide(project: Path) -> None:
    """Add ignored files at paths of the template: a private file, which the next version has too, and a link."""
    (project / ".git" / "info" / "exclude").write_text("NEW.md\n.editorconfig\n")
    (project / "NEW.md").write_text("ignored\n")
    (project / "NEW.md").chmod(0o600)
    git("rm", "--quiet", ".editorconfig", cwd=project)
    save(project, "own settings of editors")
    (project / ".editorconfig").symlink_to("docs/api.md")


# --- places ---


def test_the_report_has_the_changes_and_the_undo_command(project: Path) -> None:
    before = state(project)
    said = copier_update(project, LATER).stdout
    assert_updated(project)
    assert f"{NEXT} → {LATER}" in said
    for line in (
        "1 merged",
        "Makefile",
        "1 moved",
        "scripts/train.sh → bin/train.sh",
        "2 added",
        "1 removed",
        "setup.py",
    ):
        assert line in said, line
    [back] = re.findall(r"To undo: (.*)", said)
    run("sh", "-c", back, cwd=project)
    assert state(project) == before


def test_a_second_update_changes_nothing(project: Path) -> None:
    update(project, LATER)
    save(project, "updated")
    before = state(project)
    assert "nothing to do" in update(project, LATER).stdout
    assert state(project) == before


def test_in_a_folder_of_a_larger_repository(fresh: Path, tmp_path: Path) -> None:
    top = tmp_path / "large"
    (top / "neighbour").mkdir(parents=True)
    (top / "neighbour" / "Makefile").write_text("# not ours\n")
    (top / ".gitattributes").write_text("*.md text eol=lf\n")
    save(top)
    project = begun(fresh, top / "work" / "a [new] project", top)
    (top / "neighbour" / "Makefile").write_text("# staged\n")
    git("add", "neighbour", cwd=top)
    (top / "neighbour" / "untracked").write_text("")
    copier_update(project, LATER)
    assert_updated(project)
    assert git("status", "--porcelain", "--", "neighbour", cwd=top) == "M  neighbour/Makefile\n?? neighbour/untracked"
    assert (top / "neighbour" / "Makefile").read_text() == "# staged\n"


def test_in_a_worktree(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    git("worktree", "add", "--quiet", "-b", "other", other, cwd=project)
    before = state(project)
    (other / ".venv").mkdir()
    (other / ".venv" / "python").write_text("ignored\n")
    (other / "checkpoints" / "best.pt").write_bytes(b"\0ignored")
    update(other, LATER)
    assert_updated(other)
    assert state(project) == before


def test_with_a_submodule_and_files_that_a_filter_stores_elsewhere(project: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "file").write_text("a library\n")
    save(library)
    git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", library, "extern/library", cwd=project)
    # Like git-lfs: the repository holds a pointer, here the text upside down; the work tree holds the file.
    for way in ("clean", "smudge"):
        git("config", f"filter.upside.{way}", "tac", cwd=project)
    git("config", "filter.upside.required", "true", cwd=project)
    with (project / ".gitattributes").open("a") as file:
        file.write("Makefile filter=upside\n*.pt filter=upside\n")
    git("add", "--renormalize", ".", cwd=project)
    save(project, "filters")
    assert (
        git("show", "HEAD:Makefile", cwd=project).splitlines()[-1] == (project / "Makefile").read_text().splitlines()[0]
    )
    copier_update(project, LATER)
    assert_updated(project)
    assert (project / "extern/library/file").read_text() == "a library\n"
    assert git("submodule", "status", cwd=project)[0] != "+"


def test_without_an_identity(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for who in ("AUTHOR", "COMMITTER"):
        for what in ("NAME", "EMAIL"):
            monkeypatch.delenv(f"GIT_{who}_{what}")
    git("config", "user.useConfigOnly", "true", cwd=project)
    update(project, LATER)
    assert_updated(project)


def test_with_hooks_that_fail(project: Path) -> None:
    for name in (
        "pre-commit",
        "commit-msg",
        "post-checkout",
        "post-index-change",
        "reference-transaction",
        "pre-merge-commit",
    ):
        hook = project / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\nexit 1\n")
        hook.chmod(0o755)
    update(project, LATER)
    assert_updated(project)


def test_with_windows_line_endings(fresh: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(fresh, project)
    git("init", "--quiet", cwd=project)
    git("config", "core.autocrlf", "true", cwd=project)
    git("config", "core.safecrlf", "true", cwd=project)
    git("-c", "core.safecrlf=false", "add", ".", cwd=project)
    git("commit", "--quiet", "--message=new", cwd=project)
    git("rm", "--quiet", "--cached", "-r", ".", cwd=project)
    git("reset", "--quiet", "--hard", cwd=project)  # now with line ends of Windows
    change(project)  # Python writes them as it read them
    git("-c", "core.safecrlf=false", "add", ".", cwd=project)
    git("commit", "--quiet", "--message=own", cwd=project)
    update(project, LATER)
    assert_updated(project)
    assert b"\r\n" in (project / "Makefile").read_bytes()


def test_with_files_that_the_owner_converted_to_windows_line_endings(project: Path) -> None:
    text = (project / "Makefile").read_bytes().replace(b"\n", b"\r\n")
    (project / "Makefile").write_bytes(text)
    save(project, "line ends")
    done = update(project, LATER, ok=False)
    assert done.returncode == (1 if unmerged(project) else 0)
    assert b"# own" in (project / "Makefile").read_bytes()


def test_with_a_global_gitignore_that_hides_files_of_the_template(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ignore").write_text("*.png\nNEW.md\n.editorconfig\n.venv\n")
    (tmp_path / "config").write_text(f'[core]\n\texcludesFile = "{tmp_path / "ignore"}"\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    project = begun(fresh, tmp_path / "project")
    (project / ".editorconfig").write_text("# mine, and hidden\n")
    pictures = {name: content for name, content in tree(project).items() if name.endswith(".png")}
    assert pictures
    update(project, LATER)
    assert_updated(project)
    assert (project / ".editorconfig").read_text() == "# mine, and hidden\n"
    assert {name: content for name, content in tree(project).items() if name.endswith(".png")} == pictures


def test_with_spaces_and_korean_in_all_paths(later: Path, fresh: Path, tmp_path: Path) -> None:
    clone = tmp_path / "서식 1"
    git("clone", "--quiet", later, clone, cwd=tmp_path)
    project = tmp_path / "내 project's"
    shutil.copytree(fresh, project)
    answers = project / ".copier-answers.yml"
    answers.write_text(answers.read_text().replace(str(later), str(clone)))
    save(project)
    change(project)
    save(project, "own work")
    update(project, LATER)
    assert_updated(project)


def test_with_links_to_data_elsewhere(project: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "README.md").write_text("of the disk\n")
    (project / "data" / "train").symlink_to(tmp_path / "disk")
    copier_update(project, LATER)
    assert_updated(project)
    assert (project / "data" / "train" / "README.md").read_text() == "of the disk\n"


def test_from_a_template_that_is_fetched_from_a_server(
    later: Path, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPIER_CACHE_DIR", str(tmp_path / "cache"))
    git("clone", "--quiet", "--bare", later, tmp_path / "template.git", cwd=tmp_path)
    project = tmp_path / "project"
    shutil.copytree(fresh, project)
    answers = project / ".copier-answers.yml"
    answers.write_text(answers.read_text().replace(str(later), f"git+file://{tmp_path}/template.git"))
    save(project)
    change(project)
    save(project, "own work")
    copier_update(project, LATER)
    assert_updated(project)


def test_ignored_files_and_links_are_kept(project: Path) -> None:
    hide(project)
    before = links(project)
    assert before == {"NEW.md": "private", ".editorconfig": "docs/api.md"}
    said = copier_update(project, LATER).stdout
    assert links(project) == before
    assert (project / "NEW.md").read_text() == "ignored\n"
    assert "NEW.md was left out: NEW.md exists and is ignored by git" in said


def test_with_files_and_packages_of_the_owner_in_src(project: Path) -> None:
    for name in ("tools.py", "__init__.py", "other/task.py/notes.txt", "other/engine"):
        path = project / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("own\n")
    save(project, "own modules")
    update(project, LATER)
    assert_updated(project)
    assert (project / "src" / "other" / "task.py" / "notes.txt").read_text() == "own\n"


# --- what the owner does while it runs, and afterwards ---


def begin(project: Path, *options: str) -> tuple[subprocess.Popen[bytes], Path]:
    """Start `copier update` and wait until it prints how to undo it. Returns the process and its output file."""
    said = project.parent / "said"
    command = [sys.executable, "-m", "copier", "update", "--trust", "--defaults", "--quiet", "--vcs-ref", LATER]
    command += options
    with said.open("w") as file:
        process = subprocess.Popen(command, cwd=project, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    while process.poll() is None and "undo it with" not in said.read_text():
        time.sleep(0.01)
    return process, said


def test_files_saved_during_the_update_are_kept_and_reported(project: Path) -> None:
    (project / "results.csv").write_text("epoch,acc\n")
    save(project, "results")
    process, said = begin(project)
    with (project / "results.csv").open("a") as file:
        file.write("1,0.9\n")
    (project / "notes: new?.txt").write_text("new\n")
    assert process.wait() == 0, said.read_text()
    assert "Changed during the update and left as is: notes: new?.txt, results.csv" in said.read_text()
    assert_own_work(project)
    assert (project / "NEW.md").is_file()
    run("sh", "-c", said.read_text().split("To undo: ")[1].splitlines()[0], cwd=project)
    assert_own_work(project)
    assert git("status", "--porcelain", cwd=project).splitlines() == ["M results.csv", '?? "notes: new?.txt"']


def test_a_moved_file_saved_meanwhile_is_kept_and_stops_the_update(project: Path) -> None:
    own = project / "src" / "my_project" / "own.py"
    own.write_text("OWN = 1\n")
    save(project, "own module")
    process, said = begin(project, "--data=package_name=other")
    own.write_text("OWN = 2\n")
    assert process.wait() == 1
    assert "src/my_project/own.py was changed during the update: commit it, then update again" in said.read_text()
    assert own.read_text() == "OWN = 2\n"
    assert git("status", "--porcelain", cwd=project) == "M src/my_project/own.py"


def assert_own_work(project: Path) -> None:
    assert (project / "results.csv").read_text() == "epoch,acc\n1,0.9\n"
    assert (project / "notes: new?.txt").read_text() == "new\n"


def test_the_undo_command_works_after_a_conflict_in_a_moved_file(project: Path) -> None:
    with (project / "scripts" / "train.sh").open("a") as file:
        file.write("# mine\n")
    save(project, "mine")
    before = state(project)
    done = update(project, LATER, ok=False)
    assert done.returncode == 1
    assert unmerged(project) == ["bin/train.sh"]
    run("sh", "-c", done.stdout.split("To undo: ")[1].splitlines()[0], cwd=project)
    assert state(project) == before


def test_an_ignored_file_survives_a_killed_update_and_the_next_one(project: Path) -> None:
    hide(project)
    process, _ = begin(project)
    while (project / "NEW.md").read_text() == "ignored\n":
        assert process.poll() is None
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (project / ".git" / "index.lock").unlink(missing_ok=True)
    git("reset", "--hard", "--quiet", cwd=project)
    git("clean", "--force", "-d", "--quiet", cwd=project)
    said = copier_update(project, LATER).stdout
    [place] = re.findall(r"The ignored files that it saved are in (.*)", said)
    assert Path(place, "NEW.md").read_text() == "ignored\n"
    assert Path(place, ".editorconfig").is_symlink()


# --- what it refuses, before anything changes ---


def old_git(project: Path) -> str:
    fake = project.parent / "bin" / "git"
    fake.parent.mkdir()
    real = f'exec {shutil.which("git")} "$@"'
    fake.write_text(f'#!/bin/sh\ncase " $* " in *" version "*) echo git version 2.30.2;; *) {real};; esac\n')
    fake.chmod(0o755)
    return "install git 2.38"


def merging(project: Path) -> str:
    (project / ".git" / "MERGE_HEAD").write_text(git("rev-parse", "HEAD", cwd=project) + "\n")
    return "finish or abort"


def untracked(project: Path) -> str:
    git("config", "status.showUntrackedFiles", "no", cwd=project)
    (project / "not committed.txt").write_text("")
    return "not committed.txt is not committed"


def read_only(project: Path) -> str:
    (project / "Makefile").chmod(0o444)
    return "chmod u+w Makefile"


def overlooked(project: Path) -> str:
    git("update-index", "--assume-unchanged", "Makefile", cwd=project)
    return "Makefile: assume-unchanged is set; clear it with git update-index --no-assume-unchanged Makefile"


def skipped(project: Path) -> str:
    git("update-index", "--skip-worktree", "Makefile", cwd=project)
    return "Makefile: skip-worktree is set; clear it with git update-index --no-skip-worktree Makefile"


def answers_ignored(project: Path) -> str:
    git("rm", "--quiet", "--cached", ".copier-answers.yml", cwd=project)
    (project / ".git" / "info" / "exclude").write_text(".copier-answers.yml\n")
    save(project)
    return "git add --force .copier-answers.yml"


def answer_gone(project: Path) -> str:
    answers = project / ".copier-answers.yml"
    answers.write_text(answers.read_text().replace("package_name: my_project\n", ""))
    save(project)
    return ".copier-answers.yml: no answer for package_name"


def answer_edited(project: Path) -> str:
    answers = project / ".copier-answers.yml"
    before = git("rev-parse", "--short=10", "HEAD~1", cwd=project)
    answers.write_text(answers.read_text().replace("tracker: none", "tracker: tensorboard"))
    save(project)
    return f".copier-answers.yml: tracker was edited by hand, which changes no other file; git checkout {before}"


def folder_for_file(project: Path) -> str:
    git("mv", "scripts/run.sh", "run.sh", cwd=project)
    (project / "scripts" / "run.sh").mkdir()
    (project / "scripts" / "run.sh" / "a").write_text("own\n")
    save(project)
    return "scripts/run.sh is a folder, but a file in the template"


def file_for_folder(project: Path) -> str:
    git("mv", "scripts", "tools", cwd=project)
    (project / "scripts").write_text("own\n")
    save(project)
    return "scripts is a file, but a folder in the template"


def link_out(project: Path) -> str:
    shutil.rmtree(project / "data")
    (project / "data").symlink_to(project.parent)
    save(project)
    return "make data a folder that contains links"


def link_inside(project: Path) -> str:
    git("mv", "docs", "documentation", cwd=project)
    (project / "docs").symlink_to("documentation")
    save(project)
    return "make docs a folder that contains links"


def link_to_the_package(project: Path) -> str:
    git("mv", "src/my_project", "my_project", cwd=project)
    (project / "src").mkdir(exist_ok=True)
    (project / "src" / "my_project").symlink_to("../my_project")
    save(project)
    return "make src/my_project a folder that contains links"


def no_utf_8(project: Path) -> str:
    Path(os.fsdecode(os.fsencode(project) + b"/caf\xe9.txt")).write_text("own\n")
    save(project)
    return "the file name is not UTF-8, which Copier needs"


def sha_256(project: Path) -> str:
    shutil.rmtree(project / ".git")
    git("init", "--quiet", "--initial-branch=main", "--object-format=sha256", cwd=project)
    save(project)
    return "uses sha256 object names, which Copier does not support"


REFUSED = (
    link_inside,
    link_to_the_package,
    no_utf_8,
    sha_256,
    old_git,
    merging,
    untracked,
    read_only,
    overlooked,
    skipped,
    answers_ignored,
    folder_for_file,
    file_for_folder,
    link_out,
    answer_gone,
    answer_edited,
)


@pytest.mark.parametrize("trouble", REFUSED, ids=lambda trouble: trouble.__name__)
def test_it_refuses_what_would_fail_later(
    project: Path, trouble: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = trouble(project)
    monkeypatch.setenv("PATH", f"{project.parent / 'bin'}{os.pathsep}{os.environ['PATH']}")
    before = state(project)
    done = copier_update(project, LATER, ok=False)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert state(project) == before


@pytest.mark.parametrize("state", ["CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply"])
def test_a_merge_or_rebase_in_progress_is_refused(project: Path, state: str) -> None:
    (project / ".git" / state).touch()
    done = update(project, LATER, ok=False)
    assert done.returncode == 1
    assert "finish or abort" in done.stderr


@pytest.mark.parametrize("lost", ["the version", "the template"])
def test_nothing_changes_if_the_old_version_is_unreadable(project: Path, later: Path, lost: str) -> None:
    answers = project / ".copier-answers.yml"
    gone = (NEXT, "v8888.0.0") if lost == "the version" else (str(later), str(later / "gone"))
    assert gone[0] in answers.read_text()
    answers.write_text(answers.read_text().replace(*gone))
    save(project)
    before = state(project)
    assert copier_update(project, LATER, ok=False).returncode != 0
    assert state(project) == before


def test_nothing_changes_if_the_questions_get_no_answer(project: Path) -> None:
    before = state(project)
    done = with_copier("-m", "copier", "update", "--trust", "--vcs-ref", LATER, cwd=project, ok=False)
    assert done.returncode != 0
    assert state(project) == before


# --- failures on the way ---


@pytest.mark.parametrize("command", ["merge-tree", "commit-tree", "update-index"])
def test_a_failing_update_leaves_the_project_unchanged(
    project: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(project)
    fake = project.parent / "bin" / "git"
    fake.parent.mkdir()
    # It works up to the second stage, which is when the new answers are on disk.
    failing = f'grep -q "_commit: {LATER}" "{project}/.copier-answers.yml" && touch "{project.parent}/second"'
    fake.write_text(
        f'#!/bin/sh\n{failing}\ncase " $* " in *" {command} "*) test -e "{project.parent}/second" && exit 3;; esac\n'
        f'exec {shutil.which("git")} "$@"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    before = state(project)
    done = (copier_update if command == "merge-tree" else update)(project, LATER, ok=False)
    assert done.returncode == 1
    assert "restored to its state before" in done.stderr
    assert state(project) == before


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_the_printed_command_restores_it_after_a_kill_at_any_moment(project: Path, seed: int | None) -> None:
    """With seed None: once Copier has overwritten an ignored file."""
    hide(project)
    before = state(project)
    process, said = begin(project)
    if seed is None:
        while (project / "NEW.md").read_text() == "ignored\n":
            assert process.poll() is None, "it was not overwritten"
    else:
        time.sleep(random.Random(seed).uniform(0, 3))
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (project / ".git" / "index.lock").unlink(missing_ok=True)  # git itself says to remove it
    git("fsck", "--strict", cwd=project)
    back = said.read_text().split("undo it with\n")[1].splitlines()[0].strip()
    run("sh", "-c", back, cwd=project.parent)
    assert state(project) == before


def test_file_modes_and_links_of_the_owner_are_kept(project: Path) -> None:
    (project / "Makefile").chmod(0o755)
    (project / "docs" / "link.md").symlink_to("api.md")
    save(project, "modes")
    update(project, LATER)
    assert_updated(project)
    assert (project / "Makefile").stat().st_mode & stat.S_IXUSR
    assert (project / "docs" / "link.md").is_symlink()
