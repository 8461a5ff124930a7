"""Time from launch to the end of the first step: a script without a framework, the project, Hydra with Lightning.

    .venv/bin/python bench/startup.py [ROUNDS]

Whole processes, in an order that changes from round to round, after a first round that doesn't count. All read the same
class folders with PIL, without augmentation, through a DataLoader without workers, and train the project's cnn with
AdamW, gradient clipping and a scheduler. Each process exits after the first optimizer step. The project and Lightning
also have validation data; Lightning first runs two batches of them, as it does by default.
"""

import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGES = ("lightning", "hydra-core")
HYDRA = """
seed: 0
epochs: 20
data: {folder: data, batch_size: 32}
model: {_target_: my_project.model.cnn.cnn, num_classes: 10, in_channels: 1, width: 16, dropout: 0.1}
optimizer: {_target_: torch.optim.AdamW, _partial_: true, lr: 0.003, weight_decay: 0.01}
scheduler: {_target_: my_project.scheduler.warmup_cosine, _partial_: true, warmup: 0.1, final: 0.01}
trainer: {_target_: lightning.Trainer, max_epochs: "${epochs}", accelerator: cpu, devices: 1, gradient_clip_val: 1.0}
"""


def main(rounds: int) -> None:
    import resource
    import statistics
    import tempfile

    import peers  # not for the contenders: see peers.run

    with tempfile.TemporaryDirectory() as folder:
        project = peers.render(Path(folder) / "project")
        (project / "hydra").mkdir()
        (project / "hydra" / "train.yaml").write_text(HYDRA)

        def seconds(name: str) -> tuple[float, float]:
            """Wall-clock seconds and CPU seconds of a process."""
            start, used = time.perf_counter(), sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
            output = peers.run(project, str(Path(__file__).resolve()), "--contender", name)
            taken = time.perf_counter() - start
            assert output.endswith("stepped\n"), output
            return taken, sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - used

        for name in CONTENDERS:
            seconds(name)
        times = [{name: seconds(name) for name in order} for order in peers.rotated(list(CONTENDERS), rounds)]
    print(peers.environment(*PACKAGES))
    for number, title in enumerate(("launch to the first step", "the same, time on the CPU alone")):
        columns = [{name: row[name][number] for name in CONTENDERS} for row in times]
        print("\n" + peers.table(title, "s", columns, "script") + "\n")
        ratio = statistics.median(row["Hydra and Lightning"] / row["the project"] for row in columns)
        print(f"Hydra and Lightning: x {ratio:.2f} of the project, median of the pairs")


def stop_after_a_step() -> None:
    """Make the first optimizer step end this process."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    def stop(*_: Any) -> None:
        print("stepped", flush=True)
        os._exit(0)

    register_optimizer_step_post_hook(stop)


# --- the contenders ---


def only_torch() -> None:
    """Import torch and exit: every contender takes at least this long."""
    import_module("torch")
    print("stepped", flush=True)
    os._exit(0)


def script() -> None:
    """A minimal script for this data."""
    import argparse

    import torch
    from torch import nn
    from torch.nn import functional as F

    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", default="data/train")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=0.003)
    args = parser.parse_args([])
    stop_after_a_step()
    torch.manual_seed(0)
    loader = images(args.folder, args.batch_size)
    net = import_module("my_project.model.cnn").cnn(num_classes=10).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=args.lr, weight_decay=0.01)
    scheduler = import_module("my_project.scheduler").warmup_cosine(optimizer, args.epochs * len(loader))
    for _ in range(args.epochs):
        for batch, targets in loader:
            loss: Any = F.cross_entropy(net(batch), targets)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()


def images(folder: str, batch_size: int, shuffle: bool = True) -> Any:
    """A DataLoader of class folders, written by hand."""
    import numpy as np
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    class Images(Dataset[Any]):
        def __init__(self) -> None:
            classes = sorted(os.listdir(folder))
            self.samples = [
                (f"{folder}/{name}/{file}", target)
                for target, name in enumerate(classes)
                for file in sorted(os.listdir(f"{folder}/{name}"))
            ]

        def __len__(self) -> int:
            return len(self.samples)

        def __getitem__(self, index: int) -> Any:
            path, target = self.samples[index]
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("L"), dtype=np.float32) / 255
            return torch.from_numpy(pixels)[None], target

    return DataLoader(Images(), batch_size, shuffle)


def ours() -> None:
    """The command `train`."""
    settings = [f"run.name=startup-{time.time_ns()}", "run.device=cpu", "data.transforms={}", "train.limit_batches=1"]
    cli = import_module("my_project.cli")
    stop_after_a_step()
    cli.main(["train", "configs/train.yaml", *settings])


def hydra_and_lightning() -> None:
    """A Hydra app that builds everything from its config, with a LightningModule."""
    from torch.nn import functional as F

    hydra: Any = import_module("hydra")
    instantiate: Any = import_module("hydra.utils").instantiate
    L: Any = import_module("lightning")
    stop_after_a_step()

    class Module(L.LightningModule):  # type: ignore[misc]
        def __init__(self, config: Any, steps: int) -> None:
            super().__init__()
            self.config, self.steps, self.net = config, steps, instantiate(config.model)

        def training_step(self, batch: Any, index: int) -> Any:
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.log("loss", loss, prog_bar=True)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

        def configure_optimizers(self) -> Any:
            optimizer = instantiate(self.config.optimizer)(self.parameters())
            scheduler = instantiate(self.config.scheduler)(optimizer, total_steps=self.steps)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def app(config: Any) -> None:
        L.seed_everything(config.seed)
        loader = images(f"{config.data.folder}/train", config.data.batch_size)
        valid = images(f"{config.data.folder}/valid", config.data.batch_size, shuffle=False)
        module = Module(config, config.epochs * len(loader))
        instantiate(config.trainer).fit(module, loader, valid)

    sys.argv = ["train.py", "epochs=20"]
    hydra.main(version_base=None, config_path=str(Path("hydra").resolve()), config_name="train")(app)()


CONTENDERS: dict[str, Callable[[], None]] = {
    "import torch": only_torch,
    "script": script,
    "the project": ours,
    "Hydra and Lightning": hydra_and_lightning,
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contender"]:
        CONTENDERS[sys.argv[2]]()
        sys.exit("no step was made")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
