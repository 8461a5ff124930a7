"""The command `run-exported`."""

import argparse
import json
from collections.abc import Callable

from ..config import locate


def run_exported(args: argparse.Namespace) -> None:
    """Predict as `run` does, with an exported model and without its checkpoint."""
    from ..exported import load

    _, task, model = load(locate(args.folder), args.pt2)
    predictions = []
    for prediction in task.predict(model, args.inputs):
        predictions.append(prediction)
        if not args.json:
            print(task.sentence(prediction), flush=True)
    if args.json:
        print(json.dumps(predictions, ensure_ascii=False, indent=2))


def add_to(add: Callable[..., argparse.ArgumentParser]) -> None:
    folder = {"metavar": "FOLDER", "help": "what `export` wrote"}
    sub = add(run_exported, folder=folder, inputs={"nargs": "+", "metavar": "INPUT"})
    pt2 = "take model.pt2, not model.onnx; loading one can run code that is in it"
    sub.add_argument("--pt2", action="store_true", help=pt2)
    sub.add_argument("--json", action="store_true", help="print for programs")
