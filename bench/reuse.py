"""Updates of projects made from public templates, by Copier alone and with a copy of `extensions/update`.

    git clone https://github.com/pawamoy/copier-uv
    git clone https://github.com/jupyterlab/extension-template
    .venv/bin/python -m pip install jinja2-time copier-template-extensions copier-templates-extensions
    .venv/bin/python bench/reuse.py copier-uv extension-template

Each argument is a clone with its tags, in a folder that has the template's name. The newer of two releases gets the
folder, the two lists and the migration; nothing else changes. The packages are Jinja extensions of these templates.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WHO = {f"GIT_{who}_{what}": "bench" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ENV = os.environ | WHO | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
OWN = "# the owner's"
MIGRATION = """
_migrations:
  - command:
      - "{{ _copier_python }}"
      - "{{ _copier_conf.src_path / 'extensions' / 'update' }}"
      - copier
      - "{{ _copier_conf.answers_file }}"
      - "{{ _copier_conf.conflict }}"
      - "{{ _copier_conf.exclude | list | to_json }}"
      - "{{ _copier_conf.skip_tasks | to_json }}"
    when: true
"""


@dataclass
class Case:
    """A public template.

    Attributes:
        old, new: two of its releases.
        answers: answers to the questions without a default.
        later: answers to questions of the new release.
        moves, ownership: its two lists.
        moved: files that the owner edits, and the path of each in the new release.
        both: a file that the owner and the template change, in different places.
        ignored: a new file of the template, where the owner has one that git ignores.
    """

    old: str
    new: str
    answers: dict[str, str]
    later: dict[str, str]
    moves: str
    ownership: str
    moved: dict[str, str]
    both: str
    ignored: str


CASES = {
    "copier-uv": Case(
        old="1.3.0",
        new="1.13.0",
        answers={"project_name": "Deep sea", "project_description": "Finds fish", "author_fullname": "An author"},
        later={},
        moves="""\
1.6.0: # the modules of the package are private
  - {from: [src/*/cli.py], to: src/*/_internal/cli.py}
  - {from: [src/*/debug.py], to: src/*/_internal/debug.py}
""",
        ownership="""\
yours:
  CHANGELOG.md: as in _skip_if_exists
  README.md: says what your project is
""",
        moved={"src/deep_sea/cli.py": "src/deep_sea/_internal/cli.py"},
        both="pyproject.toml",
        ignored="config/zed/settings.json",
    ),
    "extension-template": Case(
        old="v4.4.0",
        new="v4.6.4",
        answers={"kind": "frontend-and-server", "author_name": "An author", "repository": "https://example.com/fish"},
        later={"has_ai_rules": "true"},
        moves="""\
v4.5.0: # named by what they hold
  - {from: [src/handler.ts], to: src/request.ts}
  - {from: ["*/handlers.py"], to: "*/routes.py"}
  - {from: ["*/tests/test_handlers.py"], to: "*/tests/test_routes.py"}
""",
        ownership="""\
yours:
  README.md: says what your extension is
""",
        moved={"myextension/handlers.py": "myextension/routes.py"},
        both="pyproject.toml",
        ignored="AGENTS.md",
    ),
}


def run(*command: str | Path, cwd: Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=ENV, capture_output=True, text=True)
    if ok and done.returncode:
        sys.exit(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done


def git(*words: str | Path, cwd: Path) -> str:
    return run("git", *words, cwd=cwd).stdout


def save(folder: Path, message: str) -> None:
    git("add", "--all", cwd=folder)
    git("commit", "--quiet", "--no-verify", "--message", message, cwd=folder)


# --- the template, and a project of it ---


def prepare(case: Case, source: Path, clone: Path, ours: bool) -> None:
    """A clone with only the two releases; the new one includes the update if `ours`."""
    git("clone", "--quiet", source, clone, cwd=source)
    commits = {tag: git("rev-parse", f"{tag}^{{commit}}", cwd=clone).strip() for tag in (case.old, case.new)}
    git("tag", "--delete", *git("tag", cwd=clone).split(), cwd=clone)
    for tag, commit in commits.items():
        git("checkout", "--quiet", "--force", commit, cwd=clone)
        if ours and tag == case.new:
            add_update(case, clone)
            save(clone, f"{tag}, with an update that follows moves")
        git("tag", tag, cwd=clone)


def add_update(case: Case, clone: Path) -> None:
    """Add the update as a maintainer would: copy the folder, write two lists, add the migration."""
    shutil.copytree(ROOT / "extensions" / "update", clone / "extensions" / "update")
    (clone / "extensions" / "moves.yml").write_text(case.moves)
    (clone / "extensions" / "ownership.yml").write_text(case.ownership)
    with (clone / "copier.yml").open("a") as file:
        file.write(MIGRATION)


def make(case: Case, clone: Path, project: Path) -> None:
    """An edited project of the old release."""
    given = [f"--data={key}={value}" for key, value in case.answers.items()]
    command = [sys.executable, "-m", "copier", "copy", "--quiet", "--defaults", "--trust", "--vcs-ref", case.old]
    run(*command, *given, clone, project, cwd=clone)
    git("init", "--quiet", cwd=project)
    save(project, "as copied")
    both = (project / case.both).read_text()
    (project / case.both).write_text(f"{OWN}\n{both}")
    for name, text in (*((name, f"\n\n{OWN}\n") for name in case.moved), (".gitignore", f"/{case.ignored}\n")):
        with (project / name).open("a") as file:
            file.write(text)
    save(project, "edited")
    (project / case.ignored).parent.mkdir(parents=True, exist_ok=True)
    (project / case.ignored).write_text(OWN)


def update(case: Case, project: Path) -> int:
    command = [sys.executable, "-m", "copier", "update", "--quiet", "--defaults", "--trust", "--vcs-ref", case.new]
    return run(*command, *answers(case), cwd=project, ok=False).returncode


def answers(case: Case) -> list[str]:
    return [f"--data={key}={value}" for key, value in case.later.items()]


# --- results ---


def state(project: Path) -> dict[str, object]:
    """The state of a project: its files, ignored ones included, and the index."""
    files = [path for path in project.rglob("*") if ".git" not in path.relative_to(project).parts]
    found: dict[str, object] = {
        str(path.relative_to(project)): (
            path.readlink() if path.is_symlink() else path.read_bytes(),
            path.stat().st_mode,
        )
        for path in files
        if path.is_symlink() or path.is_file()
    }
    return {**found, "index": git("ls-files", "--stage", cwd=project), "status": git("status", "-s", cwd=project)}


def holds(path: Path) -> bool:
    """Whether a file has the owner's line."""
    return path.is_file() and OWN in path.read_text()


def describe(case: Case, project: Path, status: int) -> dict[str, str]:
    """Where each part of the owner's work is after an update."""
    rows = {}
    for old, new in case.moved.items():
        where = next((name for name in (new, old) if holds(project / name)), None)
        rows[f"an edit in `{old}`"] = f"kept, in `{where}`" if where else "lost"
    rows[f"an edit in `{case.both}`"] = "kept" if holds(project / case.both) else "lost"
    rows[f"`{case.ignored}`, the owner's, which git ignores"] = "kept" if holds(project / case.ignored) else "lost"
    conflicts = {line.split("\t")[1] for line in git("ls-files", "--unmerged", cwd=project).splitlines()}
    rows["files in conflict"] = ", ".join(sorted(conflicts)) or "none"
    rows["exit status"] = str(status)
    return rows


def alone(case: Case, source: Path, folder: Path) -> dict[str, str]:
    """Update by Copier alone."""
    prepare(case, source, folder / "template", ours=False)
    make(case, folder / "template", folder / "project")
    return describe(case, folder / "project", update(case, folder / "project"))


def ours(case: Case, source: Path, folder: Path) -> dict[str, str]:
    """Update with `extensions/update`: by Copier and by its command line, with preview, explain and undo."""
    template, project = folder / "template", folder / "project"
    prepare(case, source, template, ours=True)
    make(case, template, project)
    before, moved = state(project), next(iter(case.moved.items()))
    program: list[str | Path] = [sys.executable, template / "extensions" / "update", project]

    def can(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return run(*program, *words, cwd=project, ok=False)

    previewed, explained = can("--preview", *answers(case)).stdout, can("--explain", project / moved[0]).stdout
    arrow = f"{moved[0]} → {moved[1]}"
    says = arrow in previewed and arrow in explained and state(project) == before
    rows = describe(case, project, update(case, project))
    by_copier, undone = state(project), can("--undo").returncode == 0 and state(project) == before
    can("--defaults", *answers(case))
    rows["preview and explanation name the move, and write nothing"] = "yes" if says else "no"
    rows["the program itself gives the same files and index"] = "yes" if state(project) == by_copier else "no"
    rows["undo restores everything, bit for bit"] = "yes" if undone else "no"
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Update projects of public templates.")
    parser.add_argument("templates", nargs="+", type=Path, metavar="CLONE", help=f"one of {', '.join(CASES)}")
    for source in parser.parse_args().templates:
        if (case := CASES.get(source.absolute().name)) is None:
            parser.error(f"{source}: unknown template; known are {', '.join(CASES)}")
        with tempfile.TemporaryDirectory() as name:
            left, right = Path(name, "alone"), Path(name, "ours")
            left.mkdir()
            right.mkdir()
            columns = alone(case, source.resolve(), left), ours(case, source.resolve(), right)
        title = f"{source.absolute().name} {case.old} → {case.new}"
        print(f"| {title} | Copier alone | with `extensions/update` |\n|---|---|---|")
        for row in columns[1]:
            print(f"| {row} | {columns[0].get(row, '–')} | {columns[1][row]} |")
        print(flush=True)


if __name__ == "__main__":
    main()
