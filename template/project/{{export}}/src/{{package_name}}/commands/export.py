"""The commands `export` and `run-exported`."""

import argparse
import glob
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ..cli import print_predictions
from ..config import dump, locate
from ..errors import UserError

A_DAY = 86_400  # seconds: longer than an export takes


def export(args: argparse.Namespace) -> None:
    """Export a trained model as ONNX and torch.export, and compare both with the model."""
    from ..engine import checkpoint

    path = checkpoint.find(args.checkpoint, args.checkpoints)
    run = path.parent.parent if path.parent.name == checkpoint.EARLIER else path.parent
    name = run.name + "-calibrated" * (path.name == checkpoint.CALIBRATED)
    folder = locate(args.to or Path("exports", name), inside=not args.to)
    if folder.exists():
        raise UserError(f"{folder}: already exists; remove it, or set another with --to")
    partial = folder.with_name(f".{folder.name}-{os.getpid()}")  # a kill leaves no exports/RUN
    for left in folder.parent.glob(f".{glob.escape(folder.name)}-*"):
        # In a container, each process may have the same number. Another export may be running.
        if left == partial or left.stat().st_mtime < time.time() - A_DAY:
            shutil.rmtree(left)
    partial.mkdir(parents=True)
    try:
        tried = fill(partial, path, run, [args.only] if args.only else ["onnx", "pt2"])
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"{folder}:", *tried, sep="\n  ")


def fill(folder: Path, path: Path, run: Path, formats: list[str]) -> list[str]:
    """Write the files of an export; returns a line for each comparison."""
    from importlib.metadata import version

    try:
        from safetensors.torch import save_model
    except ImportError as error:
        raise UserError(f"export: {error}; run pip install -e '.[export]'") from error

    from ..card import card, line, measured
    from ..engine import checkpoint, inference
    from ..exported import About, write

    config, task, model = inference.load(path)
    found = measured(config, task, model)
    figures = [f"{split}: {line(metrics)}" for split, metrics in found.items()]
    data = locate(config.data.folder, inside=True)
    _, task, model = inference.load(path, ["run.device=cpu"])
    if merge := getattr(model, "merge_adapters", None):  # of LoRA
        merge()
    inputs, tried = write(folder, task, model, next(iter(task.eval_loader("valid"))), formats)
    save_model(model, str(folder / "model.safetensors"))
    files = (each for each in data.glob("train/**/*") if each.is_file())
    suffixes = Counter(each.suffix.lower() for each in files)
    about = About(
        model=config.model.name,
        suffix=max(suffixes, key=suffixes.__getitem__, default=""),
        inputs=inputs,
        info=task.info,
        versions={name: version(name) for name in ("torch", "onnx", "onnxruntime")},
    )
    text = card(config, run, checkpoint.load(path)["epoch"], [*figures, *tried])
    texts = {"MODEL_CARD.md": text, "config.yaml": dump(config, "yaml")}
    texts["export.json"] = about.model_dump_json(indent=2) + "\n"
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    # save_model creates a file that only its owner can read.
    shutil.copymode(folder / "export.json", folder / "model.safetensors")
    return tried


def run_exported(args: argparse.Namespace) -> int:
    """Predict with an exported model; the output has the format of `run`."""
    from ..exported import load

    _, task, model = load(locate(args.folder), args.pt2)
    return print_predictions(task, model, args)


def add_to(add: Callable[..., argparse.ArgumentParser]) -> None:
    which = "a checkpoint or a run (default: the best checkpoint of the newest run)"
    sub = add(export, checkpoint={"nargs": "?", "help": which})
    runs = locate("checkpoints", inside=True)
    sub.add_argument("--checkpoints", type=locate, default=runs, help="the folder of runs")
    sub.add_argument("--to", metavar="FOLDER", help="a new folder (exports/RUN)")
    sub.add_argument("--only", choices=["onnx", "pt2"], help="only this format")
    folder = {"metavar": "FOLDER", "help": "a folder that `export` wrote"}
    sub = add(run_exported, folder=folder, inputs={"nargs": "+", "metavar": "INPUT"})
    pt2 = "use model.pt2, not model.onnx; loading it can run code in it"
    sub.add_argument("--pt2", action="store_true", help=pt2)
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.add_argument("--jsonl", action="store_const", dest="json", const="lines", help="JSON Lines")
