"""All combinations, and more random cases than `make test`: writes the table of docs/testing.md.

    make exhaustive                    everything; takes long, for the days before a release
    make exhaustive ARGS="-k fuzz"     a part; prints the table, does not write it
    .venv/bin/python bench/exhaustive.py --table FILE      that table, from what `make test ARGS=--junitxml=FILE` wrote

N (500) is the number of random projects and edits, KILLS (30) how often a training run of each kind of data is killed.
"""

import ast
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "testing.md"
BEGIN, END = "<!-- exhaustive -->", "<!-- /exhaustive -->"
PYTEST = [sys.executable, "-m", "pytest", "--numprocesses=auto", "--dist=worksteal", "--durations=20"]


def what(file: Path) -> str:
    """The first sentence of a test file's docstring: the column `what` of the table."""
    return (ast.get_docstring(ast.parse(file.read_text())) or "").partition(".\n")[0].replace("\n", " ").rstrip(".")


def table(results: Path) -> list[str]:
    """A row per test file, from pytest's results, and the total."""
    counts: dict[str, list[float]] = {}
    for case in ElementTree.parse(results).iter("testcase"):
        row = counts.setdefault(case.attrib["classname"].rpartition(".")[2], [0, 0, 0])
        row[0] += 1
        row[1] += any(child.tag in ("failure", "error") for child in case)
        row[2] += float(case.attrib["time"]) / 60
    lines = ["| file | what | tests | failed | minutes of one worker |", "|---|---|---|---|---|"]
    for name, (number, failed, minutes) in sorted(counts.items()):
        lines.append(f"| {name} | {what(ROOT / 'tests' / f'{name}.py')} | {number} | {failed} | {minutes:.1f} |")
    sums = [sum(row[column] for row in counts.values()) for column in range(3)]
    return [*lines, f"| all | | {sums[0]} | {sums[1]} | {sums[2]:.1f} |"]


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--table"]:
        print(*table(Path(arguments[1])), sep="\n")
        return 0
    env = {"N": "500", "KILLS": "30"} | os.environ
    commit = subprocess.check_output(["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True).strip()
    with tempfile.TemporaryDirectory() as folder:
        results, start = Path(folder, "results.xml"), time.time()
        status = subprocess.run([*PYTEST, f"--junitxml={results}", *arguments], cwd=ROOT, env=env).returncode
        minutes = (time.time() - start) / 60
        found = "\n".join(table(results))
    head = f"{time.strftime('%Y-%m-%d')}, commit {commit}: {minutes:.0f} minutes on {os.cpu_count()} cores, with "
    head += f"N={env['N']} random projects and KILLS={env['KILLS']} kills of a training run of each kind of data."
    print(head, found, sep="\n\n")
    if not arguments:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{head}\n\n{found}\n{END}{rest.partition(END)[2]}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
