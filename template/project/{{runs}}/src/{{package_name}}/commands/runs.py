"""The command `runs`: list the runs, compare two, delete some, or keep their best checkpoints."""

import argparse
import csv
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from ..cli import default_config, files_and_overrides
from ..config import ROOT, Text, find_keys, load, locate, parse_text
from ..config import _YamlLoader as Loader
from ..errors import UserError
from ..options import Config

# The list of runs is printed without torch, which takes seconds to import.

OWN = ("run.name", "run.checkpoints", "run.images")  # never the same in two runs
COLUMNS = ("run", "started", "state", "epochs", "best", "seconds", "commit", "differs")
SORTS = ("started", "run", "best", "epochs", "seconds")


class FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads YAML as the configs do, in C where PyYAML has it: ten times as fast."""

    yaml_implicit_resolvers = Loader.yaml_implicit_resolvers
    yaml_constructors = Loader.yaml_constructors


@dataclass
class Info:
    """A run as its files describe it."""

    run: str  # the name: its folder in `checkpoints`
    path: Path
    config: dict[str, Any]  # of config.yaml
    rows: list[dict[str, float]]  # of metrics.csv, one a validation
    starts: list[dict[str, Any]]  # of provenance.json

    @property
    def started(self) -> str:
        return str(self.starts[0].get("started", ""))[:19] if self.starts else ""

    @property
    def commit(self) -> str:
        """The commit of the newest start; with a + if there were uncommitted changes."""
        newest = self.starts[-1] if self.starts else {}
        return str(newest.get("commit") or "")[:8] + ("+" if newest.get("diff") else "")

    @property
    def seconds(self) -> float:
        return sum(row.get("seconds", 0.0) for row in self.rows)

    @property
    def monitor(self) -> str:
        return str(value(self.config, "checkpoint.monitor") or "loss")

    @property
    def best(self) -> dict[str, float] | None:
        """The row of the best validation; None before the first."""
        return min(self.rows, key=self.rank, default=None)

    def rank(self, row: dict[str, float] | None) -> tuple[float, float]:
        """Smaller is better: the monitored metric, then the loss."""
        figure, loss = ((row or {}).get(f"valid_{key}", math.nan) for key in (self.monitor, "loss"))
        figure = -figure if value(self.config, "checkpoint.mode") == "max" else figure
        return math.inf if math.isnan(figure) else figure, math.inf if math.isnan(loss) else loss

    @property
    def state(self) -> str:
        """running, done, stopped (it can be resumed) or empty (without a checkpoint)."""
        if locked(self.path / "run.lock"):
            return "running"
        names = ("epochs", "max_steps", "patience")
        epochs, most, patience = (value(self.config, f"train.{name}") for name in names)
        done = self.step >= most if most else bool(epochs) and self.epochs >= epochs
        if patience and self.best:  # counts validations, as the engine does
            done |= len(self.rows) - 1 - self.rows.index(self.best) >= patience
        if done:
            return "done"
        return "stopped" if (self.path / "last.pt").is_file() else "empty"

    @property
    def step(self) -> int:
        """The step of the newest validation; 0 before the first, and for runs of old versions."""
        return int(self.rows[-1].get("step", 0)) if self.rows else 0

    @property
    def epochs(self) -> int:
        """The number of epochs that were certainly complete at the newest validation."""
        if not self.rows:
            return 0
        number, most = int(self.rows[-1]["epoch"]), value(self.config, "train.max_steps")
        every = value(self.config, "valid.every_steps")
        if not self.step or not (every or (most and self.step >= most)):
            return number  # validated at its end
        length = math.inf  # steps of an epoch
        if every and not most:
            length = (self.total_steps() or math.inf) / (value(self.config, "train.epochs") or 1)
        elif not every and len(self.rows) > 1:
            length = self.rows[0].get("step", math.inf)
        return number if self.step >= number * length else number - 1

    def total_steps(self) -> int | None:
        """The last step of all epochs, which train.log has if validations are not at their ends."""
        text = _read(self.path / "train.log", str, "")
        found = re.findall(r"^step \d+/(\d+)  epoch ", text, re.M)
        return int(found[-1]) if found else None


def locked(lock: Path) -> bool:
    """Whether a process trains the run: engine/provenance.py holds this lock."""
    try:
        with open(lock, "r+", encoding="utf-8") as file:
            if sys.platform == "win32":
                import msvcrt

                file.seek(1 << 20)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
            else:
                import fcntl

                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return lock.exists() and lock.stat().st_size > 0
    return False


# --- reading ---
def find_runs(folder: Path) -> list[Info]:
    """The runs in a folder, those of sweeps too, oldest first."""
    configs = [*folder.glob("[!.]*/config.yaml"), *folder.glob("[!.]*/*/config.yaml")]
    runs = [read_run(path.parent, folder) for path in configs]
    return sorted(runs, key=lambda run: (run.started, run.run))


def read_run(path: Path, folder: Path) -> Info:
    """What a run's files say; a damaged one counts as empty, with a warning."""
    name = path.relative_to(folder).as_posix()
    config = _read(path / "config.yaml", lambda text: yaml.load(text, FastLoader), {})
    rows = _read(path / "metrics.csv", read_rows, [])
    return Info(name, path, config, rows, _read(path / "provenance.json", json.loads, []))


def _read(path: Path, parse: Any, empty: Any) -> Any:
    try:
        found = parse(path.read_text(encoding="utf-8"))
        if isinstance(found, type(empty)):
            return found
    except FileNotFoundError:
        return empty
    except (OSError, ValueError, csv.Error, yaml.YAMLError, RecursionError):
        pass
    print(f"warning: {path}: damaged", file=sys.stderr)
    return empty


def read_rows(text: str) -> list[dict[str, float]]:
    """The rows of metrics.csv; ValueError if one has no epoch."""
    table = csv.DictReader(text.splitlines())
    rows = [{key: float(value) for key, value in row.items() if key and value} for row in table]
    if any("epoch" not in row for row in rows):
        raise ValueError("a row without an epoch")
    return rows


def value(config: dict[str, Any], key: str) -> Any:
    """The value of a dotted key; None if there is none."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None  # type: ignore[assignment]
    return config


def difference(one: Any, other: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """The dotted keys whose values differ, with both; None for a missing value or a missing map."""
    pairs: dict[str, tuple[Any, Any]] = {}
    for key in {**other, **one}:
        name, pair = f"{prefix}{key}", (one.get(key), other.get(key))
        if all(isinstance(each, dict) for each in pair):
            pairs |= difference(*pair, f"{name}.")
        elif name not in OWN and pair[0] != pair[1] and not all(p in ({}, None) for p in pair):
            pairs[name] = pair
    return pairs


def chosen(runs: list[Info], words: list[str], folder: Path) -> list[Info]:
    """The runs that match each section.key=value and one of the names, which may have * and ?."""
    names, wanted = files_and_overrides(words)
    found = {run.run: run for run in runs} if not names else {}
    for name in names:
        word = Path(name).as_posix().removeprefix(f"{folder.as_posix()}/")
        pattern = word.replace("[", "[[]")  # not a set of characters
        matching = {run.run: run for run in runs if run.run == word}
        matching = matching or {run.run: run for run in runs if fnmatchcase(run.run, pattern)}
        if not matching:
            raise UserError(f"{name}: no such run in {folder}")
        found |= matching
    for word in wanted:
        key, _, text = word.partition("=")
        if runs and all(value(run.config, key) is None for run in runs):
            hint = "".join(f"; did you mean {known}={text}?" for known in find_keys(Config, key))
            raise UserError(f"{word}: no run has the key {key}{hint}")
        allowed = text, parse_text(Text(text))
        found = {name: r for name, r in found.items() if value(r.config, key) in allowed}
    return list(found.values())


# --- the table ---
def runs(args: argparse.Namespace) -> None:
    """List the runs, compare two, delete some, or keep only the best checkpoint of each."""
    actions = {"compare": compare, "delete": delete, "keep-best": keep_best}
    action = actions.get(args.words[0]) if args.words else None
    found = find_runs(args.checkpoints)
    if action:
        action(chosen(found, args.words[1:], args.checkpoints), args)
    else:
        table(chosen(found, args.words, args.checkpoints), args)


def table(found: list[Info], args: argparse.Namespace) -> None:
    """Print a row for each run, as aligned text, CSV or JSON."""
    default = load(Config, default_config()).model_dump(mode="json")
    if args.sort == "best":
        found.sort(key=lambda run: (run.monitor, run.rank(run.best)))
    elif args.sort != "started":
        keys = {"run": lambda run: run.run, "epochs": lambda run: (run.epochs, run.step)}
        found.sort(key=keys.get(args.sort, lambda run: run.seconds))
    rows = [record(run, default) for run in found]
    if args.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    elif args.csv:
        flat_rows = [{**row, "differs": _settings(row["differs"])} for row in rows]
        names = list(flat_rows[0]) if flat_rows else list(COLUMNS)
        writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat_rows)
    elif rows:
        print_aligned([COLUMNS, *([_text(row, name) for name in COLUMNS] for row in rows)])
    else:
        print(f"{args.checkpoints}: no runs")


def record(run: Info, default: dict[str, Any]) -> dict[str, Any]:
    """A row of the table. `differs` has the options that differ from configs/train.*."""
    best = run.best or {}
    return {
        "run": run.run,
        "started": run.started,
        "state": run.state,
        "epoch": run.epochs,
        "epochs": value(run.config, "train.epochs"),
        "step": run.step or None,
        "max_steps": value(run.config, "train.max_steps"),
        "monitor": run.monitor,
        "best": best.get(f"valid_{run.monitor}"),
        "best_epoch": int(best["epoch"]) if best else None,
        "seconds": round(run.seconds, 1),
        "commit": run.commit,
        "differs": {key: own for key, (own, _) in difference(run.config, default).items()},
    }


def _text(row: dict[str, Any], name: str) -> str:
    if name == "epochs" and row["max_steps"]:
        return f"{row['step'] or 0}/{row['max_steps']} steps"
    if name == "epochs":
        return f"{row['epoch']}/{row['epochs']}"
    if name == "best":
        return "" if row["best"] is None else f"{row['monitor']} {row['best']:.4f}"
    if name == "differs":
        return _settings(row["differs"])
    return str(row[name]).replace("T", " ") if name == "started" else str(row[name])


def _settings(options: dict[str, Any]) -> str:
    return " ".join(f"{key}={_short(value)}" for key, value in options.items())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def print_aligned(rows: Iterable[Iterable[str]], indent: str = "") -> None:
    """Print a table of texts in columns."""
    texts = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for text in texts:
        print(indent + "  ".join(map(str.ljust, text, widths)).rstrip())


# --- comparing ---
def compare(found: list[Info], args: argparse.Namespace) -> None:
    """Print what differs between two runs, their figures, and draw their curves."""
    if len(found) != 2:
        raise UserError(f"compare: name two runs, not {len(found)}")
    one, other = found
    parts = {
        "config": difference(one.config, other.config),
        "code": code(one, other),
        "data": data(one, other),
        "packages": difference(packages(one), packages(other)),
    }
    figures = {"state": (one.state, other.state)} | {
        key: tuple((run.best or {}).get(key) for run in found)
        for key in dict.fromkeys(key for run in found for key in run.best or {})
        if key != "seconds"
    }
    figures["seconds"] = one.seconds, other.seconds
    if args.json:
        names = [run.run for run in found]
        print(json.dumps({"runs": names, **parts, "figures": figures}, indent=2))
        return
    for name, pairs in parts.items():
        print(f"{name}: the same" if not pairs else f"{name}:")
        if pairs:
            values = ([key, *(_short(value) for value in pair)] for key, pair in pairs.items())
            print_aligned([["", one.run, other.run], *values], "  ")
    print("figures at the best epoch:")
    values = ([key, *("" if v is None else _short(v) for v in p)] for key, p in figures.items())
    print_aligned([["", one.run, other.run], *values], "  ")
    if one.rows and other.rows:
        images = locate(load(Config, default_config()).run.images, inside=True)
        draw(found, images / "result" / "compare.png")
        print(images / "result" / "compare.png")


def code(one: Info, other: Info) -> dict[str, tuple[Any, Any]]:
    """The commits and files that differ, and the numbers of lines of uncommitted changes."""
    from ..engine import provenance

    pairs: dict[str, tuple[Any, Any]] = {}
    commits = [str((run.starts or [{}])[-1].get("commit") or "unknown") for run in (one, other)]
    if commits[0] != commits[1]:
        pairs["commit"] = commits[0][:8], commits[1][:8]
        command = ["git", "-C", str(ROOT), "diff", "--name-only", "--relative", *commits, "--"]
        names = ""
        if all(re.fullmatch("[0-9a-f]{40,64}", commit) for commit in commits):  # no option of git
            names = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        pairs |= dict.fromkeys(names.splitlines(), ("", "differs"))
    changes = [provenance.changes(run.path) or "" for run in (one, other)]
    if changes[0] != changes[1]:
        counts = [f"{text.count(chr(10))} lines" if text else "none" for text in changes]
        pairs["uncommitted changes"] = counts[0], counts[1]
    return pairs


def data(one: Info, other: Info) -> dict[str, tuple[Any, Any]]:
    """The numbers of training samples if they differ, or a note that the files' names do."""
    from ..engine import checkpoint

    prints: list[Any] = []
    for run in (one, other):
        try:
            prints.append(checkpoint.newest(run.path).get("data"))
        except UserError:
            prints.append(None)
    if None in prints or prints[0] == prints[1]:
        return {}
    if prints[0][0] != prints[1][0]:
        return {"training samples": (prints[0][0], prints[1][0])}
    return {"names of the training files": ("", "differ")}


def packages(run: Info) -> dict[str, Any]:
    """The versions of Python and the packages, and the device, at the newest start."""
    newest = run.starts[-1] if run.starts else {}
    return {k: newest.get(k) for k in ("python", "device")} | dict(newest.get("packages") or {})


def draw(found: list[Info], path: Path) -> None:
    """Plot each validation metric in axes of its own, with a line for each run."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from ..visualization.charts import BLUE, ORANGE, write

    names = [n for n in found[0].rows[-1] if n.startswith("valid_") and n in found[1].rows[-1]]
    numbers = [[row["epoch"] for row in run.rows] for run in found]
    several = any(len({*each}) < len(each) for each in numbers)  # validations in an epoch
    several &= all("step" in row for run in found for row in run.rows)
    x = "step" if several else "epoch"
    across = min(3, len(names)) or 1
    down = math.ceil(len(names) / across) or 1
    figure = Figure((5 * across, 3.6 * down + 0.4), layout="constrained", dpi=110)
    for index, name in enumerate(names):
        axes = figure.add_subplot(down, across, index + 1)
        for run, colour, dash in zip(found, (BLUE, ORANGE), ("-", "--"), strict=True):
            points = [(row[x], row[name]) for row in run.rows if name in row]
            line = "o" if len(points) == 1 else dash  # one point makes no line
            axes.plot(*zip(*points, strict=True), line, color=colour, label=run.run)
        axes.set(title=name, xlabel=x)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    write(path, figure.savefig)


# --- tidying ---
def delete(found: list[Info], args: argparse.Namespace) -> None:
    """Delete runs, after a confirmation."""
    for run in _confirmed(found, args, "delete"):
        gone = run.path.with_name(f".deleted-{run.path.name}")  # a kill leaves no damaged run
        run.path.rename(gone)
        shutil.rmtree(gone)
        print(f"deleted: {run.path}")


def keep_best(found: list[Info], args: argparse.Namespace) -> None:
    """Keep the best checkpoint of each run, from which `--resume` then continues."""
    from ..engine import checkpoint

    for run in _confirmed(found, args, "keep only the best checkpoint of"):
        before = _size(run.path)
        try:
            best = checkpoint.newest(run.path)["best"]["file"]
            kept = checkpoint.load(run.path / Path(best).name) if best else None
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr)
            continue
        if kept is None:
            print(f"{run.path}: has no best checkpoint yet; nothing changed")
            continue
        checkpoint.link(run.path / Path(best).name, run.path / checkpoint.LAST)
        shutil.rmtree(run.path / checkpoint.EARLIER, ignore_errors=True)
        for shards in run.path.glob("shards-*"):
            if shards.name != kept.get("shards"):
                shutil.rmtree(shards)
        freed = (before - _size(run.path)) / 1e6
        print(f"{run.path}: kept {best}, freed {freed:.1f} MB")


def _size(run: Path) -> int:
    """Bytes on the disk; a file with two names counts once."""
    stats = [path.stat() for path in run.rglob("*") if path.is_file()]
    return sum({(stat.st_dev, stat.st_ino): stat.st_size for stat in stats}.values())


def _confirmed(found: list[Info], args: argparse.Namespace, verb: str) -> list[Info]:
    """The runs, once the user has agreed; UserError without names, or if one is running."""
    if len(args.words) < 2:
        raise UserError(f"{args.words[0]}: name runs, or '*' for all")
    if busy := [run.run for run in found if run.state == "running"]:
        raise UserError(f"{busy[0]}: a process trains this run; stop it first")
    if links := [run.path for run in found if run.path.is_symlink()]:
        raise UserError(f"{links[0]}: is a link; remove it, and the folder it leads to, yourself")
    if not args.yes:
        question = f"{verb} {len(found)} runs ({', '.join(run.run for run in found)})? [y/N] "
        if not sys.stdin.isatty() or input(question).strip().lower() not in ("y", "yes"):
            raise UserError("nothing changed; --yes answers the question")
    return found


def add_to(add: Any) -> None:
    text = "names (with * and ?) or section.key=value; first compare, delete or keep-best"
    sub = add(runs, words={"nargs": "*", "metavar": "WORD", "help": text})
    folder = locate("checkpoints", inside=True)
    sub.add_argument("--checkpoints", type=locate, default=folder, help="the folder of runs")
    sub.add_argument("--sort", default="started", choices=SORTS, help="the order (started)")
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.add_argument("--csv", action="store_true", help="print CSV")
    sub.add_argument("--yes", action="store_true", help="delete, keep-best: do not ask")
