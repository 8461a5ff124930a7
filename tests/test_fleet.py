"""Many projects are updated in one run, an error in one does not stop the others, and a table has the results."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from unicodedata import east_asian_width

import pytest
import yaml
from conftest import NEXT, ROOT, copier_copy, copy, git, pruned, run, save, tree, with_copier

pytestmark = pytest.mark.slow

FLEET = ROOT / "extensions" / "fleet.py"


def make_template(folder: Path, settings: str = "") -> None:
    """A small template with two releases: a fleet works with any template."""
    project = folder / "project"
    project.mkdir(parents=True)
    (folder / "copier.yml").write_text(f"_subdirectory: project\n{settings}")
    (project / "{{ _copier_conf.answers_file }}.jinja").write_text("{{ _copier_answers | to_nice_yaml }}")
    (project / "Makefile").write_text("train:\n\tpython train.py\n")
    save(folder)
    git("tag", "v1.0.0", cwd=folder)
    (project / "Makefile").write_text("train:\n\tpython train.py --fast\n")
    (project / "읽어 보기.txt").write_text("new\n")
    save(folder)
    git("tag", "v2.0.0", cwd=folder)


@pytest.fixture(scope="session")
def small(alone: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "template"
    make_template(folder)
    return folder


@pytest.fixture(scope="session")
def first(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of the first release, to copy."""
    folder = tmp_path_factory.mktemp("first") / "project"
    copier_copy(small, folder, "v1.0.0")
    return folder


def place(project: Path, folder: Path, **edited: str) -> Path:
    """A committed copy of a project."""
    shutil.copytree(project, folder)
    for name, text in edited.items():
        (folder / name).write_text(text)
    save(folder)
    return folder


def fleet(
    folder: Path, lines: list[str], *options: str | Path, cold: bool = False, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run `fleet.py` on a list in a folder. `cold` starts new interpreters, for a test of which modules they import."""
    (folder / "fleet.txt").write_text("\n".join(lines), encoding="utf-8")
    logs = f"--logs={folder / 'logs'}"
    command = FLEET, folder / "fleet.txt", logs, *options
    if cold:
        return run(sys.executable, *command, cwd=ROOT, ok=False, **env)
    return with_copier(*command, cwd=ROOT, ok=False, **env)


def rows(done: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    """The rows of the table, by project."""
    assert "Traceback" not in done.stderr, done.stderr
    table = done.stdout.split("\n\n")[0].splitlines()
    assert re.split(" {2,}", table[0]) == ["project", "from", "to", "outcome", "detail"], done.stdout + done.stderr
    return {cells[0]: cells[1:] for cells in (re.split(" {2,}", line) for line in table[1:])}


def state(project: Path) -> tuple[str, str, dict[str, tuple[bytes, int]]]:
    """Everything that an update could change."""
    return git("log", "--all", "--format=%H %D", cwd=project), git("status", "--porcelain", cwd=project), tree(project)


def test_a_failure_or_conflict_does_not_stop_the_other_projects(template: Path, tmp_path: Path) -> None:
    clone = pruned(template, tmp_path / "template")
    copy(clone, tmp_path / "start", NEXT)
    with (clone / "template" / "project" / "Makefile.jinja").open("a") as file:
        file.write("\n# from the next version\n")
    save(clone)
    git("tag", "v9999.0.1", cwd=clone)
    makefile = (tmp_path / "start" / "Makefile").read_text()
    answers = (tmp_path / "start" / ".copier-answers.yml").read_text()
    names = ["fine", "in conflict", "broken", "fine too"]
    for name in names:
        place(tmp_path / "start", tmp_path / name)
    (tmp_path / "in conflict" / "Makefile").write_text(makefile + "\n# from the owner\n")
    save(tmp_path / "in conflict")
    (tmp_path / "broken" / ".copier-answers.yml").write_text(answers.replace(str(clone), "/no/template"))
    save(tmp_path / "broken")

    done = fleet(tmp_path, names)

    assert done.returncode == 1
    assert "2 updated, 1 conflicts, 1 failed" in done.stdout
    assert rows(done) == {
        "fine": [NEXT, "v9999.0.1", "updated", "2 files"],
        "in conflict": [NEXT, "v9999.0.1", "conflicts", "1 file: Makefile"],
        "broken": [
            NEXT,
            "-",
            "failed",
            ".copier-answers.yml: _src_path /no/template does not exist; correct it",
        ],
        "fine too": [NEXT, "v9999.0.1", "updated", "2 files"],
    }
    assert git("ls-files", "--unmerged", cwd=tmp_path / "in conflict")
    assert git("status", "--porcelain", cwd=tmp_path / "broken") == ""
    for name in ("fine", "fine too"):
        assert (tmp_path / name / "Makefile").read_text() == makefile + "\n# from the next version\n"
        recorded = yaml.safe_load((tmp_path / name / ".copier-answers.yml").read_text())
        assert recorded["_commit"] == "v9999.0.1"
    assert len(list((tmp_path / "logs").iterdir())) == 3, "no command ran in the broken one"


def test_ten_projects_are_updated_and_listed_in_their_order(first: Path, tmp_path: Path) -> None:
    names = [f"project {number}" for number in range(10)]
    for name in names:
        place(first, tmp_path / name)
    (tmp_path / names[3] / "Makefile").write_text("train:\n\tpython own.py\n")
    save(tmp_path / names[3])
    done = fleet(tmp_path, names)
    assert done.returncode == 1
    assert "9 updated, 1 conflicts" in done.stdout
    assert list(rows(done)) == names
    assert rows(done)[names[3]] == ["v1.0.0", "v2.0.0", "conflicts", "1 file: Makefile"]


def test_an_update_without_changes_is_up_to_date(first: Path, tmp_path: Path) -> None:
    place(first, tmp_path / "model")
    done = fleet(tmp_path, ["model"], "--vcs-ref=v1.0.0")
    assert rows(done) == {"model": ["v1.0.0", "v1.0.0", "up to date"]}
    assert done.returncode == 0


def test_a_file_that_an_update_moves_counts_once(tmp_path: Path) -> None:
    make_template(tmp_path / "template", "_migrations: [git mv Makefile GNUmakefile]\n")
    copier_copy(tmp_path / "template", tmp_path / "model", "v1.0.0")
    save(tmp_path / "model")
    done = fleet(tmp_path, ["model"])
    assert "Makefile -> GNUmakefile" in git("status", "--porcelain", cwd=tmp_path / "model")
    assert rows(done) == {"model": ["v1.0.0", "v2.0.0", "updated", "3 files"]}


def test_any_path_works_and_wide_characters_keep_the_table_aligned(first: Path, tmp_path: Path) -> None:
    names = ["숫자 인식", str(tmp_path / "a b"), '~/home \'n "quotes"']
    place(first, tmp_path / "숫자 인식", **{"copier.py": "raise SystemExit('not this one')\n"})
    place(first, tmp_path / "a b")
    done = fleet(tmp_path, ["# our models", "", *names, "  # end"], cold=True, HOME=str(tmp_path / "nobody"))
    said = rows(done)
    assert said[names[0]] == said[names[1]] == ["v1.0.0", "v2.0.0", "updated", "3 files"]
    assert said[names[2]] == ["-", "-", "failed", "no such folder"]
    table = done.stdout.split("\n\n")[0].splitlines()
    wide = ["".join(c * (1 + (east_asian_width(c) == "W")) for c in line) for line in table]
    assert len({re.search(" from | v1.0.0 | - ", line).start() for line in wide}) == 1  # type: ignore[union-attr]
    assert len({re.search("outcome|updated|failed", line).start() for line in wide}) == 1  # type: ignore[union-attr]


def test_each_error_of_a_project_is_in_its_row_of_the_table(first: Path, tmp_path: Path) -> None:
    answers = (first / ".copier-answers.yml").read_text()
    broken = {
        "no-yaml": "_commit: [\n",
        "no-version": "name: model\n",
        "no-template": re.sub("_src_path: .*", f"_src_path: {tmp_path}/nowhere", answers),
        "no-server": re.sub("_src_path: .*", "_src_path: https://localhost:1/template.git", answers),
    }
    for name, text in broken.items():
        place(first, tmp_path / name, **{".copier-answers.yml": text})
    (place(first, tmp_path / "changed") / "notes.txt").touch()
    (tmp_path / "no-git").mkdir()
    (tmp_path / "no-answers").mkdir()
    save(tmp_path / "no-answers")
    make_template(tmp_path / "deadly", "_migrations: ['echo new > new.txt; kill -9 $PPID']\n")
    copier_copy(tmp_path / "deadly", tmp_path / "killed", "v1.0.0")
    save(tmp_path / "killed")
    place(first, tmp_path / "fine")

    names = [*broken, "changed", "no-git", "no-answers", "killed", "missing", "fine"]
    done = fleet(tmp_path, names)

    assert done.returncode == 1
    assert "1 updated, 9 failed" in done.stdout
    said = {name: cells[-1] for name, cells in rows(done).items()}
    assert said == {
        "no-yaml": ".copier-answers.yml, line 2: expected the node content, but found '<stream end>'",
        "no-version": ".copier-answers.yml: _src_path or _commit is missing; restore the line",
        "no-template": f".copier-answers.yml: _src_path {tmp_path}/nowhere does not exist; correct it",
        "no-server": said["no-server"],
        "changed": "uncommitted changes in 1 file: commit or stash them first",
        "no-git": said["no-git"],
        "no-answers": "no .copier-answers.yml: not made by Copier, or not the project's folder",
        "killed": "killed by SIGKILL (4 files partly updated: see the log)",
        "missing": "no such folder",
        "fine": "3 files",
    }
    assert said["no-server"].startswith("unable to access 'https://localhost:1/template.git/'")
    assert said["no-git"].startswith("not a git repository (or any ")  # parent, on this file system or any


def test_a_url_is_cloned_and_its_clone_is_used_again(first: Path, tmp_path: Path) -> None:
    place(first, tmp_path / "work")
    for name in ("bare/model.git", "taken/model.git"):
        git("clone", "--quiet", "--bare", tmp_path / "work", tmp_path / name, cwd=tmp_path)
    url, taken = (tmp_path / "bare" / "model.git").as_uri(), (tmp_path / "taken" / "model.git").as_uri()
    clones = tmp_path / "fleet"
    clone = clones / tmp_path.relative_to("/") / "bare" / "model"
    place(first, clones / tmp_path.relative_to("/") / "taken" / "model")

    done = fleet(tmp_path, [url, taken, "https://me:secret@localhost:1/team/model.git"], "--dry-run")
    said = rows(done)
    assert said[url] == ["v1.0.0", "v2.0.0", "to update"]
    assert said[taken][-1].startswith("not a clone of this URL; move it, or give another --clones: ")
    assert said["https://localhost:1/team/model.git"][2] == "failed"
    assert "secret" not in done.stdout + "".join(log.read_text() for log in (tmp_path / "logs").iterdir())

    (tmp_path / "work" / "later.txt").write_text("later\n")
    save(tmp_path / "work")
    git("push", "--quiet", url, "main", cwd=tmp_path / "work")
    done = fleet(tmp_path, [url], f"--clones={clones}")
    assert rows(done)[url] == ["v1.0.0", "v2.0.0", "updated", "3 files"]
    assert (clone / "later.txt").exists()
    assert git("rev-parse", "main", cwd=tmp_path / "bare" / "model.git") == git(
        "rev-parse", "main", cwd=tmp_path / "work"
    )


def test_projects_of_one_repository_are_updated_one_at_a_time(first: Path, tmp_path: Path) -> None:
    mono = tmp_path / "mono"
    for name in ("one", "two", "three"):
        shutil.copytree(first, mono / name)
    (mono / "two" / "Makefile").write_text("train:\n\tpython own.py\n")
    save(mono)
    done = fleet(tmp_path, ["mono/one", "mono/two", "mono/three"], "--jobs=3")
    assert rows(done) == {
        "mono/one": ["v1.0.0", "v2.0.0", "updated", "3 files"],
        "mono/two": ["v1.0.0", "v2.0.0", "conflicts", "1 file: Makefile"],
        "mono/three": [
            "v1.0.0",
            "-",
            "failed",
            "unresolved conflicts in its repository: ../two/Makefile; resolve them first",
        ],
    }


def test_projects_of_one_remote_template_do_not_disturb_each_other(small: Path, tmp_path: Path) -> None:
    git("clone", "--quiet", "--mirror", small, tmp_path / "template.git", cwd=tmp_path)
    cache = tmp_path / "cache"
    copier_copy(small, tmp_path / "start", "v1.0.0")
    answers = tmp_path / "start" / ".copier-answers.yml"
    answers.write_text(
        re.sub("_src_path: .*", f"_src_path: {(tmp_path / 'template.git').as_uri()}", answers.read_text())
    )
    for name in "abc":
        place(tmp_path / "start", tmp_path / name)
    done = fleet(tmp_path, ["a", "b", "c"], "--jobs=3", COPIER_CACHE_DIR=str(cache))
    assert done.returncode == 0, done.stdout
    assert not cache.exists(), "Copier's cache, which it shares between all its processes"


def test_a_dry_run_changes_no_project(first: Path, small: Path, tmp_path: Path) -> None:
    place(first, tmp_path / "old")
    (tmp_path / "old" / "notes.txt").write_text("not committed\n")
    copier_copy(small, tmp_path / "new", "v2.0.0")
    save(tmp_path / "new")
    before = state(tmp_path / "old"), state(tmp_path / "new")
    done = fleet(tmp_path, ["old", "new"], "--dry-run")
    dirty = ["v1.0.0", "-", "failed", "uncommitted changes in 1 file: commit or stash them first"]
    assert rows(done) == {"old": dirty, "new": ["v2.0.0", "v2.0.0", "up to date"]}
    assert done.returncode == 1
    assert (state(tmp_path / "old"), state(tmp_path / "new")) == before


def test_a_dry_run_reports_conflicts_and_refusals(template: Path, tmp_path: Path) -> None:
    clone = pruned(template, tmp_path / "template")
    path = clone / "template" / "project" / "setup.py"
    copy(clone, tmp_path / "clean", NEXT)
    path.write_text(path.read_text().replace("\n", "  # template\n", 1))
    save(clone, "later")
    git("tag", "v9999.0.1", cwd=clone)
    for name in ("conflicting", "refused"):
        shutil.copytree(tmp_path / "clean", tmp_path / name)
    setup = tmp_path / "conflicting" / "setup.py"
    setup.write_text(setup.read_text().replace("\n", "  # mine\n", 1))
    shutil.move(tmp_path / "refused" / "docs", tmp_path / "refused" / "documentation")
    (tmp_path / "refused" / "docs").write_text("mine\n")
    for name in ("clean", "conflicting", "refused"):
        save(tmp_path / name)
    before = [state(tmp_path / name) for name in ("clean", "conflicting", "refused")]
    done = fleet(tmp_path, ["clean", "conflicting", "refused"], "--dry-run")
    assert {name: row[2:] for name, row in rows(done).items()} == {
        "clean": ["to update"],
        "conflicting": ["conflicts", "1 file would be in conflict: setup.py"],
        "refused": ["failed", "docs is a file, but a folder in the template: rename it"],
    }
    assert [state(tmp_path / name) for name in ("clean", "conflicting", "refused")] == before


def test_updates_are_committed_on_a_branch_unless_a_hook_refuses(first: Path, tmp_path: Path) -> None:
    for name in ("free", "guarded", "mono/one", "mono/two"):
        shutil.copytree(first, tmp_path / name)
    for name in ("free", "guarded", "mono"):
        save(tmp_path / name)
    (tmp_path / "mono" / "notes.txt").write_text("a neighbour's\n")
    git("add", "notes.txt", cwd=tmp_path / "mono")
    hook = tmp_path / "guarded" / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no commits on Fridays\nexit 1\n")
    hook.chmod(hook.stat().st_mode | stat.S_IXUSR)

    names = ["free", "guarded", "mono/one", "mono/two"]
    done = fleet(tmp_path, names, "--commit=템플릿 v2", "--branch=next")

    committed = ["v1.0.0", "v2.0.0", "updated", "3 files, committed on next"]
    refused = "updated and staged, but not committed: no commits on Fridays"
    assert rows(done) == {
        "free": committed,
        "guarded": ["v1.0.0", "v2.0.0", "failed", refused],
        "mono/one": committed,
        "mono/two": committed,
    }
    assert done.returncode == 1
    assert git("log", "--format=%s", "main..next", cwd=tmp_path / "free") == "템플릿 v2"
    assert git("log", "--format=%s", "main", cwd=tmp_path / "free") == "work"
    assert git("diff", "--name-only", "next~", "next", cwd=tmp_path / "mono").count("two/") == 3
    assert git("diff", "--name-only", "main", "next~", cwd=tmp_path / "mono").count("one/") == 3
    assert git("log", "--all", "--format=%s", cwd=tmp_path / "guarded") == "work"
    assert len(git("diff", "--cached", "--name-only", cwd=tmp_path / "guarded").splitlines()) == 3
    assert git("status", "--porcelain", cwd=tmp_path / "free") == ""
    assert git("status", "--porcelain", cwd=tmp_path / "mono") == "A  notes.txt"

    git("switch", "--quiet", "main", cwd=tmp_path / "free")
    before = state(tmp_path / "free")
    done = fleet(tmp_path, ["free"], "--commit=again", "--branch=next")
    assert rows(done)["free"][-1] == "the branch next already exists: delete it, or give another --branch"
    assert state(tmp_path / "free") == before


def test_wrong_options_and_lists_are_refused_before_anything_runs(first: Path, tmp_path: Path) -> None:
    project = place(first, tmp_path / "model")
    (tmp_path / "link").symlink_to(project)
    before = state(project)
    url = "https://localhost/team/model"
    mistakes = [
        (["model", "# the same", "./link"], [], "fleet.txt, line 3: ./link is the same project as line 1\n"),
        (
            [url, "git@localhost:team/model.git"],
            [],
            "line 2: git@localhost:team/model.git is the same project as line 1\n",
        ),
        (["# none", ""], [], "fleet.txt: no project in the list; add a folder or a URL per line\n"),
        (["\0"], [], "fleet.txt: not a UTF-8 text file\n"),
        (["model"], ["--jobs=0"], "--jobs must be 1 or more\n"),
        (["model"], ["--commit=next", "--branch=a b"], "'a b' is not a valid branch name\n"),
        (["model"], ["--dry-run", "--commit=next"], "leave out --vcs-ref and --commit\n"),
    ]
    for lines, options, message in mistakes:
        done = fleet(tmp_path, lines, *options)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith(message), done.stderr
    done = run(sys.executable, FLEET, "missing.txt", cwd=tmp_path, ok=False)
    assert (done.returncode, done.stderr) == (2, "fleet.py: missing.txt: No such file or directory\n")
    done = run(sys.executable, "-S", FLEET, "fleet.txt", cwd=tmp_path, ok=False)  # without any installed package
    assert (done.returncode, done.stderr.partition(".")[0]) == (2, "This Python has no Copier")
    assert state(project) == before
    assert not (tmp_path / "logs").exists()


def test_the_list_may_come_from_standard_input_and_the_call_from_a_hook(first: Path, tmp_path: Path) -> None:
    place(first, tmp_path / "model")
    done = subprocess.run(
        [sys.executable, FLEET, "-", "--dry-run"],
        cwd=tmp_path,
        env=os.environ | {"GIT_DIR": "/nowhere", "GIT_INDEX_FILE": "/nowhere", "PYTHONIOENCODING": "ascii"},
        input="\ufeffmodel\r\n모델\r\n".encode(),
        capture_output=True,
    )
    assert done.stderr == b""
    assert re.search(rb"^model +v1.0.0  v2.0.0  to update$", done.stdout, re.M), done.stdout
    assert re.search(rb"^\?\? +-       -       failed     no such folder$", done.stdout, re.M), done.stdout


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_waits_for_running_updates_and_a_second_one_stops_them(tmp_path: Path, times: int) -> None:
    go, log = tmp_path / "go", tmp_path / "logs" / "001 one.log"
    make_template(tmp_path / "template", f"_migrations: ['echo reached; until [ -e {go} ]; do sleep 0.1; done']\n")
    copier_copy(tmp_path / "template", tmp_path / "one", "v1.0.0")
    save(tmp_path / "one")
    place(tmp_path / "one", tmp_path / "two")
    (tmp_path / "fleet.txt").write_text("one\ntwo\n")
    command, pipe = [sys.executable, str(FLEET), "fleet.txt", "--jobs=1", "--logs=logs"], subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            end = time.monotonic() + 60
            while not (log.exists() and "\nreached\n" in log.read_text()) and time.monotonic() < end:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            assert process.stderr
            told = process.stderr.readline() + process.stderr.readline()
            assert told == "\nNo new update starts. Press Ctrl-C again to stop the running ones.\n"
            process.send_signal(signal.SIGINT) if times == 2 else go.touch()
            done = subprocess.CompletedProcess(command, 130, *process.communicate(timeout=60))
        finally:
            go.touch()
    assert process.returncode == 130
    before, *_, detail = rows(done).pop("one")
    assert before == "v1.0.0"
    assert ("partly updated" in detail) if times == 2 else (detail == "3 files")
    assert rows(done)["two"] == ["-", "-", "not started"]
