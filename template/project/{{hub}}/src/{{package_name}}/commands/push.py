"""The command `push`: upload a trained model to the Hugging Face Hub."""

import argparse
import importlib
import math
import re
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from ..config import ROOT, dump, locate
from ..errors import UserError
from ..options import Config
from . import _hub as hub

# torch takes seconds to import, so only what needs it imports it.

PIPELINES = {  # the Hub's tasks whose names differ from the kind's; `tabular` has two
    "language_modeling": "text-generation",
    "time_series": "time-series-forecasting",
    "custom": "",
    "": "",
}
METRICS = {"acc": "accuracy"}  # names of the Hub
LICENSES = {"MIT": "mit", "Apache-2.0": "apache-2.0", "BSD-3-Clause": "bsd-3-clause"}
LICENSES |= {"GPL-3.0-or-later": "gpl-3.0"}
USE = """\
## Use

In a project of the same kind, with the code of the model:

```
python -m {package} pull {repo}
```

`model.safetensors` has the weights for the code in `model/`, `run.json` the task's `info`.

"""


def push(args: argparse.Namespace) -> None:
    """Upload the best checkpoint of a run to the Hugging Face Hub, with a model card."""
    hub.check_repository(args.repository)
    args.notes = read_notes(args.notes)
    from ..engine import checkpoint

    path = best(checkpoint.find_run(args.trained, args.checkpoints))
    name = args.repository.partition("/")[2]
    if args.dry_run is not None:
        folder = locate(args.dry_run or Path("hub", name), inside=not args.dry_run)
        if folder.exists():
            raise UserError(f"{folder}: already exists; remove it, or name another folder")
        with hub.scratch(folder.parent) as work:
            fill(work / name, path, args)
            (work / name).rename(folder)
        print(f"not uploaded, written to {folder}:", *listed(folder), sep="\n  ")
        return
    api = hub.open_hub()
    exists, private = check_target(api, args)
    with hub.scratch(args.checkpoints) as work:
        fill(work / name, path, args)
        who = "private" if private else "public: everybody can read these files"
        print(f"{args.repository}, {who}:", *listed(work / name), sep="\n  ", flush=True)
        print(upload(api, work / name, args, exists))


def best(path: Path) -> Path:
    """The best checkpoint of a run, or the file; UserError if there is none."""
    from ..engine import checkpoint

    if path.is_dir():
        name = Path(checkpoint.newest(path)["best"]["file"]).name
        if not name:
            raise UserError(f"{path}: has no best checkpoint yet; train at least one epoch")
        path = path / name
    if not path.is_file():
        raise UserError(f"{path}: no such run or checkpoint")
    return path


def listed(folder: Path) -> list[str]:
    """A line for each file, with its size."""
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    return [f"{p.relative_to(folder).as_posix():<20} {p.stat().st_size:>13,} bytes" for p in files]


# --- the Hub ---
def check_target(api: Any, args: argparse.Namespace) -> tuple[bool, bool]:
    """Whether the repository exists, and is or will be private; UserError if it is not suitable."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    repo = args.repository
    if not get_token():
        raise UserError(f"{repo}: not logged in; {hub.LOGIN}")
    with hub.hub_errors(repo):
        try:
            known = api.model_info(repo)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return False, bool(args.private)
    names = {each.rfilename for each in known.siblings or ()}
    if hub.FACTS not in names and names - {".gitattributes", "README.md"}:
        raise UserError(f"{repo}: has files of another program; name a new repository")
    if args.private and not known.private:
        advice = "make it private in its settings, or name a new one"
        raise UserError(f"{repo}: exists and is public, despite --private; {advice}")
    return True, bool(known.private)


def upload(api: Any, folder: Path, args: argparse.Namespace, exists: bool) -> str:
    """Upload the files in one commit, without those that the Hub has; returns the address."""
    from huggingface_hub import CommitOperationAdd

    repo = args.repository
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    adds = [CommitOperationAdd(p.relative_to(folder).as_posix(), str(p)) for p in files]
    with hub.hub_errors(repo, transfer=True):
        if not exists:  # fails if another process has created it since, maybe public
            api.create_repo(repo, private=args.private or None)
        api.create_commit(repo, adds, commit_message=args.message)
    return f"{api.endpoint}/{repo}"


# --- the files ---
def fill(folder: Path, path: Path, args: argparse.Namespace) -> None:
    """Write all files that are uploaded."""
    try:
        from safetensors.torch import save_file, save_model
    except ImportError as error:
        raise UserError(f"push: {error}; run pip install -e '.[hub]'") from error
    from ..card import NOTES, card, line, measured
    from ..engine import checkpoint, inference

    run = path.parent.parent if path.parent.name == checkpoint.EARLIER else path.parent
    contents = checkpoint.load(path)
    config, task, model = inference.load(path, contents=contents)
    figures = measured(config, task, model)
    lines = [f"{split}: {line(found)}" for split, found in figures.items()]
    if getattr(args, "intervals", False) and "test" in figures:
        lines.append(f"test, 95 % intervals by the bootstrap: {_intervals(path)}")
    folder.mkdir()
    with checkpoint.mismatch_error(f"{path}: cannot be written as safetensors"):
        save_model(model.cpu(), str(folder / hub.WEIGHTS))
        if contents.get("loss"):
            loss = {name: tensor.contiguous() for name, tensor in contents["loss"].items()}
            save_file(loss, str(folder / hub.LOSS))
    shown = public(config)
    (folder / "config.yaml").write_text(dump(shown, "yaml"), encoding="utf-8")
    if (run / "metrics.csv").is_file():
        shutil.copyfile(run / "metrics.csv", folder / "metrics.csv")
    if args.pictures:
        _draw(path, folder / "pictures")
    facts = _facts(path, run, contents)
    notes = USE.format(repo=args.repository, package=_package()) + (args.notes.strip() or NOTES)
    text = card(config, run, contents["epoch"], lines, shown=shown, notes=notes)
    if facts.data:
        count, names = facts.data
        origin = f"Trained on {count:,} samples"
        origin += f"; CRC-32 of their files' names: {names:08x}.\n\n" if names else ".\n\n"
        before, heading, rest = text.rpartition("## Metrics\n")  # the notes can have one, too
        text = f"{before}{origin}{heading}{rest}"
    head = yaml.safe_dump(metadata(args.repository, config, facts, figures), sort_keys=False)
    (folder / "README.md").write_text(f"---\n{head}---\n\n{text}", encoding="utf-8")
    pulled = [name for name in hub.FILES if name != "README.md" and (folder / name).is_file()]
    facts.files = {name: hub.sha256(folder / name) for name in pulled}
    (folder / hub.FACTS).write_text(facts.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _package() -> str:
    return str(__package__).partition(".")[0]


def _intervals(path: Path) -> str:
    """The metrics on `test` with the confidence intervals of the command `intervals`."""
    measure: Any = importlib.import_module(f"{__package__}.intervals")
    [column] = measure.bootstrap([measure.of_each_sample(path, "test", [])], 1000)
    texts = ("{value:.4f} ({low:.4f} to {high:.4f})".format(**each) for each in column.values())
    return ", ".join(f"{name} {text}" for name, text in zip(column, texts, strict=True))


def _draw(path: Path, folder: Path) -> None:
    """The pictures that `test` draws: they show samples of the test data."""
    from ..engine.inference import measure

    _, pictures = measure(path, "test", [f"run.images={folder}", "run.tracker=none"])
    for picture in pictures:
        picture.rename(folder / picture.name)
    (folder / "result").rmdir()


def _facts(path: Path, run: Path, contents: dict[str, Any]) -> hub.Facts:
    from ..engine import provenance

    start = provenance.newest(run)
    code: dict[str, Any] = {"commit": start.get("commit"), "changed": bool(start.get("diff"))}
    code |= {"python": start.get("python"), "torch": start.get("packages", {}).get("torch")}
    saved = {"epoch": contents["epoch"], "step": contents["step"], "data": contents.get("data")}
    numbers = {"best": contents["best"].get("value"), "best_loss": contents["best"].get("loss")}
    try:
        facts = hub.Facts(
            kind=hub.data_kind(), info=contents["info"], code=code, **saved, **numbers
        )
        facts.model_dump_json()  # text can have characters that UTF-8 cannot encode
        return facts
    except (ValidationError, PydanticSerializationError) as error:
        named = error.errors()[0]["loc"] if isinstance(error, ValidationError) else ["info"]
        wrong = ".".join(map(str, named))
        advice = "use text, numbers, lists, and maps with text as keys"
        raise UserError(f"{path}: {wrong}: cannot be written as JSON; {advice}") from error


def public(config: Config) -> Config:
    """The config without folders of this machine: only the last part of a path outside is kept."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cut(item) for key, item in value.items()}
        if isinstance(value, list):
            return [cut(item) for item in value]
        if isinstance(value, str) and (
            PurePosixPath(value).is_absolute()
            or PureWindowsPath(value).is_absolute()
            or value.startswith("~")
            or ".." in re.split(r"[/\\]", value)
        ):
            return re.split(r"[/\\]", value.rstrip("/\\"))[-1] or value
        return value

    return Config.model_validate(cut(config.model_dump()))


def metadata(
    repo: str, config: Config, facts: hub.Facts, figures: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """The metadata at the top of a model card, which the Hub reads."""
    pipeline = PIPELINES.get(facts.kind, facts.kind.replace("_", "-"))
    if config.run.task == "numbers":
        pipeline = ""  # the Hub has no name for it
    if facts.kind == "tabular":
        pipeline = f"tabular-{'classification' if facts.info.get('classes') else 'regression'}"
    found: dict[str, Any] = {}
    try:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        found["license"] = LICENSES.get(project["license"], "other")
        if found["license"] == "other":
            found["license_name"] = _plain(project["license"].lower())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        print("warning: pyproject.toml: has no license, so the card has none", file=sys.stderr)
    found |= {"library_name": "pytorch", "pipeline_tag": pipeline or None}
    found["tags"] = ["pytorch", config.model.name]
    data = Path(public(config).data.folder.partition("/folds/")[0]).name  # of `sweep --folds`
    data = _package() if data in ("data", "") else data
    values = [
        {"type": METRICS.get(name, name), "name": name, "value": round(value, 6)}
        for name, value in figures.get("test", {}).items()
        if math.isfinite(value)
    ]
    if values:
        about = {"name": data, "type": _plain(data), "split": "test"}
        results = {"task": {"type": pipeline or "other"}, "dataset": about, "metrics": values}
        found["model-index"] = [{"name": repo.partition("/")[2], "results": [results]}]
    return {key: value for key, value in found.items() if value is not None}


def _plain(name: str) -> str:
    """The name in the characters that the Hub accepts."""
    return re.sub(r"[^\w.-]", "-", name, flags=re.ASCII)


def read_notes(path: str) -> str:
    """The text of a file; UserError if it cannot be read."""
    try:
        return locate(path).read_text(encoding="utf-8") if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--notes {path}: cannot be read as UTF-8 text") from error


def add_to(add: Callable[..., argparse.ArgumentParser]) -> None:
    run = {"metavar": "RUN", "help": "a run, or a checkpoint"}
    repo = {"metavar": "ORG/NAME", "help": "a repository on the Hub"}
    sub = add(push, trained=run, repository=repo)
    runs = locate("checkpoints", inside=True)
    sub.add_argument("--checkpoints", type=locate, default=runs, help="the folder of runs")
    sub.add_argument("--private", action="store_true", help="create a private repository")
    sub.add_argument("--message", default="Upload a model", help="of the commit")
    text = "Markdown with the sections on intended use and limits"
    sub.add_argument("--notes", default="", metavar="FILE", help=text)
    text = "also upload what `test` draws, which shows samples of the test data"
    sub.add_argument("--pictures", action="store_true", help=text)
    if Path(__file__).with_name("intervals.py").is_file():
        text = "measure 95 %% confidence intervals of the test, for the card"
        sub.add_argument("--intervals", action="store_true", help=text)
    text = "write the files to a new folder (hub/NAME), and upload nothing"
    sub.add_argument("--dry-run", nargs="?", const="", metavar="FOLDER", help=text)
