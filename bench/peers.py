"""What the comparisons with other frameworks share: a project, an environment with all frameworks, processes, tables.

The environment is build/bench-venv, made on first use: the torch of constraints.txt, and the frameworks of
bench/peers-requirements.txt. The project runs in it too, so that all contenders share one torch.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / "build" / "bench-venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "bench" / "peers-requirements.txt"
CONSTRAINTS = ROOT / "constraints.txt"
OURS = ["torch", "numpy", "pillow", "pyyaml", "pydantic", "matplotlib"]
VERSIONS = """
from importlib.metadata import distributions
for found in distributions():
    print(found.name, found.version)
"""


def install() -> None:
    """Make the environment if it is missing or outdated; SystemExit if it has another torch."""
    stamp, sources = VENV / "installed", (REQUIREMENTS, CONSTRAINTS)
    if stamp.exists() and stamp.stat().st_mtime >= max(path.stat().st_mtime for path in sources):
        return
    print(f"installing the frameworks into {VENV.relative_to(ROOT)}", file=sys.stderr)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS)]
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    subprocess.run([*pip, *OURS], check=True, stderr=subprocess.DEVNULL)
    subprocess.run([*pip, "--requirement", str(REQUIREMENTS)], check=True, stderr=subprocess.DEVNULL)
    wanted = next(line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("torch=="))
    there = versions()
    if there["torch"].partition("+")[0] != wanted.removeprefix("torch=="):
        raise SystemExit(f"{VENV.relative_to(ROOT)}: torch {there['torch']} is not {wanted}; remove the folder")
    if "+cpu" in there["torch"] and any(name.startswith("nvidia") for name in there):
        raise SystemExit(f"{VENV.relative_to(ROOT)}: has packages of nvidia for a torch without GPU; remove the folder")
    stamp.touch()


def versions() -> dict[str, str]:
    """The version of each package of the environment, by name."""
    done = subprocess.run([str(PYTHON), "-c", VERSIONS], check=True, capture_output=True, text=True)
    return dict(line.split() for line in done.stdout.lower().splitlines())


def render(project: Path, *answers: str) -> Path:
    """A project with these answers and its sample unpacked, from the template's work tree."""
    install()
    copy = ["copier", "copy", "--defaults", "--quiet", "--vcs-ref=HEAD", *answers, str(ROOT), str(project)]
    subprocess.run([sys.executable, "-W", "ignore", "-m", *copy], check=True)
    unpack = "from pathlib import Path; from my_project.data.splits import unpack_sample; unpack_sample(Path('data'))"
    run(project, "-c", unpack)
    return project


def run(project: Path, *arguments: str, **environment: str) -> str:
    """The output of one Python process in the project, with one thread; SystemExit if it fails."""
    common = {"PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    command, settings = [str(PYTHON), *arguments], {**os.environ, **common, **environment}
    done = subprocess.run(command, cwd=project, env=settings, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def rotated(names: Sequence[str], rounds: int) -> Iterator[Sequence[str]]:
    """All names once per round; the first one rotates, and every second round is reversed."""
    for number in range(rounds):
        first = number // 2 % len(names)
        order = [*names[first:], *names[:first]]
        yield order if number % 2 == 0 else order[::-1]


def table(title: str, unit: str, rounds: Sequence[dict[str, float]], base: str) -> str:
    """A Markdown table: median, minimum and maximum of each column, and the median ratio to `base`."""
    rows = [f"| {title} | {unit}, median of {len(rounds)} | least to most | x {base} |", "|---|---|---|---|"]
    for name in rounds[0]:
        column = [times[name] for times in rounds]
        ratio = statistics.median(times[name] / times[base] for times in rounds)
        spread = f"{_short(min(column))} to {_short(max(column))}"
        rows.append(f"| {name} | {_short(statistics.median(column))} | {spread} | {ratio:.2f} |")
    return "\n".join(rows)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def environment(*packages: str) -> str:
    """One line: Python, the packages' versions, and the machine's cores."""
    there = versions()
    named = ", ".join(f"{name} {there[name]}" for name in ("torch", *packages))
    return f"Python {'.'.join(map(str, sys.version_info[:3]))}, {named}; {os.cpu_count()} cores, one thread a process"
