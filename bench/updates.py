"""How long an update takes, beside that of Copier alone.

    .venv/bin/python bench/updates.py [PAIRS]

Both are whole `copier update` processes on copies of one edited project, from v0.1.0 to the newest release; they
alternate, after one of each that doesn't count. Copier alone is the same template without its migration.
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
ENV = os.environ | NOBODY | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=ENV, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}:\n{done.stdout}{done.stderr}")
    return done.stdout


def save(folder: Path) -> None:
    run("git", "add", "--all", cwd=folder)
    run("git", "commit", "--quiet", "--allow-empty", "--message=-", cwd=folder)


def prepare(folder: Path, alone: bool) -> str:
    """A template and an edited project in a folder; the version to update to."""
    template, project = folder / "template", folder / "project"
    run("git", "clone", "--quiet", ROOT, template, cwd=ROOT)
    run("make", "--silent", "tags", cwd=template)
    newest = run("git", "tag", "--list", "v*", "--sort=-version:refname", cwd=template).split()[0]
    if alone:
        run("git", "checkout", "--quiet", newest, cwd=template)
        settings = yaml.safe_load((template / "copier.yml").read_text())
        del settings["_migrations"]
        (template / "copier.yml").write_text(yaml.safe_dump(settings, sort_keys=False))
        save(template)
        run("git", "tag", "--force", newest, cwd=template)
    copy = [sys.executable, "-m", "copier", "copy", "--quiet", "--defaults", "--vcs-ref", "v0.1.0"]
    run(*copy, template, project, cwd=folder)
    run("git", "init", "--quiet", cwd=project)
    save(project)
    for name in ("README.md", "Makefile", "src/my_project/__init__.py", "src/my_project/model/cnn.py"):
        with (project / name).open("a") as file:
            file.write("\n# own\n")
    save(project)
    return newest


def update(folder: Path, version: str) -> float:
    """Seconds of one update, of a copy of the project."""
    project = folder / "copy"
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(folder / "project", project)
    command = ["update", "--trust", "--defaults", "--quiet", "--vcs-ref", version]
    start = time.perf_counter()
    run(sys.executable, "-m", "copier", *command, cwd=project)
    return time.perf_counter() - start


def main(pairs: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        ours, alone = Path(name, "ours"), Path(name, "alone")
        for folder in (ours, alone):
            folder.mkdir()
            version = prepare(folder, folder == alone)
            update(folder, version)
        times = [(update(ours, version), update(alone, version)) for _ in range(pairs)]
    merged, plain = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    print(f"v0.1.0 to {version}, median of {pairs}: with extensions/update {merged:.2f} s, Copier alone {plain:.2f} s")
    print(f"ratio, median of the pairs {ratio:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 11)
