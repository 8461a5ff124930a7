"""Several labels per sample: the task of `run.task: labels`. See docs/labels.md."""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .engine import table
from .engine.labelled import Labelled
from .options import Config
from .visualization import charts

check_folder = partial(table.check, numbers=False)
split_folder = partial(table.split, numbers=False)
samples, write = partial(table.samples, numbers=False), table.write  # for folds


def average_precision(scores: Tensor, truth: Tensor) -> Tensor:
    """The average precision of each label (C,), from scores and bool (N, C); NaN without samples.

    It is the mean, over samples with the label, of the precision among those that score as high.
    """
    order = scores.argsort(dim=0, descending=True)
    scores, right = scores.gather(0, order), truth.gather(0, order).double()
    place = torch.arange(1, len(scores) + 1, device=scores.device)[:, None].expand_as(scores)
    last = torch.ones_like(right, dtype=torch.bool)
    last[:-1] = scores[1:] != scores[:-1]  # equal scores count together
    last_place = place.where(last, len(scores)).flip(0).cummin(dim=0).values.flip(0)
    precision = right.cumsum(0).gather(0, last_place - 1) / last_place
    return (precision * right).sum(0) / right.sum(0)


class Scores:
    """`map`, the mean average precision, and `macro_f1` and `micro_f1`; exact, from all scores.

    A label that no sample has is left out of `map`; of `macro_f1`, if it is not predicted either.
    """

    def __init__(self, num_labels: int, device: torch.device | str) -> None:
        self.scores = [torch.zeros(0, num_labels, device=device)]
        self.truth = [torch.zeros(0, num_labels, dtype=torch.bool, device=device)]

    def update(self, logits: Tensor, batch: Sequence[Tensor]) -> None:
        """Add logits (N, C), and a batch with targets (N, C)."""
        self.scores.append(logits.detach().float())
        self.truth.append(batch[1] > 0.5)

    def compute(self) -> dict[str, float]:
        table, (right, found, true) = self.per_class(), self._sums()
        mean = {name: [v for v in table[name] if v == v] for name in ("ap", "f1")}
        map_, f1 = (sum(mean[k]) / len(mean[k]) if mean[k] else math.nan for k in ("ap", "f1"))
        micro = 2 * float(right.sum()) / max(1.0, float(found.sum() + true.sum()))
        return {"map": map_, "macro_f1": f1, "micro_f1": micro}

    def per_class(self) -> dict[str, list[float]]:
        """`f1`, `precision`, `recall`, `ap` (NaN if undefined) and `samples` of each label."""
        right, found, true = self._sums()
        state = self.state()
        figures = {"f1": 2 * right / (found + true), "precision": right / found}
        figures |= {"recall": right / true}
        figures |= {"ap": average_precision(state["scores"], state["truth"]).cpu()}
        return {k: v.tolist() for k, v in (figures | {"samples": true.long()}).items()}

    def _sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """The right, the predicted and the true samples of each label, float64 (C,)."""
        state = self.state()
        found, true = state["scores"] > 0, state["truth"]
        right, found, true = (x.sum(0).cpu().double() for x in (found & true, found, true))
        return right, found, true

    def state(self) -> dict[str, Any]:
        return {"scores": torch.cat(self.scores), "truth": torch.cat(self.truth)}

    def merge(self, states: list[dict[str, Any]]) -> None:
        for state in states:
            self.scores.append(state["scores"].to(self.scores[0].device))
            self.truth.append(state["truth"].to(self.scores[0].device))


class Task(Labelled):
    """Several labels per sample: which ones does it have?"""

    numbers, proof = False, (10.0, 1.0)
    advice = "use BCEWithLogitsLoss, with args: {pos_weight: balanced} for rare labels"

    def fit(self, train: table.Table, names: Sequence[str]) -> dict[str, Any]:
        counts = train.matrix(names).sum(0).long().tolist()
        return {"classes": list(names), "having": counts, "samples": len(train.rows)}

    def weighted(self, config: Config, info: dict[str, Any]) -> Config:
        """The config; `pos_weight: balanced` becomes samples without (or 1) / with each label."""
        if config.loss.args.get("pos_weight") != "balanced":
            return config
        weights = [max(1, info["samples"] - count) / count for count in info["having"]]
        args = {**config.loss.args, "pos_weight": weights}
        loss = config.loss.model_copy(update={"args": args})
        return config.model_copy(update={"loss": loss})

    def pool(self, outputs: Tensor, present: Tensor) -> Tensor:
        """The logits of the mean probabilities."""
        yes, no = (
            F.logsigmoid(x).masked_fill(~present[..., None], -torch.inf).logsumexp(dim=1)
            for x in (outputs, -outputs)
        )
        return yes - no

    def metrics(self) -> Any:
        return Scores(len(self.classes), self.device)

    def titles(self, targets: Tensor) -> list[str]:
        named = [[self.classes[i] for i in row.nonzero().flatten()] for row in targets > 0.5]
        more = [f" +{len(names) - 2}" if len(names) > 2 else "" for names in named]
        return [", ".join(names[:2]) + end for names, end in zip(named, more, strict=True)]

    def describe(self, outputs: Tensor) -> dict[str, Any]:
        probabilities = dict(zip(self.classes, outputs.sigmoid().tolist(), strict=True))
        found = [name for name, logit in zip(self.classes, outputs, strict=True) if logit > 0]
        return {"prediction": found, "probabilities": probabilities}

    def words(self, prediction: dict[str, Any]) -> str:
        shares = prediction["probabilities"]
        names = sorted(prediction["prediction"], key=shares.__getitem__, reverse=True)
        return ", ".join(f"{name} ({shares[name]:.1%})" for name in names) or "no label"

    def draw_results(self, outputs: Iterable[tuple[Tensor, Any]], folder: Path) -> list[Path]:
        """Draw average precision and F1 of each label: of over 30, the 30 with the lowest."""
        scores = Scores(len(self.classes), "cpu")
        for logits, batch in outputs:
            scores.update(logits, batch)
        columns = scores.per_class()
        rows = zip(self.classes, columns["ap"], columns["f1"], columns["samples"], strict=True)
        shown = sorted(rows, key=lambda row: 2.0 if row[1] != row[1] else row[1])[:30]
        draw(shown, len(self.classes), scores.compute(), folder / "labels.png")
        return [folder / "labels.png"]


def draw(rows: Sequence[Any], count: int, means: dict[str, float], path: Path) -> None:
    """Bars of name, average precision, F1 and samples; the lowest at the top."""
    from matplotlib.figure import Figure

    names, aps, f1s, samples = zip(*rows, strict=True)
    figure = Figure((8, 1.6 + 0.36 * len(rows)), layout="constrained", dpi=110)
    axes = figure.add_subplot(xlim=(0, 1.02), axisbelow=True)
    places = np.arange(len(rows))
    axes.barh(places - 0.2, aps, 0.38, color=charts.BLUE, label="AP")
    axes.barh(places + 0.2, f1s, 0.38, color=charts.ORANGE, label="F1")
    shown = [f"{name} ({count})" for name, count in zip(names, samples, strict=True)]
    axes.set_yticks(places, [name.replace("$", r"\$") for name in shown])
    axes.margins(y=0.02)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    which = f"{count} label" + "s" * (count > 1)
    which = f"the {len(rows)} lowest of {which}" if len(rows) < count else which
    title = f"{which} (samples): mAP {means['map']:.3f}, macro F1 {means['macro_f1']:.3f}"
    axes.set_title(title)
    figure.legend(frameon=False, ncols=2, loc="outside lower center")
    charts.write(path, figure.savefig)
