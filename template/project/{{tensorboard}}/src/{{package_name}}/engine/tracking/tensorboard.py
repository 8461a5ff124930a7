"""The TensorBoard tracker; `tensorboard --logdir checkpoints` shows the runs."""

import json
from functools import cached_property
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from .. import provenance
from .figures import grouped


class Tracker:
    """Writes event files to the run's folder: one for each start and each `test` of the run."""

    def __init__(self, run: Path, config: dict[str, Any]) -> None:
        self.run, self.config = run, config
        self.again: int | None = None  # the first step that a resumed run repeats

    @cached_property
    def writer(self) -> SummaryWriter:
        return SummaryWriter(self.run, purge_step=self.again)

    def log(self, row: dict[str, float]) -> None:
        training, step = "seconds" in row, int(row["step"])
        writer = self.open(step, training)
        for name, value in grouped(row).items():
            if name != "epoch":
                writer.add_scalar(name, value, step)
        writer.flush()

    def log_step(self, row: dict[str, float]) -> None:
        step = int(row["step"])
        writer = self.open(step, training=True)
        for name, value in row.items():
            if name not in ("epoch", "step"):
                writer.add_scalar(f"step/{name}", value, step)

    def picture(self, path: Path, step: int) -> None:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        writer = self.open(step, training=True)
        writer.add_image(f"{path.parent.name}/{path.stem}", pixels, step, dataformats="HWC")

    def open(self, step: int, training: bool) -> SummaryWriter:
        """The writer; its first use in training hides older events from this step on."""
        if training and "writer" not in vars(self):
            self.again = step
            start = provenance.newest(self.run)
            changes = provenance.changes(self.run) or "no changes\n"
            self.text("config", json.dumps(self.config, indent=2, ensure_ascii=False), step)
            self.text("code", f"commit {start.get('commit')}\n{changes}", step)
            self.text("start", json.dumps(start, indent=2, ensure_ascii=False), step)
        return self.writer

    def text(self, tag: str, text: str, step: int) -> None:
        # Markdown shows indented text verbatim.
        self.writer.add_text(tag, indent(text, "    ", lambda line: True), step)

    def close(self) -> None:
        self.writer.close()
