"""Train a model, test it, run it on new data."""

import argparse
import contextlib
import importlib
import json
import os
import re
import shlex
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from inspect import signature
from itertools import chain
from pathlib import Path
from typing import Any

from .config import FORMATS, ROOT, check_model, dump, find_keys, load, locate, read, script_command
from .errors import Stopped, UserError
from .options import Config, file_name

# torch takes seconds to import, so only the commands that need it import it.


def train(args: argparse.Namespace) -> None:
    """Train a model, or resume a run."""
    with contextlib.ExitStack() as stack:
        config, run, contents = prepare_run(args, stack)

        from .engine import distributed
        from .engine.loop import train as train_loop

        started = time.perf_counter()
        with distributed.process_group(run.name, config.distributed) as name:
            args.run = run = run.with_name(name)
            state = train_loop(config, run, contents, args.profile)
        seconds = time.perf_counter() - started
        if int(os.environ.get("RANK", "0")) > 0:
            return
        if args.smoke:
            print(f"a step of training and of validation, and a checkpoint: {seconds:.1f} s")
            return

        from .visualization.plots import curves

        images = locate(config.run.images, inside=True)
        picture = images / "result" / "curves.png"
        try:
            curves(run / "metrics.csv", picture)
        except Exception as error:  # the run is complete and saved
            print(f"warning: {picture}: {error}", file=sys.stderr)
        monitor = f"{config.checkpoint.monitor} {state.best:.4f}"
        print(f"trained in {seconds:.1f} s; best {monitor}:\n  {run / state.best_file}")
        print(f"  {images / 'loader'}\n  {picture}")
        print(f"test it: {script_command('test', str(run))}")


def prepare_run(args: argparse.Namespace, stack: contextlib.ExitStack) -> tuple[Config, Path, Any]:
    """The run's config and folder, and the checkpoint to resume; the stack unlocks the folder."""
    if args.resume and files_and_overrides([args.resume])[1]:  # argparse took an override for a run
        args.settings, args.resume = [args.resume, *args.settings], ""
    files, overrides = files_and_overrides(args.settings)
    rank_0 = os.environ.get("RANK", "0") == "0"
    if args.resume is not None:
        from .engine import checkpoint, provenance

        stack.callback(provenance.unlock_runs)
        run = checkpoint.find_run(args.resume, args.checkpoints)
        if rank_0 and run.is_dir():
            provenance.lock_run(run, new=False)
        contents = checkpoint.newest(run)
        if not contents["rng"]:  # imported weights, for example by `pull`
            raise UserError(f"{run}: has only weights; start a new run with model.weights={run}")
        config = load(Config, files, overrides, contents["config"])
        most = config.train.max_steps
        unit, done = ("step", "max_steps") if most else ("epoch", "epochs")
        validated = not most or contents["under_way"].get("validated") == contents["step"]
        if contents[unit] >= (most or config.train.epochs) and validated:
            all_done = f"all {contents[unit]} {unit}s are done"
            raise UserError(f"{run}: {all_done}; set a larger train.{done}=N to resume")
        return config, run, contents
    if args.smoke:
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        overrides += ["train.epochs=1", "train.limit_batches=1", "train.max_steps=null"]
        overrides += [f"run.checkpoints={scratch}", f"run.images={scratch}"]
    config = load(Config, files or default_config(), overrides)
    check_model(config.model.name)
    date = time.strftime("%Y%m%d-%H%M%S")
    name = file_name(config.run.name, model=config.model.name, date=date, seed=config.run.seed)
    run = locate(config.run.checkpoints, inside=True) / name
    if rank_0:
        from .engine import provenance

        stack.callback(provenance.unlock_runs)
        run = provenance.lock_run(run, new=True, rename="{date" in config.run.name)
    return config, run, None


def default_config() -> list[str]:
    """The files configs/train.*; UserError if there is none."""
    if not (files := [str(path) for path in locate("configs", inside=True).glob("train.*")]):
        raise UserError("configs: has no train.*; name a config file")
    return files


def test(args: argparse.Namespace) -> None:
    """Test a checkpoint: print its metrics and draw its mistakes."""
    from .engine import checkpoint
    from .engine.inference import measure
    from .engine.metrics import class_table

    names, overrides = files_and_overrides(args.settings)
    if len(names) > 1:
        raise UserError(f"{' '.join(names)}: {len(names)} checkpoints; name one")
    path = checkpoint.find(names[0] if names else None, args.checkpoints)

    def print_metrics(metrics: dict[str, float], tables: dict[str, Any]) -> None:
        found: dict[str, Any] = {"checkpoint": str(path), "split": args.split, **metrics, **tables}
        lines = [f"{path} on {args.split}:", *(f"  {k} {v:.4f}" for k, v in metrics.items())]
        for kind, rows in tables.items():
            lines += [f"  {line}" for line in class_table(rows, kind.removeprefix("per_"))]
        print(json.dumps(found) if args.json else "\n".join(lines), flush=True)

    _, pictures = measure(path, args.split, overrides, print_metrics)
    if not args.json:
        print(*(f"  {picture}" for picture in pictures), sep="\n")


def run(args: argparse.Namespace) -> int:
    """Predict for new inputs: files, or all files in folders."""
    from torch import no_grad

    from .engine import checkpoint
    from .engine.inference import load

    path = checkpoint.find(args.checkpoint, args.checkpoints)
    print(f"checkpoint: {path}", file=sys.stderr)
    with no_grad():
        return print_predictions(*load(path)[1:], args)


def print_predictions(task: Any, model: Any, args: argparse.Namespace) -> int:
    """Print each prediction, or one JSON list of all; returns 3 if some inputs failed, 2 if all."""
    names, found, values, made, failed = iter(args.inputs), iter(list[Any]()), list[Any](), 0, 0
    text = partial(json.dumps, ensure_ascii=False) if args.json else task.sentence
    show = values.append if args.json is True else lambda value: print(text(value), flush=True)
    while True:
        try:
            for value in found:
                show(value)
                made += 1
            found = task.predict(model, chain([next(names)], names))  # an error ends a generator
        except StopIteration:
            break
        except (UserError, OSError) as error:
            if args.debug or not getattr(error, "filename", True):  # writing to stdout failed
                raise
            print("error: " + str(error).replace("\n", "\nerror: "), file=sys.stderr)
            failed += 1
    if args.json is True and (made or not failed):
        print(text(values, indent=2))
    if made and failed:
        print(f"error: failed inputs: {failed}; predictions made: {made}", file=sys.stderr)
    return (3 if made else 2) if failed else 0


def config(args: argparse.Namespace) -> None:
    """Print the resolved config in one of the four formats."""
    files, overrides = files_and_overrides(args.settings)
    only = read(locate(files[-1])) if args.last and files else None
    print(dump(load(Config, files, overrides), args.to, only), end="")


def check_data(args: argparse.Namespace) -> None:
    """Read every sample of a data folder; print counts, problems, and the settings that fit."""
    if args.write and (args.write.suffix[1:] not in FORMATS or args.write.exists()):
        raise UserError(f"--write {args.write}: name a new file, of .{', .'.join(FORMATS)}")
    check_folder, folder, given = function_and_options(args, "check_folder")
    table, problems = check_folder(folder, **given)
    print(table)
    if fit := given.get("settings", []):
        print(f"settings that fit: {shlex.join(fit)}")
    if args.write:
        place, root = folder.resolve(), ROOT.resolve()
        place = place.relative_to(root) if place.is_relative_to(root) else place
        settings = [*files_and_overrides(args.settings)[1], f"data.folder={place}", *fit]
        keys = [setting.partition("=")[0].split(".")[:2] for setting in settings]
        only = {section: {key: None for of, key in keys if of == section} for section, _ in keys}
        config = load(Config, files := args.config or default_config(), settings)
        args.write.write_text(dump(config, args.write.suffix[1:], only), encoding="utf-8")
        print(f"written; train with it: {script_command('train', *files, str(args.write))}")
    kinds, shown = Counter[str](), list[str]()
    for problem in problems:
        kind = re.sub(r"'.*?'|[^\s;]*[/\\\d][^\s;]*", "…", problem.partition(": ")[2])
        kinds[kind] += 1
        shown += [problem] if kinds[kind] <= 10 else []
    shown += [f"{count - 10:,} more: {kind}" for kind, count in kinds.items() if count > 10]
    if shown:
        raise UserError("\n".join(shown))


def split_data(args: argparse.Namespace) -> None:
    """Split data at random: copy it into train/, valid/ and test/."""
    split_folder, folder, given = function_and_options(args, "split_folder")
    counts = split_folder(Path(args.source), folder, args.valid, args.test, args.seed, **given)
    print(f"{folder}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))


def function_and_options(args: argparse.Namespace, name: str) -> tuple[Any, Path, dict[str, Any]]:
    """A function of data/utils.py or of the task's module, the data folder, and its arguments."""
    folders, overrides = files_and_overrides(args.settings)
    if len(folders) > 1:
        raise UserError(f"give one folder, not {len(folders)}: {' '.join(folders)}")
    config: Any = None
    with contextlib.suppress(*() if overrides or args.config or not folders else (UserError,)):
        config = load(Config, args.config or default_config(), overrides)
    function = of_data(name, config.run.task if config else "task")
    folder = locate(folders[0]) if folders else locate(config.data.folder, inside=True)
    takes, given = signature(function).parameters, dict[str, Any](settings=[])
    if "options" in takes:
        given["options"] = (config or load(Config, default_config())).data  # or its error
    return function, folder, {k: given[k] for k in given.keys() & takes.keys()}


def of_data(name: str, task: str) -> Any:
    """A function of data/utils.py, unless the module that `run.task` names has one."""
    from .data import utils

    own = importlib.import_module(f"{__package__}.{task}") if task != "task" else utils
    return getattr(own if hasattr(own, name) else utils, name)


def files_and_overrides(settings: list[str]) -> tuple[list[str], list[str]]:
    """Split the settings into files or runs, whose names may contain `=`, and overrides."""
    places = Path(), ROOT, ROOT / "checkpoints"
    files = [s for s in settings if "=" not in s or any(os.path.exists(p / s) for p in places)]
    return files, [s for s in settings if s not in files]


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands, those in `commands/` included."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(command: Any, **positional: Any) -> argparse.ArgumentParser:
        name, text = command.__name__.replace("_", "-"), command.__doc__ or ""
        sub = commands.add_parser(name, help=text.replace("%", "%%"), description=text)
        sub.set_defaults(command=command)
        for dest, options in positional.items():
            sub.add_argument(dest, **options)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        if command in (train, test, run):
            runs = locate("checkpoints", inside=True)
            sub.add_argument("--checkpoints", type=locate, default=runs, help="the folder of runs")
        if command in (test, run):
            sub.add_argument("--json", action="store_true", help="print JSON")
        return sub

    settings = {"nargs": "*", "metavar": "SETTING", "help": "config files, and section.key=value"}
    sub = add(train, settings=settings)
    sub.add_argument("--resume", nargs="?", const="", metavar="RUN", help="default: the newest run")
    sub.add_argument("--smoke", action="store_true", help="one step of everything; saves nothing")
    sub.add_argument("--profile", action="store_true", help="profile some steps; write a trace")
    best = "a checkpoint or a run (default: the best one of the newest run)"
    sub = add(test, settings=settings | {"help": f"{best}, and section.key=value"})
    sub.add_argument("--split", default="test", choices=["train", "valid", "test"])
    sub = add(run, inputs={"nargs": "+", "metavar": "INPUT"})
    sub.add_argument("--checkpoint", help=best)
    sub.add_argument("--jsonl", action="store_const", dest="json", const="lines", help="JSON Lines")
    sub = add(config, settings=settings | {"nargs": "+"})
    sub.add_argument("--to", default="yaml", choices=FORMATS)
    sub.add_argument("--last", action="store_true", help="only what the last file sets")
    settings |= {"help": "a folder (default: data.folder), and section.key=value"}
    files = {"--config": {"action": "append", "metavar": "FILE", "help": "default: configs/train"}}
    write = {"type": Path, "metavar": "FILE", "help": "write the settings that fit as a config"}
    add(check_data, settings=settings, **files, **{"--write": write})
    sub = add(split_data, source={}, settings=settings, **files)
    sub.add_argument("--valid", type=float, default=0.1, help="fraction of the samples (0.1)")
    sub.add_argument("--test", type=float, default=0.1, help="fraction of the samples (0.1)")
    sub.add_argument("--seed", type=int, default=0)
    for path in sorted((Path(__file__).parent / "commands").glob("[!_]*.py")):
        importlib.import_module(f"{__package__}.commands.{path.stem}").add_to(add)
    return parser


def suggest_override(words: list[str]) -> str:
    """A hint at the override that an unknown option may mean: train.epochs=5 for --epochs 5."""
    option, _, value = "=".join(words[: 1 if "=" in words[0] else 2]).partition("=")
    name = option.lstrip("-").replace("-", "_")
    keys = [key for key in find_keys(Config, name.split(".")[-1]) if key.endswith(name)]
    return f"; did you mean {keys[0]}={value}?" if len(keys) == 1 else ""


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns its status: its own, 2 for a UserError, or one of `signals.CODES`."""
    if "OMP_WAIT_POLICY" not in os.environ:  # threads that spin would take other programs' cores
        os.environ |= {"OMP_WAIT_POLICY": "PASSIVE"}
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # microseconds: short waits are fast
    parser = build_parser()
    argv = sys.argv[1:] if argv is None else argv
    args, rest = parser.parse_known_args(argv)
    if rest and (not hasattr(args, "settings") or any(item.startswith("-") for item in rest)):
        words = argv[argv.index(next((item for item in rest if item[:2] == "--"), rest[0])) :]
        hint = suggest_override(words) if hasattr(args, "settings") else ""
        parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    args.settings = [*getattr(args, "settings", []), *rest]  # `rest` has settings after options
    try:
        status: int | None = args.command(args)
    except (UserError, OSError) as error:
        if args.debug:
            raise
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return 2
    except Stopped as stopped:
        if os.environ.get("RANK", "0") == "0":
            print(stopped, file=sys.stderr)
        return stopped.code
    except KeyboardInterrupt:
        run = getattr(args, "run", Path())
        command = script_command("train", "--resume", str(run))
        saved = f"; resume with: {command}" if (run / "last.pt").is_file() else ""
        print(f"stopped{saved}", file=sys.stderr)
        return 130
    return status or 0
