"""Duration of an update, compared with one by Copier alone.

    .venv/bin/python bench/updates.py [ROUNDS]

Whole processes on copies of one edited project, from v0.1.0 to this repository's HEAD: `copier update`, the project's
`scripts/update.py`, and `copier update` of the same template without its migration. They alternate, after one
warm-up of each; the script's clone of the template exists from the second run on.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
NOBODY = {f"GIT_{who}_{what}": "bench" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
NEXT = "v9999.0.0"
ENV = os.environ | NOBODY | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=ENV, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}:\n{done.stdout}{done.stderr}")
    return done.stdout


def save(folder: Path) -> None:
    run("git", "add", "--all", cwd=folder)
    run("git", "commit", "--quiet", "--allow-empty", "--message=-", cwd=folder)


def prepare(folder: Path, alone: bool) -> None:
    """A template and an edited project in a folder."""
    template, project = folder / "template", folder / "project"
    run("git", "clone", "--quiet", ROOT, template, cwd=ROOT)
    run("make", "--silent", "tags", cwd=template)
    if alone:
        settings = yaml.safe_load((template / "copier.yml").read_text())
        del settings["_migrations"]
        (template / "copier.yml").write_text(yaml.safe_dump(settings, sort_keys=False))
        save(template)
    run("git", "tag", NEXT, cwd=template)
    copy = [sys.executable, "-m", "copier", "copy", "--quiet", "--defaults", "--vcs-ref", "v0.1.0"]
    run(*copy, template, project, cwd=folder)
    run("git", "init", "--quiet", cwd=project)
    save(project)
    for name in ("README.md", "Makefile", "src/my_project/__init__.py", "src/my_project/model/cnn.py"):
        with (project / name).open("a") as file:
            file.write("\n# own\n")
    shutil.copy(ROOT / "template" / "project" / "scripts" / "update.py", project / "scripts")
    save(project)


def update(folder: Path, by_script: bool = False) -> float:
    """Seconds of one update of a copy of the project."""
    project, fetched = folder / "copy", Path(".git", "copier-update", "template")
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(folder / "project", project)
    command = ["-m", "copier", "update", "--trust", "--defaults", "--quiet", "--vcs-ref", NEXT]
    if by_script:
        command = ["scripts/update.py", "--defaults"]
    start = time.perf_counter()
    run(sys.executable, *command, cwd=project)
    seconds = time.perf_counter() - start
    if by_script and not (folder / "project" / fetched).exists():
        shutil.copytree(project / fetched, folder / "project" / fetched)
    return seconds


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        ours, alone = Path(name, "ours"), Path(name, "alone")
        for folder in (ours, alone):
            folder.mkdir()
            prepare(folder, folder == alone)

        def each() -> tuple[float, float, float]:
            return update(ours), update(ours, by_script=True), update(alone)

        each()
        times = [each() for _ in range(rounds)]
    print(f"v0.1.0 to {NEXT}, median of {rounds}, and of the ratios to Copier alone")
    for column, what in enumerate(("copier update", "scripts/update.py", "Copier alone")):
        seconds = statistics.median(row[column] for row in times)
        print(f"{what:20} {seconds:5.2f} s {statistics.median(row[column] / row[2] for row in times):5.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 11)
