"""Train each kind of data with its default config, on one thread: docs/kinds.md's table, and the pictures.

    .venv/bin/python bench/kinds.py [KIND ...]

For each kind, this copies a project, trains it with configs/train.yaml, tests the best checkpoint on the test split,
and runs the kind's baseline.py. Without names, it does this for all kinds, writes the table and each archive's notice
into docs/kinds.md, replaces the two example pictures of each kind, and draws docs/pictures/kinds.png from them.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "kinds.md"
SHEET = ROOT / "docs" / "pictures" / "kinds.png"
BEGIN, END = "<!-- made by bench/kinds.py -->\n", "<!-- until here -->\n"
NOTICES = "<!-- the archives' notices, put here by bench/kinds.py -->\n"
TILE, GAP, LINE, COLUMNS = (440, 280), 14, 26, 2  # pixels; kinds per row
PAPER, INK = "#ffffff", "#222222"


class Row(NamedTuple):
    """The results of one kind."""

    kind: str
    metric: str
    value: float
    baseline: str
    to_beat: float
    less: bool
    seconds: float
    size: int


def kinds() -> list[str]:
    """All kinds, in the order of copier.yml."""
    text = (ROOT / "copier.yml").read_text()
    section = text.partition("\ndata_kind:\n")[2].partition("\n\n")[0]
    return re.findall(r'^    ".+": (\w+)$', section, re.MULTILINE)


def room(kind: str) -> Path:
    """The folder of the kind's own files."""
    return ROOT / "template" / "project" / f"{{{{{kind}}}}}"


def example(kind: str) -> str:
    """The first picture of images/result/ that the kind's pages name: the most important one."""
    words = (ROOT / "template" / "kinds" / kind / "words.jinja").read_text()
    return str(re.findall(r"set results = '`(\w+)[.]png`", words)[0])


def run(project: Path, *command: str) -> str:
    """The output of a command in a project, on one thread; SystemExit if it fails."""
    settings = {"PYTHONPATH": str(project / "src"), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=project, env=os.environ | settings, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def measure(kind: str, project: Path) -> Row:
    """Copy, train and test; the metrics are those that the commands print."""
    copy = ["copier", "copy", "--defaults", "--quiet", "--vcs-ref=HEAD", f"--data=data_kind={kind}"]
    subprocess.run([sys.executable, "-W", "ignore", "-m", *copy, str(ROOT), str(project)], check=True)
    said = run(project, "scripts/train.sh", "configs/train.yaml")
    ended = re.search(r"^trained in (\S+) s; best (\S+) ", said, re.MULTILINE)
    assert ended, said
    figures = json.loads(run(project, "scripts/test.sh", "--json"))
    baseline = json.loads(run(project, sys.executable, str(ROOT / "template" / "kinds" / kind / "baseline.py")))
    metric = baseline["metric"]
    size = (project / "data" / "sample.zip").stat().st_size
    return Row(
        kind,
        metric,
        figures[metric],
        baseline["name"],
        baseline["value"],
        baseline.get("less", False),
        float(ended[1]),
        size,
    )


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| kind | metric on the test data | result | baseline | training time | `sample.zip` |"]
    lines += ["|---|---|---|---|---|---|"]
    for row in rows:
        digits = 3 if row.to_beat < 10 else 1
        metric = row.metric + ", lower is better" * row.less
        figures = f"{row.value:.{digits}f} | {row.to_beat:.{digits}f}, {row.baseline}"
        lines.append(f"| `{row.kind}` | {metric} | {figures} | {row.seconds:.0f} s | {row.size / 1000:.0f} kB |")
    return "\n".join(lines) + "\n"


def notices() -> str:
    """Source, licence and caveats of each kind's sample, from its archive."""
    sections = []
    for kind in kinds():
        with zipfile.ZipFile(room(kind) / "data" / "sample.zip") as archive:
            text = archive.read("NOTICE.txt").decode().strip()
        sections.append(f"## {kind.replace('_', ' ').capitalize()}: `{kind}`\n\n```\n{text}\n```\n")
    return "\n".join(sections)


def shrink(picture: Image.Image, path: Path, colours: int = 64) -> None:
    """Save a picture with a small palette that keeps rare colours."""
    picture.quantize(colours, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)


def sheet(path: Path) -> None:
    """The two examples of each kind side by side: the model's input and its result."""
    names = kinds()
    width, height = 2 * TILE[0] + 3 * GAP, TILE[1] + LINE + 2 * GAP
    rows = -(-len(names) // COLUMNS)
    picture = Image.new("RGB", (COLUMNS * width, rows * height), PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(20)
    for index, kind in enumerate(names):
        left, top = index % COLUMNS * width + GAP, index // COLUMNS * height + GAP
        draw.text((left, top), kind.replace("_", " "), INK, font)
        for number, folder in enumerate(("loader", "result")):
            with Image.open(room(kind) / "images" / folder / "example.png") as file:
                tile = file.convert("RGB")
            tile.thumbnail(TILE, Image.Resampling.LANCZOS)
            picture.paste(tile, (left + number * (TILE[0] + GAP), top + LINE))
    shrink(picture, path, 256)


def main(names: list[str]) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in names or kinds():
            project = Path(folder) / kind
            rows.append(measure(kind, project))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
            for part, name in () if names else (("loader", "train"), ("result", example(kind))):
                with Image.open(project / f"images/{part}/{name}.png") as file:
                    shrink(file.convert("RGB"), room(kind) / f"images/{part}/example.png")
    if not names:
        head, rest = PAGE.read_text().split(BEGIN)
        middle = rest.partition(END)[2].partition(NOTICES)[0]
        PAGE.write_text(f"{head}{BEGIN}\n{table(rows)}\n{END}{middle}{NOTICES}\n{notices()}")
        sheet(SHEET)


if __name__ == "__main__":
    main(sys.argv[1:])
