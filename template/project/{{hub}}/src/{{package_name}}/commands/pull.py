"""The command `pull`: download a model from the Hugging Face Hub as a run of this project."""

import argparse
import contextlib
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..cli import default_config
from ..config import check_model, dump, load, locate, script_command
from ..errors import UserError
from ..options import Config, Run, file_name
from . import _hub as hub

# torch takes seconds to import, so only what needs it imports it.

BEST = "best.pt"


def pull(args: argparse.Namespace) -> None:
    """Download a model that `push` uploaded, as a run that `test` and `run` accept."""
    repo, _, revision = args.repository.partition("@")
    hub.check_repository(repo)
    name = args.name or repo.partition("/")[2]
    if file_name("{name}", name=name) != name:
        raise UserError(f"--as {name}: should be a short file name, without a slash or colon")
    run = args.checkpoints / name
    if run.exists():
        raise UserError(f"{run}: already exists; set another name with --as")
    api = hub.open_hub()
    with hub.hub_errors(args.repository):
        found = api.model_info(repo, revision=revision or None, files_metadata=True)
    source = Source(api, repo, found)
    with hub.scratch(args.checkpoints) as work:
        source.folder, new = work / "files", work / name
        build(source, new)
        try:
            new.rename(run)
        except OSError as error:  # another command has made it
            raise UserError(f"{run}: {error.strerror}; set another name with --as") from error
    print(f"{run}: {repo} at {found.sha}")
    print(f"test it: {script_command('test', str(run))}")


class Source:
    """A revision of a repository, from which single files are downloaded and checked."""

    def __init__(self, api: Any, repo: str, found: Any) -> None:
        self.api, self.repo, self.revision, self.folder = api, repo, found.sha, Path()
        self.sizes = {each.rfilename: each.size for each in found.siblings or ()}
        self.checksums: dict[str, str] = {}
        if hub.FACTS not in self.sizes:
            raise UserError(f"{repo}: has no {hub.FACTS}, so `push` did not upload it")

    def get(self, name: str, most: int) -> Path:
        """Download a file of at most `most` bytes; UserError if its checksum or size is wrong."""
        size = self.sizes.get(name)
        if size is None:
            raise UserError(f"{self.repo}: has no {name}; push the model again")
        if size > most:
            raise UserError(f"{self.repo}: {name}: has {size:,} bytes, more than {most:,}")
        self.folder.mkdir(exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < 3 * size:  # the download, and up to two copies of the checkpoint
            raise UserError(f"{self.folder.parent.parent}: only {free:,} bytes are free; free some")
        with hub.hub_errors(self.repo, transfer=True):
            given = {"revision": self.revision, "local_dir": self.folder}
            path = Path(self.api.hf_hub_download(self.repo, name, **given))
        if path.stat().st_size != size or (
            name != hub.FACTS and hub.sha256(path) != self.checksums.get(name)
        ):
            wrong = f"{name}: does not fit its checksum in {hub.FACTS}"
            raise UserError(f"{self.repo}: {wrong}; push the model again")
        return path


def build(source: Source, run: Path) -> None:
    """Write the folder of a run; the model's code and config decide what is downloaded."""
    repo, small = source.repo, {name: most for name, most in hub.FILES.items() if most}
    path = source.get(hub.FACTS, small[hub.FACTS])
    try:
        facts = hub.Facts.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{repo}: {hub.FACTS}: damaged, or of a newer version") from error
    source.checksums = facts.files
    own = hub.data_kind()
    if facts.kind and own and facts.kind != own:
        raise UserError(f"{repo}: a model of the kind {facts.kind}; this project's is {own}")
    config = read_config(source.get("config.yaml", small["config.yaml"]), repo)

    from ..engine import checkpoint

    contents = to_contents(source, config, facts)
    run.mkdir()
    if "metrics.csv" in facts.files:
        shutil.copyfile(source.get("metrics.csv", small["metrics.csv"]), run / "metrics.csv")
    text = f"# of {repo} at {source.revision}\n{dump(config, 'yaml')}"
    (run / "config.yaml").write_text(text, encoding="utf-8")
    checkpoint.Writer(run, keep=1, background=False).save(contents, -1, "")


def read_config(path: Path, repo: str) -> Config:
    """The config without the folders, the device and the tracker of the machine that trained."""
    try:
        config = load(Config, [path])
        check_model(config.model.name)
    except UserError as error:
        problem = str(error).replace(str(path), "config.yaml").splitlines()[0]
        raise UserError(f"{repo}: does not fit this project: {problem}") from error
    folder = type(config.data).model_fields["folder"].default
    with contextlib.suppress(UserError):
        folder = load(Config, default_config()).data.folder
    run = Run(seed=config.run.seed, deterministic=config.run.deterministic)
    data = config.data.model_copy(update={"folder": folder})
    model = config.model.model_copy(update={"weights": None})
    return config.model_copy(update={"run": run, "data": data, "model": model})


def to_contents(source: Source, config: Config, facts: hub.Facts) -> dict[str, Any]:
    """The contents of a checkpoint without what training needs: optimizer, scheduler, RNG."""
    import torch
    from safetensors.torch import load_file, load_model

    from ..engine.checkpoint import mismatch_error
    from ..engine.state import build_task, load_loss, loss_module

    contents: dict[str, Any] = {"optimizer": {}, "scheduler": {}, "rng": [], "ema": None}
    contents |= {"epoch": facts.epoch, "step": facts.step, "data": facts.data, "rows": None}
    value, loss = (math.nan if v is None else v for v in (facts.best, facts.best_loss))
    contents["best"] = {"file": BEST, "step": facts.step, "value": value, "loss": loss}
    contents |= {"config": config.model_dump(), "info": facts.info, "loss": {}}
    with mismatch_error(f"{source.repo}: does not fit {config.model.name} of this project"):
        task = build_task(config, torch.device("cpu"), contents)
        model = task.build_model()
        if hub.LOSS in facts.files:
            trained = loss_module(task)
            contents["loss"] = load_file(source.get(hub.LOSS, _bytes(trained)))
            load_loss(contents, config, trained)
        load_model(model, source.get(hub.WEIGHTS, _bytes(model)))
    return contents | {"model": model.state_dict()}


def _bytes(module: Any) -> int:
    """The most that a file of a module's tensors takes, with their names and shapes."""
    return 10_000 + sum(1_000 + each.nbytes for each in module.state_dict().values())


def add_to(add: Callable[..., argparse.ArgumentParser]) -> None:
    repo = {"metavar": "ORG/NAME[@REVISION]", "help": "a repository on the Hub"}
    sub = add(pull, repository=repo)
    runs = locate("checkpoints", inside=True)
    sub.add_argument("--checkpoints", type=locate, default=runs, help="the folder of runs")
    sub.add_argument("--as", dest="name", metavar="RUN", help="the run's name (NAME)")
