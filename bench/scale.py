"""Peak memory of 20 training steps, and of `check-data`, with 1, 10 and 100 times the sample's training data, in MiB.

    .venv/bin/python bench/scale.py [KIND ...]

Files are linked under other names, rows and lines are repeated, and a series becomes longer. Each command is a process
with one thread; its memory is its largest resident set, imports included.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from kinds import ROOT, kinds

TIMES = 1, 10, 100
SETTINGS = ["configs/train.yaml", "train.max_steps=20", "run.device=cpu", "run.name={model}-{seed}-scale"]
COMMANDS = {"20 steps": ["train", *SETTINGS], "check-data": ["check-data"]}


def main(names: list[str]) -> None:
    heads = [f"{command}: {times} x" for command in COMMANDS for times in TIMES]
    print(f"| kind, and its training data | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    for kind in names:
        figures: dict[str, list[str]] = {command: [] for command in COMMANDS}
        for times in TIMES:
            with tempfile.TemporaryDirectory() as folder:
                project = Path(folder) / "project"
                copy = [sys.executable, "-W", "ignore", "-m", "copier", "copy", "-q", "--defaults", "--vcs-ref=HEAD"]
                answers = ["-d", f"data_kind={kind}", "-d", "package_name=my_project"]
                subprocess.run([*copy, *answers, ROOT, project], check=True)
                unpack = "from pathlib import Path; from my_project.data.splits import unpack_sample as u"
                measured(project, "-c", f"{unpack}; u(Path('data'))")
                size = GROW[kind](project / "data" / "train", times)
                for command, words in COMMANDS.items():
                    figures[command].append(f"{measured(project, '-m', 'my_project', *words):,.0f}")
            if times == 1:
                name = f"{kind.replace('_', ' ')}, {size}"
        print(f"| {name} | {' | '.join(each for row in figures.values() for each in row)} |", flush=True)


def measured(project: Path, *command: str) -> float:
    """The peak memory in MiB of a Python process in a project; SystemExit if it fails."""
    env = os.environ | {"PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    with open(project / "output.txt", "w+") as output:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=project, env=env, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit((project / "output.txt").read_text())
    return usage.ru_maxrss / 1024


# --- more data: each returns the size of the sample ---
def link_files(train: Path, times: int) -> str:
    """Link every file under other names."""
    files = [each for each in sorted(train.rglob("*")) if each.is_file() and each.name[0] != "."]
    for file in files:
        for number in range(1, times):
            os.link(file, file.with_name(f"{number}-{file.name}"))
    return f"{len(files)} files"


def link_annotated(train: Path, times: int) -> str:
    """Link every image under other names, with its boxes."""
    path = train / "annotations.json"
    text = path.read_text()
    coco = json.loads(text)
    images, boxes = coco["images"], coco["annotations"]
    coco["images"], coco["annotations"] = [], []
    for number in range(times):
        for image in images:
            name = f"{number}-{image['file_name']}" if number else image["file_name"]
            if number:
                os.link(train / "images" / image["file_name"], train / "images" / name)
            coco["images"].append(image | {"id": image["id"] + number * 10**6, "file_name": name})
        for box in boxes:
            ids = {key: box[key] + number * 10**6 for key in ("id", "image_id")}
            coco["annotations"].append(box | ids)
    path.write_text(json.dumps(coco))
    return f"{len(images)} images"


def other_documents(train: Path, times: int) -> str:
    """Write every text again; a number at its end keeps the documents different."""
    files = sorted(train.glob("*.txt"))
    for file in files:
        for number in range(1, times):
            file.with_name(f"{number}-{file.name}").write_text(f"{file.read_text(encoding='utf-8')}{number}\n")
    return f"{len(files)} documents"


def repeat_lines(train: Path, times: int) -> str:
    """Write every line of the texts again; a number keeps the lines different."""
    count = 0
    for file in sorted(train.rglob("*.txt")):
        lines = file.read_text(encoding="utf-8").splitlines()
        count += len(lines)
        more = [f"{line} {number}" if number else line for number in range(times) for line in lines]
        file.write_text("\n".join(more) + "\n", encoding="utf-8")
    return f"{count:,} lines"


def repeat_rows(train: Path, times: int) -> str:
    """Write every row of the tables again."""
    count = 0
    for file in sorted(train.glob("*.csv")):
        head, *rows = file.read_text(encoding="utf-8").splitlines()
        count += len(rows)
        file.write_text("\n".join([head, *rows * times]) + "\n", encoding="utf-8")
    return f"{count:,} rows"


def longer_series(train: Path, times: int) -> str:
    """Repeat the values of a series; its last day stays the same."""
    [file] = train.glob("*.csv")
    with open(file, newline="", encoding="utf-8") as source:
        head, *rows = csv.reader(source)
    place = head.index("time")
    before, last = (datetime.fromisoformat(row[place]) for row in rows[-2:])
    count = len(rows) * times
    with open(file, "w", newline="", encoding="utf-8") as target:
        writer = csv.writer(target)
        writer.writerow(head)
        for number in range(count):
            row = list(rows[number % len(rows)])
            row[place] = (last - (count - 1 - number) * (last - before)).date().isoformat()
            writer.writerow(row)
    return f"{len(rows):,} time steps"


GROW: dict[str, Callable[[Path, int], str]] = {
    "image_classification": link_files,
    "image_segmentation": link_files,
    "object_detection": link_annotated,
    "text_classification": repeat_lines,
    "language_modeling": other_documents,
    "tabular": repeat_rows,
    "audio_classification": link_files,
    "time_series": longer_series,
    "custom": repeat_rows,
}


if __name__ == "__main__":
    main(sys.argv[1:] or kinds())
