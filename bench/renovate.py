"""Compare Renovate's pull request with the work tree after `copier update`.

    npm install --prefix build/renovate --ignore-scripts --omit=optional renovate@44.121.2
    .venv/bin/python bench/renovate.py build/renovate [NODE]

This runs Renovate's own code: its Copier manager starts `copier update` in Renovate's environment, reads `git status`
through simple-git and makes the commit. For each release, it runs on an edited project, in a clone without blobs as
Renovate makes them, with the settings of the `renovate.json` that a project gets. NODE is the path of a Node that this
Renovate supports, 24 or newer. Exit status 1 if a pull request lacks something.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = "template/project/{{renovate}}/renovate.json"
ANSWERS = ".copier-answers.yml"
NEXT = "v9999.0.0"
NOBODY = {f"GIT_{who}_{what}": "bench@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
ENV = (
    os.environ
    | NOBODY
    | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "LOG_LEVEL": "fatal"}
)


def run(*command: str | Path, cwd: Path, given: str = "", statuses: Sequence[int] = (0,)) -> str:
    words = list(map(str, command))
    done = subprocess.run(words, cwd=cwd, env=ENV, input=given, capture_output=True, text=True)
    if done.returncode not in statuses:
        sys.exit(f"{words}:\n{done.stdout}{done.stderr}")
    return done.stdout


def git(*words: str | Path, cwd: Path) -> str:
    return run("git", *words, cwd=cwd)


def save(repository: Path) -> None:
    git("add", "--all", cwd=repository)
    git("commit", "--quiet", "--message=-", cwd=repository)


def tree(repository: Path, revision: str) -> dict[str, str]:
    """Mode and id of each file, by path."""
    entries = git("ls-tree", "-r", "-z", revision, cwd=repository).split("\0")
    return {path: what for what, path in (entry.split("\t") for entry in entries if entry)}


# --- a template with releases, and projects of them ---


def template(folder: Path) -> Path:
    """A clone of this repository with a tag for each release, and one for HEAD."""
    clone = folder / "template"
    git("clone", "--quiet", ROOT, clone, cwd=ROOT)
    run("make", "--silent", "tags", cwd=clone)
    git("tag", NEXT, cwd=clone)
    return clone


def origin(source: Path, release: str, repository: Path, folder: str, conflict: bool) -> None:
    """A repository with an edited project of a release in a folder."""
    project = repository / folder
    words = ["--quiet", "--defaults", "--vcs-ref", release]
    run(sys.executable, "-W", "ignore", "-m", "copier", "copy", *words, f"git+{source.as_uri()}", project, cwd=source)
    git("init", "--quiet", "--initial-branch=main", cwd=repository)
    git("config", "uploadpack.allowFilter", "true", cwd=repository)
    save(repository)
    for name in ("src/my_project/__main__.py", "src/my_project/engine/tracking.py", "Makefile", "test/conftest.py"):
        if (project / name).exists():  # v0.2.0 and v0.3.0 moved the first two
            (project / name).write_text((project / name).read_text().replace("\n", "\n# own\n", 1))
    if conflict:
        page = project / "docs" / "updating.md"
        page.write_text("\n".join(f"{line} (own)" for line in page.read_text().splitlines()))
    (project / ".editorconfig").unlink()
    (project / "docs" / "install.md").rename(project / "docs" / "how to install 메모.md")
    (project / "own.sh").write_text("#!/bin/sh\n")
    (project / "own.sh").chmod(0o755)
    (project / "own link").symlink_to("docs")
    save(repository)


# --- the two outcomes ---


def by_copier(repository: Path, folder: str, clone: Path) -> dict[str, str]:
    """The work tree after the same command without Renovate."""
    git("clone", "--quiet", repository, clone, cwd=repository)
    command = ["update", "--trust", "--skip-answered", "--defaults", "--answers-file", ANSWERS, "--vcs-ref", NEXT]
    run(sys.executable, "-m", "copier", *command, cwd=clone / folder, statuses=(0, 1))
    git("add", "--all", cwd=clone)
    return tree(clone, git("write-tree", cwd=clone).strip())


def by_renovate(install: Path, node: str, **settings: Any) -> dict[str, Any]:
    """Renovate's commit."""
    given = {"renovate": str(install / "node_modules" / "renovate"), **settings}
    said = run(node, ROOT / "bench" / "renovate.mjs", cwd=ROOT, given=json.dumps(given))
    return dict(json.loads(said.splitlines()[-1]))


def compare(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """The paths at which the pull request differs from the work tree, and how."""
    lines = []
    for path in sorted({*expected, *found}):
        if path not in found:
            lines.append(f"lacks {path}")
        elif path not in expected:
            lines.append(f"still has {path}")
        elif expected[path] != found[path]:
            other = "contents" if expected[path].split()[2] != found[path].split()[2] else "mode"
            lines.append(f"other {other}: {path}")
    return lines


class Case(NamedTuple):
    """A project of a release, its folder in the repository, whether the edits conflict, and which settings are off."""

    release: str
    folder: str = ""
    conflict: bool = False
    without: str = ""

    def __str__(self) -> str:
        folder, without = f"in {self.folder}" * bool(self.folder), f"without {self.without}" * bool(self.without)
        return ", ".join(filter(None, [self.release, folder, without, "conflicts" * self.conflict]))


def play(case: Case, source: Path, place: Path, install: Path, node: str) -> bool:
    """Print a row of the table, two for conflicts. Returns whether the commit is complete."""
    (place / "origin" / case.folder).mkdir(parents=True)
    (place / "clone").mkdir()
    origin(source, case.release, place / "origin", case.folder, case.conflict)
    before, expected = tree(place / "origin", "main"), by_copier(place / "origin", case.folder, place / "copier")
    changed = [path for path in {*expected, *before} if expected.get(path) != before.get(path)]
    config = json.loads((ROOT / SETTINGS).read_text())
    given = {
        "origin": (place / "origin").as_uri(),
        "clone": str(place / "clone"),
        "file": str(Path(case.folder, ANSWERS)),
        "version": NEXT,
        "config": {**config, "env": {}} if case.without in config["env"] else config,
        "allowScripts": case.without != "allowScripts",
    }
    right = True
    for branch in ("first", "second") if case.conflict else ("first",):  # in one clone, as for two major versions
        made = by_renovate(install, node, branch=branch, **given)
        differs = compare(expected, tree(place / "clone", made["commit"]))
        row = f"{case}, again" if branch == "second" else case, len(changed), len(differs), len(made["errors"])
        print("|", *(f"{cell} |" for cell in row), flush=True)
        print(*made["errors"], *differs, sep="\n", file=sys.stderr, flush=True)
        right &= not differs and case.conflict == bool(made["errors"]) == bool(made["notices"])
    return right


def main(install: Path, node: str) -> None:
    print("| project of | files changed | wrong in the commit | errors |", "|---" * 4 + "|", sep="\n")
    with tempfile.TemporaryDirectory() as name:
        source = template(Path(name))
        releases = git("tag", "--list", "v*", "--sort=version:refname", cwd=source).split()[:-1]
        cases = [Case(release, conflict=conflict) for release in releases for conflict in (False, True)]
        cases += [Case(releases[0], "models/one"), Case(releases[0], "models/one", conflict=True)]
        off = [Case(releases[0], without="UPDATE_BY_BOT"), Case(releases[0], without="allowScripts")]
        places = (Path(name, str(number)) for number in itertools.count())
        right = [play(case, source, next(places), install, node) for case in [*cases, *off]]
    sys.exit(not all(right[: len(cases)]))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve(), sys.argv[2] if len(sys.argv) > 2 else "node")
