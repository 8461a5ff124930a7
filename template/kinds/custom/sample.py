"""Make the sample data of the custom kind again: ``data/sample.zip`` and ``images/sample/new.csv``.

    python3 template/kinds/custom/sample.py

There is no source: the points are made here, from a seed, with the standard library alone. The same Python writes the
same bytes each time; Python's ``random()`` and ``gauss()`` give the same numbers on every platform.
"""

import argparse
import io
import math
import random
import zipfile
from pathlib import Path

TEMPLATE = Path(__file__).parents[2]
KIND = TEMPLATE / "project/{{custom}}"
SEED, TURNS, NOISE = 0, 1.0, 0.02
SPLITS = {"train": 800, "valid": 200, "test": 400}

NOTICE = """\
Points in the plane, in two arms of a spiral. They are synthetic: a program generates them from a seed.

Source:     template/kinds/custom/sample.py of the template, seed {seed}
Licence:    CC0-1.0, in LICENSE.txt beside this file
How:        each point is drawn uniformly from the disc of radius 1. A spiral that turns once from the centre to the
            edge divides the disc into two equal arms, the classes 0 and 1. Then x and y get normal noise with a
            standard deviation of {noise}, and are rounded to 4 digits.
Contents:   {counts} points; no point is in two splits

Before you trust a number:
- It shows that the code learns. It says nothing about how good a model would be on your data.
- Noise moves some points across the border between the arms. So the true spiral, which no model can beat, has an
  accuracy of {best:.2%} on the test points; a higher one is chance.
- The test split has {test} points: one mistake is {percent:.2f} %.
- All splits are drawn from the same distribution. Real test data often differ from the training data.
"""


def arm(x: float, y: float) -> int:
    """Return which of the two arms of the spiral contains a point."""
    turns = math.atan2(y, x) / (2 * math.pi) - TURNS * math.hypot(x, y)
    return int(turns % 1 >= 0.5)


def point(rng: random.Random) -> tuple[float, float, int]:
    """Draw a point: x and y with noise, and the arm of the point without noise."""
    radius, angle = math.sqrt(rng.random()), 2 * math.pi * rng.random()
    x, y = radius * math.cos(angle), radius * math.sin(angle)
    return round(x + rng.gauss(0, NOISE), 4), round(y + rng.gauss(0, NOISE), 4), arm(x, y)


def archive(rng: random.Random) -> bytes:
    """Return the zip file's bytes: ``<split>/points.csv``, ``NOTICE.txt`` and ``LICENSE.txt``."""
    points = {split: [point(rng) for _ in range(count)] for split, count in SPLITS.items()}
    if len({(x, y) for part in points.values() for x, y, _ in part}) < sum(SPLITS.values()):
        raise SystemExit("two points are equal; use another seed")
    notice = NOTICE.format(
        seed=SEED,
        noise=NOISE,
        counts=", ".join(f"{split} {count}" for split, count in SPLITS.items()),
        best=sum(arm(x, y) == label for x, y, label in points["test"]) / SPLITS["test"],
        test=SPLITS["test"],
        percent=100 / SPLITS["test"],
    )
    files = {"NOTICE.txt": notice, "LICENSE.txt": (TEMPLATE / "licenses" / "CC0-1.0.txt").read_text("utf-8")}
    for split, part in points.items():
        files[f"{split}/points.csv"] = "x,y,class\n" + "".join(f"{x},{y},{label}\n" for x, y, label in part)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)  # its date is 1980-01-01
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix on every platform, so that the mode is the same everywhere
            entry.external_attr = 0o100644 << 16
            target.writestr(entry, content.encode())
    return buffer.getvalue()


def main() -> None:
    """Write the archive and the points to try a model on."""
    parser = argparse.ArgumentParser(description="Make data/sample.zip and images/sample/ of the custom kind.")
    parser.add_argument("--out", type=Path, default=KIND, help="folder to write data/ and images/ into")
    arguments = parser.parse_args()
    for folder in ("data", "images/sample"):
        (arguments.out / folder).mkdir(parents=True, exist_ok=True)
    rng = random.Random(SEED)
    (arguments.out / "data/sample.zip").write_bytes(archive(rng))
    new = "x,y\n" + "".join(f"{x},{y}\n" for x, y, _ in (point(rng) for _ in range(5)))
    (arguments.out / "images/sample/new.csv").write_text(new, "utf-8", newline="\n")


if __name__ == "__main__":
    main()
