"""Line coverage of extensions/ and of a default project's package, over all processes.

    make coverage                            all of `make test`
    .venv/bin/python bench/lines.py tests/test_adopt.py
    .venv/bin/python bench/lines.py --from FOLDER      count again from an earlier run

Prints a row for each file that is not fully covered, with the missing lines, then the total.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

import coverage
from lines_hook import ROOTS

ROOT = Path(__file__).resolve().parents[1]
TESTS = ["--numprocesses=auto", "--dist=worksteal", "-q", "-m", "not exhaustive"]


def measure(reference: Path, folder: Path, arguments: Sequence[str]) -> int:
    """Run the tests; each process writes a file to the folder. Returns pytest's exit status."""
    site = Path(sysconfig.get_path("purelib"))
    hook, starter = site / "lines_hook.py", site / "lines_hook.pth"
    shutil.copy(ROOT / "bench" / "lines_hook.py", hook)
    starter.write_text("import os; 'LINES_OF' in os.environ and __import__('lines_hook')\n")
    env = os.environ | {"LINES_OF": str(reference), "LINES_TO": str(folder)}
    try:
        return subprocess.run([sys.executable, "-m", "pytest", *TESTS, *arguments], cwd=ROOT, env=env).returncode
    finally:
        hook.unlink()
        starter.unlink()


def laid_out(folder: Path) -> Path:
    """The files to count, by path: those of a default project, and those of extensions/."""
    command = ["-W", "ignore", "-m", "copier", "copy", "--defaults", "--quiet", "--vcs-ref", "HEAD"]
    subprocess.run([sys.executable, *command, ROOT, folder], check=True)
    shutil.copytree(ROOT / "extensions", folder / "extensions")
    return folder


def report(reference: Path, folder: Path) -> None:
    """Print the coverage of all processes together."""
    run: dict[str, set[int]] = {}
    for path in folder.glob("*.json"):
        for name, lines in json.loads(path.read_text()).items():
            run.setdefault(name, set()).update(lines)
    counts = []
    for file in sorted(path for root in ROOTS for path in (reference / root).rglob("*.py")):
        name = file.relative_to(reference).as_posix()
        _, statements, _, _, _ = coverage.Coverage(data_file=None, config_file=False).analysis2(str(file))
        missing = [line for line in statements if line not in run.get(name, ())]
        counts.append((name.startswith(ROOTS[0]), len(statements), len(missing)))
        if missing:
            print(f"{name:50} {1 - len(missing) / len(statements):7.1%}  {' '.join(map(str, missing))}")
    for of_scripts, root in ((True, ROOTS[0]), (False, ROOTS[1])):
        total, missed = (sum(row[column] for row in counts if row[0] == of_scripts) for column in (1, 2))
        print(f"{root}: {total - missed} of {total} lines, {1 - missed / total:.2%}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="folder", type=Path)
    options, arguments = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        reference = laid_out(Path(temporary, "reference"))
        folder = options.folder or Path(temporary, "lines")
        folder.mkdir(exist_ok=True)
        status = 0 if options.folder else measure(reference, folder, arguments)
        report(reference, folder)
    return status


if __name__ == "__main__":
    sys.exit(main())
