"""Plant known faults, one at a time, and check that a test notices each of them.

    .venv/bin/python tests/planted.py [--only 3,7 | --only TEXT] [--jobs 2] [--tests-of FOLDER] [--write]

`planted.yml` lists the faults. Each is put into a copy of the repository, where its tests have to fail.
Exit status: 0 if all were caught, 1 if one was not, or if an entry of the list is wrong.
"""

import argparse
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "testing.md"
PYTEST = ["nice", "-n", "10", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
LIMIT = 900  # seconds, the limit of one selection of tests


@dataclass
class Fault:
    """An entry of `planted.yml` and its result: the test that failed, or what is wrong with the entry."""

    number: int
    file: str
    old: str
    new: str
    breaks: str
    tests: list[str]
    caught_by: str = ""
    wrong: str = ""


def read_list(only: str) -> list[Fault]:
    """The faults, selected by numbers, or by a text in `file` or `breaks`."""
    faults = []
    for number, entry in enumerate(yaml.safe_load((ROOT / "tests" / "planted.yml").read_text(encoding="utf-8")), 1):
        tests = entry.pop("tests")
        faults.append(Fault(number, **entry, tests=[tests] if isinstance(tests, str) else tests))
    if re.fullmatch(r"[\d,]+", only):
        return [fault for fault in faults if str(fault.number) in only.split(",")]
    return [fault for fault in faults if only in fault.file or only in fault.breaks]


def copy_repository(source: Path, folder: Path) -> None:
    """A clone with its history, since tests need the released versions, and with the work tree on top."""
    subprocess.run(["git", "clone", "--quiet", "--no-checkout", source, folder], check=True)
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=source, check=True, capture_output=True, text=True).stdout
    for name in listed.split("\0"):
        if name and (source / name).exists():  # a file deleted from the work tree is still listed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, folder / name)
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)


def run_pytest(folder: Path, *arguments: str, marks: str = "not exhaustive") -> tuple[int, str]:
    """Exit status and output of pytest in a copy. At the time limit, the run and its processes are killed."""
    command = [*PYTEST, f"--basetemp={folder}-tmp", *arguments]
    if "exhaustive:" in (folder / "pyproject.toml").read_text(encoding="utf-8"):  # v0.6.1 has no such marker
        command += ["-m", marks]
    options: dict[str, Any] = {"cwd": folder, "text": True, "errors": "replace", "start_new_session": True}
    # The last one also ends the tests of a project, which some tests run, at the first that fails.
    options["env"] = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": "-x"}
    options |= {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, **options)
    try:
        output = process.communicate(timeout=LIMIT)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return 1, f"FAILED {shlex.join(arguments)} (more than {LIMIT} s)\n"
    return process.returncode, output


def plant(fault: Fault, folder: Path) -> None:
    """Put the fault into a copy, run its tests until one fails, and restore the file."""
    path = folder / fault.file
    content = path.read_bytes() if path.is_file() else b""
    if (count := content.count(fault.old.encode())) != 1 or fault.old == fault.new:
        fault.wrong = f"`old` occurs {count} times in the file, or is the same as `new`"
        return
    for tests in fault.tests:
        path.write_bytes(content.replace(fault.old.encode(), fault.new.encode()))
        status, output = run_pytest(folder, *shlex.split(tests))
        if status == 5:  # the variant is not one of today's
            status, output = run_pytest(folder, *shlex.split(tests), marks="")
        path.write_bytes(content)
        if status in (4, 5):
            fault.wrong = f"pytest ends with {status}, as no test was found: {tests}"
            return
        if status not in (0, 1) and run_pytest(folder, "--collect-only", *shlex.split(tests))[0]:
            fault.wrong = f"the tests can't be collected without the fault either: {tests}"
            return
        if status:
            found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, flags=re.MULTILINE)
            fault.caught_by = found[1] if found else f"{tests} (pytest ends with {status})"
            return


def plant_all(faults: list[Fault], source: Path, jobs: int) -> None:
    """Plant each fault, `jobs` at a time, each in its own copy; print a line for each as it is done."""
    copies: queue.Queue[Path] = queue.Queue()

    def one(fault: Fault) -> None:
        folder, started = copies.get(), time.monotonic()
        plant(fault, folder)
        copies.put(folder)
        said = f"caught by {fault.caught_by}" if fault.caught_by else f"NOT CAUGHT {fault.wrong}".rstrip()
        print(f"{fault.number:3} {fault.file}: {said} ({time.monotonic() - started:.0f} s)", flush=True)

    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        for number in range(jobs):
            copy_repository(source, Path(folder, f"copy-{number}"))
            copies.put(Path(folder, f"copy-{number}"))
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(one, faults))


def write_table(faults: list[Fault]) -> None:
    """Replace the table between the marks of docs/testing.md; rows of other faults keep their test."""
    text, now = PAGE.read_text(encoding="utf-8"), {fault.number: fault.caught_by for fault in faults}
    written = re.findall(r"\| \d+ \| `(.+?)` \| (.+) \| `(.+)` \|", text)
    before = {(file, breaks): test for file, breaks, test in written}
    rows = ["| # | file | what a user would notice | caught by |", "|---|---|---|---|"]
    for fault in read_list(""):
        test = now.get(fault.number, before.get((fault.file, fault.breaks)))
        rows.append(f"| {fault.number} | `{fault.file}` | {fault.breaks} | {f'`{test}`' if test else '**nothing**'} |")
    table = "\n".join(rows) + "\n"
    marks = r"(?s)(<!-- planted -->\n).*(<!-- /planted -->)"
    PAGE.write_text(re.sub(marks, lambda match: match[1] + table + match[2], text), encoding="utf-8")


def main() -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--only", default="", metavar="N,M|TEXT", help="some numbers, or a text in an entry")
    parser.add_argument("--jobs", type=int, default=1, help="faults at a time (1)")
    parser.add_argument("--tests-of", type=Path, default=ROOT, metavar="FOLDER", help="another checkout to test")
    parser.add_argument("--write", action="store_true", help="write the table of docs/testing.md")
    options = parser.parse_args()
    faults = read_list(options.only)
    plant_all(faults, options.tests_of.resolve(), options.jobs)
    if options.write and PAGE.is_file():
        write_table(faults)
    caught = sum(bool(fault.caught_by) for fault in faults)
    print(f"{caught} of {len(faults)} caught")
    return 0 if faults and caught == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main())
