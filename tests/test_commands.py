"""The commands of a project's `scripts/update.py`: update, preview, undo, explain."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    NEXT,
    ROOT,
    command,
    copier_python,
    copier_update,
    extension,
    git,
    in_terminal,
    run,
    save,
    tree,
    unmerged,
    update,
    update_words,
    with_copier,
)
from moments import at
from test_places import LATER, assert_updated, begin, begun, fresh, hide, later, project, state

pytestmark = pytest.mark.slow
__all__ = ["fresh", "later", "project"]  # fixtures


def conflicting(project: Path) -> None:
    """Let the owner change the same lines as the next version, in a file that moves."""
    with (project / "scripts" / "train.sh").open("a") as file:
        file.write("# mine\n")
    save(project, "mine")


# --- update, preview ---


def test_the_command_gives_the_same_result_as_copier_update(project: Path) -> None:
    twin = project.with_name("twin")
    shutil.copytree(project, twin)
    program = clone_of(project) / "extensions" / "update"
    said = with_copier(program, project, "--defaults", cwd=project).stdout
    assert f"{NEXT} → {LATER}" in said
    assert_updated(project)
    _, _, *words = update_words(LATER)
    run(Path(sys.executable).with_name("copier"), *words, cwd=twin)  # the installed program, which doesn't start warm
    assert tree(project) == tree(twin)
    assert git("ls-files", "--stage", cwd=project) == git("ls-files", "--stage", cwd=twin)


def test_a_preview_shows_what_an_update_would_do_and_writes_nothing(project: Path) -> None:
    before = state(project)
    said = command(project, "--preview", "--defaults").stdout
    assert state(project) == before
    for line in (f"{NEXT} → {LATER}", "scripts/train.sh → bin/train.sh", "+# later", "a preview"):
        assert line in said, line
    assert "To undo" not in said
    assert not list((project / ".git").glob("copier-update/*"))


def test_a_project_at_the_newest_version_is_up_to_date(project: Path) -> None:
    command(project, "--defaults")
    save(project, "updated")
    assert command(project).stdout == f"up to date with the template: {LATER}\n"


def test_an_update_goes_to_the_next_release_or_a_named_version(project: Path) -> None:
    git("tag", "v9999.0.2", LATER, cwd=clone_of(project))
    try:
        assert f"{NEXT} → {LATER}" in command(project, "--step", "--preview", "--defaults").stdout
        assert f"{NEXT} → v9999.0.2" in command(project, "--preview", "--defaults").stdout
        assert f"{NEXT} → {LATER}" in command(project, "--to", LATER, "--preview", "--defaults").stdout
    finally:
        git("tag", "--delete", "v9999.0.2", cwd=clone_of(project))


def clone_of(project: Path) -> Path:
    answers = extension("yaml").safe_load((project / ".copier-answers.yml").read_text())
    return Path(answers["_src_path"])


def test_answers_change_and_several_need_no_brackets(project: Path) -> None:
    command(project, "--defaults", "-d", "extras=sweep,export", "-d", "tracker=tensorboard")
    recorded = extension("yaml").safe_load((project / ".copier-answers.yml").read_text())
    assert recorded["extras"] == ["sweep", "export"]
    assert (project / "docs" / "sweep.md").is_file()
    assert (project / "src/my_project/engine/tracking/tensorboard.py").is_file()


def test_a_module_hidden_by_a_new_package_of_its_name_is_reported(project: Path) -> None:
    module = project / "src" / "my_project" / "commands.py"
    module.write_text("MINE = 1\n")
    save(project, "a module")
    said = command(project, "--defaults", "-d", "extras=sweep").stdout
    assert "src/my_project/commands.py is not imported: src/my_project/commands/ has the same name" in said
    assert module.read_text() == "MINE = 1\n"
    save(project, "updated")
    assert "not imported" not in command(project, "--defaults", "-d", "extras=sweep,docker").stdout, "it is known"


def test_ignored_files_that_an_interrupted_update_keeps_are_named(project: Path) -> None:
    owner = extension("update.project").Project(project, ".copier-answers.yml")
    taken = extension("update.snapshot").take(owner, {"checkpoints/*.pt"}, ("v1", "v2"))
    assert "interrupted" not in command(project, "--preview", "--defaults").stdout, "the project has them all"
    (project / "checkpoints" / "best.pt").unlink()
    said = command(project, "--preview", "--defaults").stdout
    assert f"The ignored files that it saved are in {taken.ignored}" in said


MISTAKES = {
    "no such version": (["--to", "v8"], "--to v8: unknown version; the template has "),
    "an older version": (["--to", "v0.1.0"], f"--to v0.1.0: older than the project's {NEXT}"),
    "no such question": (["-d", "colour=red"], "--data colour=red: write KEY=VALUE, where KEY is one of project_name"),
    "a switch": (["-d", "tabular=."], "--data tabular=.: write KEY=VALUE, where KEY is one of project_name"),
    "a wrong answer": (["--defaults", "-d", "package_name=no-name"], "package_name"),
    "nobody to ask": ([], "there is no terminal to ask questions in: add --defaults"),
    "another place": (["--explain", "/etc/hosts"], "--explain /etc/hosts: not in "),
    "an unknown version": (["--defaults"], ".copier-answers.yml: the template has no version v8888.0.0"),
    "no version": (["--defaults"], ".copier-answers.yml: _commit or _src_path is missing; restore the line and commit"),
    "edited from the start": (["--defaults"], "was edited by hand: restore what Copier wrote and commit"),
    "conflicts": (["--defaults"], "the repository has unresolved conflicts"),
}


def prepare(case: str, project: Path) -> None:
    """Prepare the project for a case that options alone don't cause."""
    answers = project / ".copier-answers.yml"
    if case == "an unknown version":
        answers.write_text(answers.read_text().replace(f"_commit: {NEXT}", "_commit: v8888.0.0"))
    elif case == "no version":
        answers.write_text(answers.read_text().replace(f"_commit: {NEXT}\n", ""))
    elif case == "edited from the start":
        answers.write_text(answers.read_text().replace("tracker: none", "tracker: wandb"))
        shutil.rmtree(project / ".git")
    elif case == "conflicts":
        conflicting(project)
        command(project, "--defaults", ok=False)
        return
    save(project, case)


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named_and_nothing_changes(case: str, project: Path) -> None:
    words, message = MISTAKES[case]
    if case == "an older version":
        git("tag", "v0.1.0", f"{NEXT}~0", cwd=clone_of(project))
    prepare(case, project)
    before = state(project)
    done = command(project, *words, ok=False)
    if case == "an older version":
        git("tag", "--delete", "v0.1.0", cwd=clone_of(project))
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert state(project) == before


def test_uncommitted_changes_are_refused(project: Path) -> None:
    with (project / "Makefile").open("a") as file:
        file.write("# not committed\n")
    done = command(project, "--defaults", ok=False)
    assert done.returncode == 1
    assert "Makefile is not committed: commit it, or git stash" in done.stderr


def test_a_file_saved_during_the_questions_is_kept_and_stops_the_update(project: Path) -> None:
    def edit() -> None:
        for name in ("Makefile", "own notes 메모.md"):
            with (project / name).open("a") as file:
                file.write("# meanwhile\n")

    before = tree(project)
    program: list[str | Path] = [copier_python(), clone_of(project) / "extensions" / "update", project]
    status, seen = in_terminal(program, project, "\r", first=edit)
    assert status == 1
    assert "Makefile was changed during the update: commit it, then update again" in seen
    after = tree(project)
    for name in ("Makefile", "own notes 메모.md"):
        assert after.pop(name)[0] == before.pop(name)[0] + b"# meanwhile\n"
    assert after == before


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("# meanwhile\n")


def test_a_file_saved_after_the_merge_is_kept_and_stops_the_update(project: Path) -> None:
    before = tree(project)
    with at(0, print) as commands:
        command(project, "--defaults")
    command(project, "--undo")
    last = max(number for number, words in enumerate(commands, 1) if "write-tree" in words)
    with at(last + 1, lambda: append(project / "Makefile")):
        done = command(project, "--defaults", ok=False)
    assert "Makefile was changed during the update: commit it, then update again" in done.stderr
    after = tree(project)
    assert after.pop("Makefile")[0] == before.pop("Makefile")[0] + b"# meanwhile\n"
    assert after == before


@pytest.mark.parametrize("name", ["Makefile", "NEW.md"])
def test_a_file_saved_right_before_the_write_is_kept(name: str, project: Path) -> None:
    before = tree(project)
    with at(0, print) as commands:
        command(project, "--defaults")
    command(project, "--undo")
    moment = max(number for number, words in enumerate(commands, 1) if "read-tree" in words)
    with at(moment, lambda: append(project / name)):
        done = command(project, "--defaults", ok=False)
    assert done.returncode == 1
    assert f"{name} was saved meanwhile and stays as you saved it." in done.stderr
    after = tree(project)
    assert after.pop(name)[0] == before.pop(name, (b"",))[0] + b"# meanwhile\n"
    assert after == before


def test_a_file_saved_at_the_path_of_a_new_one_stops_the_update(project: Path) -> None:
    with at(0, print) as commands:
        command(project, "--defaults")
    command(project, "--undo")
    moment = next(number for number, words in enumerate(commands, 1) if "diff-tree" in words)
    with at(moment, lambda: append(project / "NEW.md")):
        done = command(project, "--defaults", ok=False)
    assert "NEW.md was changed during the update: commit it, then update again" in done.stderr
    assert git("status", "--porcelain", cwd=project) == "?? NEW.md"


@pytest.mark.parametrize("name", ["Makefile", "NEW.md", "docs/api.md", "src/other/task.py", ".editorconfig"])
@pytest.mark.parametrize("step", ["reset", "merge-tree"])
def test_a_template_file_saved_after_copiers_pass_is_kept(name: str, step: str, project: Path) -> None:
    (project / ".git" / "info" / "exclude").write_text(".editorconfig\n")
    git("rm", "--quiet", "--cached", ".editorconfig", cwd=project)
    save(project, "own settings of editors")
    (project / "src" / "other").mkdir()
    before = tree(project)
    with at(0, print) as commands:
        update(project, LATER)
    command(project, "--undo")
    moment = next(number for number, words in enumerate(commands, 1) if step in words)
    with at(moment, lambda: append(project / name)):
        done = update(project, LATER, ok=False)
    stopped = name in ("Makefile", "NEW.md")
    assert done.returncode == stopped
    saved = tree(project).pop(name)[0]
    assert saved == before.get(name, (b"",))[0] + b"# meanwhile\n"
    if stopped:
        assert f"{name} was changed during the update: commit it, then update again" in done.stderr
        assert {**tree(project), name: 0} == {**before, name: 0}
    elif name != ".editorconfig":  # which git ignores
        assert f"Changed during the update and left as is: {name}" in done.stdout
    assert not list(project.glob(".git/copier-update/*/replaced"))


def test_ctrl_c_at_a_question_changes_nothing(project: Path) -> None:
    before = state(project)
    status, seen = in_terminal([sys.executable, "scripts/update.py"], project, "\x03")
    assert status == 130
    assert "Stopped; nothing has changed." in seen
    assert "Traceback" not in seen
    assert state(project) == before


# --- undo ---


@pytest.mark.parametrize("by", ["copier", "the command"])
@pytest.mark.parametrize("conflict", [False, True], ids=["clean", "in conflict"])
def test_undo_restores_the_project(by: str, conflict: bool, project: Path) -> None:
    hide(project)
    if conflict:
        conflicting(project)
    before = state(project)
    if by == "copier":
        copier_update(project, LATER, ok=False)
    else:
        command(project, "--defaults", ok=False)
    assert unmerged(project) == (["bin/train.sh"] if conflict else [])
    assert command(project, "--undo").stdout == f"The update {NEXT} → {LATER} is undone.\n"
    assert state(project) == before
    assert "no update to undo" in command(project, "--undo", ok=False).stderr


def test_undo_in_a_folder_of_a_larger_repository_leaves_other_folders(fresh: Path, tmp_path: Path) -> None:
    top = tmp_path / "large"
    (top / "neighbour").mkdir(parents=True)
    (top / "neighbour" / "Makefile").write_text("# not ours\n")
    save(top)
    project = begun(fresh, top / "work" / "a [new] project", top)
    with (project / "scripts" / "train.sh").open("a") as file:
        file.write("# mine\n")
    (project / "own notes 메모.md").write_text("of my_project\n")
    save(top, "mine")
    before = state(project)
    said = command(project, "--defaults", "-d", "package_name=other", ok=False).stdout
    assert "my_project is now other; these files still use the old name: own notes 메모.md" in said
    assert unmerged(project) == ["bin/train.sh"], "as seen from the project"
    (top / "neighbour" / "Makefile").write_text("# staged\n")
    git("add", "neighbour", cwd=top)
    command(project, "--undo")
    assert git("status", "--porcelain", cwd=top) == "M  neighbour/Makefile"
    assert tree(project) == before[0]


def test_undo_keeps_what_the_owner_did_elsewhere(project: Path) -> None:
    update(project, LATER)
    (project / "own notes 메모.md").write_text("more\n")
    (project / "new.py").write_text("NEW = 1\n")
    git("add", "new.py", cwd=project)
    command(project, "--undo")
    assert (project / "own notes 메모.md").read_text() == "more\n"
    assert git("-c", "core.quotePath=false", "status", "--short", cwd=project).splitlines() == [
        "A  new.py",
        ' M "own notes 메모.md"',
    ]


@pytest.mark.parametrize("staged", [False, True], ids=["on disk", "in the index"])
def test_undo_does_not_overwrite_a_later_edit(staged: bool, project: Path) -> None:
    update(project, LATER)
    makefile = project / "Makefile"
    text = makefile.read_text()
    makefile.write_text(f"{text}# after the update\n")
    if staged:
        git("add", "Makefile", cwd=project)
        makefile.write_text(text)
    before = state(project)
    done = command(project, "--undo", ok=False)
    assert done.returncode == 1
    assert "Makefile was changed since the update: copy it elsewhere, then delete it here" in done.stderr
    assert state(project) == before
    git("rm", "--quiet", "--force", "Makefile", cwd=project)
    command(project, "--undo")
    assert git("status", "--porcelain", cwd=project) == ""


def test_undo_is_refused_after_a_later_commit(project: Path) -> None:
    update(project, LATER)
    save(project, "updated")
    done = command(project, "--undo", ok=False)
    assert done.returncode == 1
    assert "there are commits since the last update: undo them first, or use `git revert`" in done.stderr


@pytest.mark.parametrize("seed", range(2))
def test_undo_restores_the_project_after_a_kill_and_a_cleanup(seed: int, project: Path) -> None:
    hide(project)
    before = state(project)
    process, _ = begin(project)
    time.sleep(random.Random(seed).uniform(0, 3))
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (project / ".git" / "index.lock").unlink(missing_ok=True)
    if seed % 2:
        git("reset", "--hard", "--quiet", cwd=project)
        git("clean", "--force", "-d", "--quiet", cwd=project)
    assert "undone" in command(project, "--undo").stdout
    assert state(project) == before


def test_undo_restores_the_project_after_a_kill_during_the_write(project: Path, tmp_path: Path) -> None:
    conflicting(project)
    before = state(project)
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    real = shutil.which("git")
    kill = 'case " $* " in *" read-tree -m -u "[0-9a-f]*) kill -9 $PPID;; esac'
    fake.write_text(f'#!/bin/sh\n{real} "$@" || exit\n{kill}\n')
    fake.chmod(0o755)
    program = [sys.executable, str(clone_of(project) / "extensions" / "update"), str(project), "--defaults"]
    path = f"{fake.parent}{os.pathsep}{os.environ['PATH']}"
    killed = subprocess.run(program, cwd=project, env=os.environ | {"PATH": path}, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert (project / "NEW.md").is_file()
    assert "is undone" in command(project, "--undo").stdout
    assert state(project) == before


def test_undo_keeps_what_an_interrupted_update_left_half_done(project: Path) -> None:
    """It cannot be distinguished from later edits of the owner."""
    before = state(project)
    makefile = (project / "Makefile").read_text()
    process, _ = begin(project)
    while (project / "Makefile").read_text() == makefile:
        assert process.poll() is None
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (project / ".git" / "index.lock").unlink(missing_ok=True)
    (project / "Makefile").write_text("# mine\n")
    said = command(project, "--undo").stdout
    assert state(project) == before
    place = said.strip().rpartition(" are in ")[2]
    assert Path(place, "Makefile").read_text() == "# mine\n"
    assert "no update to undo is recorded" in command(project, "--undo", ok=False).stderr
    assert Path(place, "Makefile").is_file(), "nor does another undo"
    update(project, LATER)
    save(project, "updated")
    assert Path(place, "Makefile").is_file(), "no later update removes it"


def test_undo_does_not_overwrite_a_link_that_replaced_a_file(project: Path) -> None:
    update(project, LATER)
    (project / "NEW.md").unlink()
    (project / "NEW.md").symlink_to("Makefile")
    assert "NEW.md was changed since the update" in command(project, "--undo", ok=False).stderr


# --- explain ---


def test_a_file_is_explained(project: Path) -> None:
    git("rm", "--quiet", "docs/faults.md", cwd=project)
    save(project, "not needed")
    for path, lines in {
        "Makefile": ["the template's: merged", "changed by you since", "merged: both you and the template changed it"],
        "src/my_project/task.py": ["yours: written once", f"as in {NEXT}", "unchanged"],
        "scripts/train.sh": ["changed by you", "moved: the template moved it", "→ bin/train.sh"],
        "setup.py": ["removed: the template removed it"],
        "NEW.md": ["does not exist", "added: it is new in the template"],
        "docs/faults.md": ["deleted by you", "left out: you deleted it"],
        "own notes 메모.md": ["yours; the template has no such file"],
        "nothing.txt": ["neither the project nor the template has it"],
    }.items():
        said = command(project, "--explain", str(project / path)).stdout
        for line in lines:
            assert line in said, (path, said)


# --- options of `copier update` ---


def test_excluded_paths_stay_unchanged(project: Path) -> None:
    options = ["--trust", "--defaults", "--quiet", f"--vcs-ref={LATER}", "--exclude=Makefile", "--exclude=*.md"]
    with_copier("-m", "copier", "update", *options, cwd=project)
    assert not (project / "NEW.md").exists()
    assert "# later" not in (project / "Makefile").read_text()
    assert (project / "bin" / "new.sh").exists()


def test_the_option_conflict_rej_is_reported_as_without_effect(project: Path) -> None:
    options = ["--trust", "--defaults", "--quiet", f"--vcs-ref={LATER}", "--conflict=rej"]
    said = with_copier("-m", "copier", "update", *options, cwd=project).stdout
    assert "--conflict=rej has no effect" in said
    assert_updated(project)


def test_a_bot_gets_new_files_unstaged_and_no_failure_for_a_conflict(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conflicting(project)
    monkeypatch.setenv("UPDATE_BY_BOT", "1")
    assert copier_update(project, LATER).returncode == 0
    listed = git("status", "--porcelain", cwd=project).splitlines()
    assert {"?? NEW.md", "?? bin/new.sh", "M  Makefile", "D  setup.py"} <= set(listed)
    assert unmerged(project) == ["bin/train.sh"]


def test_a_bot_gets_a_moved_file_unstaged_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git detects a rename only if both files are similar and the old path is gone; otherwise it reports a new file."""
    monkeypatch.setenv("UPDATE_BY_BOT", "1")
    assert copier_update(project, LATER).returncode == 0
    listed = git("status", "--porcelain", "--untracked-files", cwd=project).splitlines()
    expected = ["?? NEW.md", "?? bin/new.sh", "?? bin/train.sh", "D  scripts/train.sh", "D  setup.py"]
    assert sorted(listed) == sorted([*expected, "M  .copier-answers.yml", "M  Makefile"])


def test_the_first_stage_prints_nothing_outside_a_repository(later: Path, tmp_path: Path) -> None:
    """Copier's pull request 2376 runs it in a render of the old version."""
    env: dict[str, Any] = {"STAGE": "before", "VERSION_FROM": NEXT, "VERSION_TO": LATER}
    env |= {
        "VERSION_PEP440_FROM": NEXT[1:],
        "VERSION_PEP440_TO": LATER[1:],
        "GIT_CEILING_DIRECTORIES": str(tmp_path.parent),
    }
    program = later / "extensions" / "update"
    done = with_copier(program, "copier", ".copier-answers.yml", "inline", "[]", cwd=tmp_path, **env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- scripts/update.py ---


def test_the_script_of_a_project_fetches_the_template_and_updates(project: Path) -> None:
    script = "scripts/update.py"
    before = state(project)
    assert "a preview" in with_copier(script, "--preview", "--defaults", cwd=project).stdout
    assert state(project) == before
    run("make", "update", f"PYTHON={sys.executable}", "ARGS=--defaults", cwd=project)
    assert_updated(project)
    with_copier(script, "--undo", cwd=project)
    assert state(project) == before
    assert "the template's: merged" in with_copier(script, "--explain", "Makefile", cwd=project).stdout


def test_the_script_finds_a_template_by_a_path_from_the_folder_above(project: Path, later: Path) -> None:
    answers = project / ".copier-answers.yml"
    answers.write_text(answers.read_text().replace(str(later), os.path.relpath(later, project.parent)))
    save(project)
    said = with_copier("scripts/update.py", "--preview", cwd=project).stdout
    assert f"{NEXT} → {LATER}" in said


def test_the_script_takes_copier_from_uv_pipx_or_an_installed_copier(project: Path, tmp_path: Path) -> None:
    bare = [sys.executable, "-S", "scripts/update.py", "--explain", "Makefile"]  # -S: without installed packages
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("git", "sh"):
        (programs / name).symlink_to(str(shutil.which(name)))
    alone = run(*bare, cwd=project, ok=False, PATH=str(programs))
    assert alone.returncode == 1
    assert alone.stderr == "Copier: not found; install uv or pipx, or run `python3 -m pip install copier`\n"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{copier_python()}" "$@"\n')
    for name, skipped in (("copier", 0), ("pipx", 1), ("uv", 3)):
        program = programs / name
        program.write_text(
            f'#!{python}\nimport os, sys\nos.execv("{python}", ["python", *sys.argv[{skipped + 1} :]])\n'
        )
        for path in (python, program):
            path.chmod(0o755)
        assert "the template's: merged" in run(*bare, cwd=project, PATH=str(programs)).stdout, name


# --- versions ---


def test_a_commit_is_a_version_after_the_last_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = extension("update.versions")
    monkeypatch.setattr(versions, "TEMPLATE", tmp_path)
    save(tmp_path, "first")
    assert versions.as_version("HEAD") < versions.Version("0.0.1")
    with monkeypatch.context() as patch:
        patch.setattr(versions, "line", lambda *_, **__: "2c74801")
        assert versions.as_version("HEAD") < versions.Version("0.0.1")
    for tag in ("v1.0.0", "v1.10.0", "v1.9.0", "v2.0.0rc1", "a-name"):
        git("tag", tag, cwd=tmp_path)
    assert list(versions.releases().values()) == ["v1.0.0", "v1.9.0", "v1.10.0"]
    git("tag", "--delete", "a-name", "v2.0.0rc1", "v1.9.0", "v1.0.0", cwd=tmp_path)
    assert versions.as_version("HEAD") == versions.Version("1.10.0")
    save(tmp_path, "second")
    assert versions.Version("1.10.0") < versions.as_version("HEAD") < versions.Version("1.10.1")
    assert versions.as_version("v1.10.0") == versions.Version("1.10.0")


# --- git's output ---


def test_the_output_of_merge_tree_is_parsed(tmp_path: Path) -> None:
    parse = extension("update.git").parse_merge_tree
    clean = parse("1234\0")
    assert (clean.tree, clean.stages, clean.kinds) == ("1234", [], {})
    stages = "100644 aa 1\ta file\x00100644 bb 2\ta file\x00100644 cc 3\ta file\0"
    messages = (
        "1\0a file\0Auto-merging\0Auto-merging a file\n\x002\0a file\0b\0CONFLICT (rename/delete)\0CONFLICT …\n\0"
    )
    found = parse(f"5678\0{stages}\0{messages}")
    assert found.tree == "5678"
    assert found.stages == [
        ((mode, oid), stage, "a file")
        for mode, oid, stage in (("100644", "aa", "1"), ("100644", "bb", "2"), ("100644", "cc", "3"))
    ]
    assert found.kinds == {"a file": "rename/delete", "b": "rename/delete"}


def test_the_update_is_independent_of_this_template() -> None:
    text = "".join(path.read_text() for path in (ROOT / "extensions" / "update").glob("*.py"))
    for word in (
        "package_name",
        "config_format",
        "components",
        "data_kind",
        "my_project",
        "torch",
        "configs/",
        "task.py",
    ):
        assert word not in text, word


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux, a process is forked")
def test_a_render_whose_process_fails_or_is_killed_is_repeated() -> None:
    code = """if True:
        import os, signal
        from update.copies import both
        here = os.getpid()
        there, this = both(os.getpid, os.getpid)
        assert there != this == here
        killed = lambda: os.getpid() if os.getpid() == here else os.kill(os.getpid(), signal.SIGKILL)
        assert both(killed, os.getpid) == (here, here)
        large = lambda: bytes(2**20)  # more than a pipe holds
        assert both(large, os.getpid) == (bytes(2**20), here)
        for first, second in ((lambda: int("one"), os.getpid), (large, lambda: int("two"))):
            try:
                both(first, second)
            except ValueError as error:
                print(error)
    """
    done = run("timeout", "60", sys.executable, "-c", code, cwd=ROOT / "extensions")
    assert done.stdout == "".join(f"invalid literal for int() with base 10: '{word}'\n" for word in ("one", "two"))
    assert done.stderr == ""
