"""The command `export`."""

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..config import dump, locate
from ..config import load as load_config
from ..errors import UserError
from ..options import Config


def export(args: argparse.Namespace) -> None:
    """Write a trained model as ONNX and as a torch.export program, each tried against it."""
    from ..engine import checkpoint

    path = checkpoint.find(args.checkpoint, args.checkpoints)
    run = path.parent.parent if path.parent.name == checkpoint.EARLIER else path.parent
    folder = locate(args.to or Path("exports", run.name), inside=not args.to)
    if folder.exists():
        raise UserError(f"{folder}: is there already; remove it, or name another by --to")
    there = next(parent for parent in folder.absolute().parents if parent.exists())
    with tempfile.TemporaryDirectory(dir=there, prefix=".exporting-") as aside:
        whole = Path(aside, "export")
        whole.mkdir()
        lines = fill(whole, path, run, [args.only] if args.only else ["onnx", "pt2"])
        folder.parent.mkdir(parents=True, exist_ok=True)
        whole.rename(folder)
    print(f"{folder}, and how far its files are from the model:", *lines, sep="\n  ")


def fill(folder: Path, path: Path, run: Path, formats: list[str]) -> list[str]:
    """Write all that an export holds; returns a line for each trial."""
    from importlib.metadata import version

    import torch

    from .. import card
    from .. import task as yours
    from ..data.splits import SPLITS
    from ..engine import checkpoint, inference, loop
    from ..engine.device import pick_device
    from ..exported import About, package, write

    tensors = package("safetensors.torch")
    contents = checkpoint.load(path)
    config, task, model = inference.load(path)
    device, precision = pick_device(config.run.device), config.train.precision
    figures: card.Figures = {}
    for split in SPLITS[1:]:
        try:
            loader = task.eval_loader(split)
            figures[split] = loop.evaluate(model, task, loader, device, precision)
        except UserError as error:
            figures[split] = str(error)
    cpu = torch.device("cpu")
    task, model = yours.Task(config, cpu, contents["info"]), model.to(cpu).eval()
    batch = next(iter(task.eval_loader("valid")))
    about = About(
        model=config.model.name,
        checkpoint=path.name,
        epoch=contents["epoch"],
        step=contents["step"],
        suffix=card.usual_suffix(locate(config.data.folder, inside=True) / "train"),
        info=contents["info"],
        versions={name: version(name) for name in ("torch", "onnx", "onnxruntime")},
        **write(folder, task, model, batch, formats),
    )
    tensors.save_model(model, str(folder / "model.safetensors"))
    asked = load_config(Config, [], [], contents["config"])
    (folder / "config.yaml").write_text(dump(asked, "yaml"), encoding="utf-8")
    (folder / "export.json").write_text(about.model_dump_json(indent=2) + "\n", encoding="utf-8")
    text = card.card(about, asked, run, figures)
    (folder / "MODEL_CARD.md").write_text(text, encoding="utf-8")
    shutil.copymode(folder / "export.json", folder / "model.safetensors")  # for more than its owner
    return [f"{file} for {sizes}: {said}" for file, sizes, said in card.trials(about)]


def add_to(add: Callable[..., argparse.ArgumentParser]) -> None:
    which = "a checkpoint or a run (default: the best one of the newest run)"
    sub = add(export, checkpoint={"nargs": "?", "help": which})
    runs = locate("checkpoints", inside=True)
    sub.add_argument("--checkpoints", type=locate, default=runs, help="the folder of runs")
    sub.add_argument("--to", metavar="FOLDER", help="a new one (exports/RUN)")
    sub.add_argument("--only", choices=["onnx", "pt2"], help="this format alone")
