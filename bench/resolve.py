"""Check, without installing, that pip finds a wheel for each version in constraints.txt.

    python3 bench/resolve.py                      for each Python in PYTHONS, on this operating system and processor
    python3 bench/resolve.py /usr/bin/python3     for that interpreter, in a new virtual environment with its own pip

torch is left out, since older releases of pip download gigabytes to answer. Needs the standard library and pip.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
PYTHONS = ("3.11.2", "3.12.0", "3.13.0", "3.14.0")  # Debian 12 has 3.11.2: some packages need a later 3.11
INSTALL = ["-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--only-binary=:all:"]
MARKER = re.compile(r'python_full_version (<|>=) "([0-9.]+)"')


def pins() -> list[str]:
    """The lines of the list, without comments and torch."""
    lines = [line.partition("#")[0].strip() for line in CONSTRAINTS.read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("torch==")]


def admits(pin: str, version: str) -> bool:
    """Whether a line applies to a version of Python. pip's --python-version does not affect markers."""
    condition = pin.partition(";")[2].strip()
    if not condition:
        return True
    match = MARKER.fullmatch(condition) or sys.exit(f'{pin}: only python_full_version < or >= "X.Y.Z" is understood')
    older = [int(part) for part in version.split(".")] < [int(part) for part in match[2].split(".")]
    return older == (match[1] == "<")


def unavailable(pip: list[str], wanted: list[str]) -> list[str]:
    """The lines for which no wheel exists. pip stops at the first such line, so it runs again without that line."""
    failed: list[str] = []
    while True:
        done = subprocess.run([*pip, *wanted], capture_output=True, text=True)
        if done.returncode == 0:
            return failed
        found = re.search(r"No matching distribution found for ([^\s;]+)", done.stderr)
        if not found or found[1] in failed:
            sys.exit(f"{pip[0]} -m pip failed:\n{done.stderr}")
        failed.append(found[1])
        wanted = [pin for pin in wanted if pin.partition(";")[0] != found[1]]


def main(interpreter: str | None) -> int:
    """Run the checks and return the exit status."""
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        commands = {}
        if interpreter:
            subprocess.run([interpreter, "-m", "venv", folder], check=True)
            commands[interpreter] = [f"{folder}/bin/python", *INSTALL], pins()
        else:
            for version in PYTHONS:
                pip = [sys.executable, *INSTALL, "--ignore-installed", "--target", folder, "--python-version", version]
                commands[version] = pip, [pin.partition(";")[0] for pin in pins() if admits(pin, version)]
        for name, (pip, wanted) in commands.items():
            failed = unavailable(pip, wanted)
            failures += len(failed)
            print(f"{name}: {'no wheel for ' + ', '.join(failed) if failed else 'ok'}", flush=True)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else None))
