"""What `calibrate` computes: how right confidences are, and the best temperature for them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..engine.contract import Batch, Task
from ..errors import UserError
from .intervals import target_of

BINS = 15  # of equal width, as in Guo et al. (2017)
CHUNK = 2**20  # logits in float64 at once
UNLABELLED = 255  # in masks, a pixel of no class; so is any number below 0
TRIED = 8  # layers, of which one may give the logits
PASSES = 30  # over a split at most; a temperature takes about six
CLOSE = 1e-4  # a relative difference of temperatures that does not matter


class Confidences:
    """Metrics for `loop.evaluate`: sums over the predictions of a split, of a fixed size."""

    def __init__(self, split: str) -> None:
        self.split, self.independent = split, True
        # For each bin: predictions, the sum of their confidences, how many are right, and the
        # variance of this number if the confidences are right.
        self.bins = torch.zeros(BINS, 4, dtype=torch.float64)
        # NLL; Brier score; derivative of the NLL by the logarithm of a factor of the logits, and
        # what its second derivative is more than that; derivative by the factor where it is 0.
        self.sums = torch.zeros(5, dtype=torch.float64)

    def update(self, outputs: Any, batch: Batch) -> None:
        """Add logits (N, C), (N, C, ...) or (N, ..., C), and a batch with the classes (N, ...)."""
        logits, targets = self._flat(outputs, target_of(batch))
        rows = max(1, CHUNK // logits.shape[1])
        for part, truth in zip(logits.split(rows), targets.split(rows), strict=True):
            part = part.cpu() if part.device.type == "mps" else part  # it has no float64
            self._add(part.double(), truth.to(part.device, torch.int64))

    def _flat(self, outputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
        """Logits (M, C) and classes (M,), without targets of no class; or UserError."""
        tensors = isinstance(outputs, Tensor) and isinstance(targets, Tensor)
        if tensors and outputs.is_floating_point() and not targets.is_floating_point():
            # Of three dimensions rather the last: there may be as many tokens as there are places.
            for dim in (-1, 1) if outputs.dim() == 3 else range(1, outputs.dim()):
                logits = outputs.movedim(dim, -1)
                if logits.shape[:-1] == targets.shape and (count := logits.shape[-1]) > 1:
                    self.independent &= targets.dim() == 1  # neighbours resemble each other
                    known = (targets >= 0) & ((targets != UNLABELLED) | (count > UNLABELLED))
                    logits, targets = logits[known], targets[known]
                    if (targets >= count).any():
                        wrong = f"has the target {int(targets.max())}, the model {count} classes"
                        raise UserError(f"{self.split}: {wrong}; name the data that it is for")
                    return logits, targets
        kinds = [
            f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            for x in (outputs, targets)
        ]
        needs = "it needs logits (N, classes) and targets (N,), numbers of classes"
        found = "outputs {}, targets {}".format(*kinds).replace("torch.", "")
        raise UserError(f"calibrate is for classification: {needs}; here: {found}")

    def _add(self, logits: Tensor, targets: Tensor) -> None:
        """Add logits (M, C) and classes (M,), all on one device."""
        if not logits.isfinite().all():
            raise UserError(f"{self.split}: the model's logits are inf or NaN; see docs/faults.md")
        if len(logits) and logits.min() >= 0 and (logits.sum(dim=1) - 1).abs().max() < 0.01:
            raise UserError("task.forward: returns probabilities; remove the softmax at its end")
        logs, truth = logits.log_softmax(dim=1), targets[:, None]
        shares, mean = logs.exp(), (logs.exp() * logits).sum(dim=1)
        right, own = shares.gather(1, truth)[:, 0], logits.gather(1, truth)[:, 0]
        sums = [
            -logs.gather(1, truth)[:, 0],
            shares.square().sum(dim=1) - 2 * right + 1,
            mean - own,
            (shares * (logits - mean[:, None]).square()).sum(dim=1),
            logits.mean(dim=1) - own,
        ]
        self.sums += torch.stack([each.sum() for each in sums]).cpu()
        confidences, best = shares.max(dim=1)
        right, ones = (best == targets).double(), torch.ones_like(confidences)
        rows = torch.stack([ones, confidences, right, confidences * (1 - confidences)], dim=1)
        bins = (confidences * BINS).ceil().long().clamp(1, BINS) - 1  # (0, 1/15], (1/15, 2/15], …
        self.bins.index_add_(0, bins.cpu(), rows.cpu())

    @property
    def count(self) -> int:
        return int(self.bins[:, 0].sum())

    def compute(self) -> dict[str, float]:
        """Accuracy, mean confidence, NLL, Brier score, and expected calibration error (ECE).

        `by_chance`: if the confidences were right, the ECE would be below this for 95 % of such
        splits (Bröcker and Smith, 2007). It needs predictions that are independent.
        """
        if not (total := self.count):
            raise UserError(f"{self.split}: has no sample of a known class")
        _, confidence, right, variance = self.bins.unbind(dim=1)
        sums = {"acc": right.sum(), "confidence": confidence.sum(), "nll": self.sums[0]}
        sums |= {"brier": self.sums[1], "ece": (confidence - right).abs().sum()}
        if self.independent:
            drawn = np.random.default_rng(0).normal(size=(10_000, BINS)) * variance.sqrt().numpy()
            sums["by_chance"] = np.quantile(np.abs(drawn).sum(axis=1), 0.95)
        return {name: float(value) / total for name, value in sums.items()}

    def rows(self) -> list[dict[str, float]]:
        """Each bin that has predictions: its lower edge, their number, confidence and accuracy.

        `noise` is two standard deviations of the accuracy, if the confidences are right.
        """
        found = list[dict[str, float]]()
        for number, (count, *sums, variance) in enumerate(self.bins.tolist()):
            if count:
                confidence, right = (each / count for each in sums)
                row = {"above": number / BINS, "count": int(count), "confidence": confidence}
                found.append(row | {"acc": right, "noise": 2 * math.sqrt(variance) / count})
        return found

    def check(self) -> None:
        """UserError unless one temperature has the least NLL."""
        right, none = int(self.bins[:, 2].sum()), f"{self.split}: no temperature is the best"
        if right == self.count:
            why = f"all {right:,} predictions are right, and a lower one is always better"
            raise UserError(f"{none}: {why}; add samples that are hard to classify")
        if self.sums[4] >= 0:
            why = "the logits are no better than chance, and a higher one is always better"
            raise UserError(f"{none}: {why}; train longer")


class Layer:
    """Weights that can be scaled."""

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name, self.weights = name, [*module.parameters()]
        self.originals = [weight.detach().clone() for weight in self.weights]

    @torch.no_grad()
    def scale(self, factor: float) -> None:
        """Set the weights to `factor` times what they were at first."""
        for weight, original in zip(self.weights, self.originals, strict=True):
            weight.copy_(original * factor)


@torch.no_grad()
def find_layer(task: Task, model: nn.Module, batch: Batch) -> Layer:
    """The last layer whose weights scale the logits; UserError if there is none.

    It is tried: half the weights have to give half the logits. This finds the norm before an output
    layer that shares its weights with an embedding, and sees a softmax in the model's `forward`.
    """
    names = {m: f"{name or 'model'} ({type(m).__name__})" for name, m in model.named_modules()}
    called, returned = dict[nn.Module, str](), list[Any]()

    def note(module: nn.Module, _: Any, output: Any) -> None:
        called.pop(module, None)  # of a layer that is called twice, the last time counts
        called[module] = names[module]
        returned.extend([output] if module is model else [])

    def logits() -> Tensor:
        """Those of the model: a task may take the mean over several of its outputs."""
        returned.clear()
        outputs = task.forward(model, batch)
        return returned[0] if returned and isinstance(returned[0], Tensor) else outputs

    hooks = [module.register_forward_hook(note) for module in names]
    try:
        whole = logits()
        # Of a layer in a container of its own, only the layer; and layers before containers.
        owners = {tuple(map(id, each.parameters())): each for each in reversed([*called])}
        owners.pop((), None)
        modules = sorted([*owners.values()][:TRIED], key=lambda each: len([*each.parameters()]))
        for module in modules:
            layer = Layer(names[module], module)
            layer.scale(0.5)  # exact in floating point
            half = logits()
            layer.scale(1)
            if torch.allclose(2 * half, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max())):
                return layer
    finally:
        for hook in hooks:
            hook.remove()
    tried = ", ".join(names[module] for module in modules) or "none has weights"
    why = "a softmax or a norm follows it, or an earlier layer has the same weights"
    advice = "end the model with a linear layer or convolution of its own"
    raise UserError(f"no layer can be divided by a temperature ({tried}): {why}; {advice}")


def fit(
    measure: Callable[[], Confidences], scale: Callable[[float], None], before: Confidences
) -> tuple[float, Confidences]:
    """The temperature with the least NLL (Guo et al., 2017), and the confidences it gives.

    Newton's method on log(1 / temperature), or bisection where that would leave the interval.
    Each step measures the model again. So logits need no memory, whatever their number, and what a
    task computes from them counts, such as a mean over windows.
    """
    before.check()
    found, at, low, high = before, 0.0, -math.inf, math.inf
    for _ in range(PASSES):
        slope, variance = found.sums[2:4].tolist()
        step = -slope / (slope + variance) if slope + variance > 0 else math.copysign(1, -slope)
        step = min(1.0, max(-1.0, step))
        low, high = (at, high) if slope < 0 else (low, at)
        if abs(step) < CLOSE or high - low < CLOSE:
            return math.exp(-at), found
        at = at + step if low < at + step < high else (low + high) / 2
        scale(math.exp(at))
        found = measure()
    raise UserError(f"{before.split}: no temperature found in {PASSES} passes; use fp32")
