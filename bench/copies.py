"""Duration of a copy, compared with a copy of the same files without rendering.

    .venv/bin/python bench/copies.py [PAIRS]

Both are full `copier copy` processes from plain folders. They alternate, after one warm-up each.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def copy(source: Path, project: Path) -> float:
    """Seconds of one copy."""
    shutil.rmtree(project, ignore_errors=True)
    command = [sys.executable, "-m", "copier", "copy", "--defaults", "--quiet", str(source), str(project)]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - start


def main(pairs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        template, static, project = (Path(folder) / name for name in ("template", "static", "project"))
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
        for name in filter(None, names):
            if (ROOT / name).exists():
                (template / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, template / name)
        copy(template, static)
        files = sum(path.is_file() for path in static.rglob("*"))
        copy(static, project)
        times = [(copy(template, project), copy(static, project)) for _ in range(pairs)]
    rendered, plain = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    print(f"{files} files, median of {pairs}: template {rendered:.2f} s, static copy {plain:.2f} s")
    print(f"ratio of medians {rendered / plain:.2f}, median of paired ratios {ratio:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
