"""What this project is about: all that the engine knows of your data, models and pictures.

`engine/contract.py` says what each method is for.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from .components import build_loss, build_model
from .config import locate
from .data import clock
from .data.dataloader import Batch, eval_loader, make_loader, train_loader
from .data.dataset import Windows, WithKnown, check_step, read_series
from .data.splits import unpack_sample
from .data.tables import find_tables
from .engine.distributed import log
from .errors import UserError
from .forecast import ForecastErrors, seasonal_naive
from .model.known import Known
from .options import Config
from .visualization import plots


class Task:
    """The task: forecast series."""

    def __init__(self, config: Config, device: torch.device, info: dict[str, Any] | None = None):
        self.config, self.data, self.device = config, config.data, device
        self.folder = locate(config.data.folder, inside=True)
        self.drawn = "test"  # the split of the latest `eval_loader`
        self.windows: dict[str, Windows] = {}
        self.info = info or self._learn()
        self.columns, (size, unit) = self.info["columns"], self.info["step"]
        self.step: clock.Step = size, unit
        shape = 1, len(self.columns), 1
        self.mean = torch.tensor(self.info["mean"], device=device).view(shape)
        self.std = torch.tensor(self.info["std"], device=device).view(shape)
        self.inputs = [*self.data.known, *self.data.calendar]
        known = self.info.get("known", {"names": [], "mean": [], "std": []})
        if self.inputs != known["names"]:
            names = ", ".join(known["names"]) or "none"
            raise UserError(f"data.known, data.calendar: the run has {names}; don't set them")
        self.known_mean = torch.tensor(known["mean"], device=device).view(1, -1, 1)
        self.known_std = torch.tensor(known["std"], device=device).view(1, -1, 1)
        self.loss_function = build_loss(config.loss)
        if isinstance(self.loss_function, nn.Module):
            self.loss_function.to(device)
        # Of the quantiles that the model forecasts; empty for a plain forecast.
        self.levels: list[float] = getattr(self.loss_function, "levels", [])

    def _learn(self) -> dict[str, Any]:
        """What is learnt from the training data: the series, their step, mean and deviation."""
        unpack_sample(self.folder)
        windows = Windows(self.folder, "train", self.data, self.data.columns, None)
        self.windows["train"] = windows
        learnt: dict[str, Any] = moments(windows.values)
        learnt |= {"step": [*windows.series[0].step], "time": windows.time_column}
        if names := [*self.data.known, *self.data.calendar]:
            learnt["known"] = {"names": names, **moments(windows.known, len(self.data.known))}
        if not self.data.time_column and learnt["time"] != "time":
            log(f"the times are column {learnt['time']!r}; data.time_column chooses another")
        return {"columns": windows.columns, **learnt}

    def _dataset(self, split: str) -> Windows:
        unpack_sample(self.folder)
        if split not in self.windows:
            given = self.data, self.columns, self.step, self.info["time"]
            self.windows[split] = Windows(self.folder, split, *given)
        return self.windows[split]

    def train_loader(self) -> DataLoader[Batch]:
        windows = self._dataset("train")
        return self._with_known(train_loader(windows, self.config), windows)

    def eval_loader(self, split: str) -> DataLoader[Batch]:
        self.drawn = split
        windows = self._dataset(split)
        return self._with_known(eval_loader(windows, self.config), windows)

    def _with_known(self, loader: DataLoader[Batch], windows: Windows) -> DataLoader[Batch]:
        """Batches of past, known inputs and future, if there are such; no transform sees them."""
        if not self.inputs:
            return loader
        made, sampler = WithKnown(loader.dataset, windows), cast("Sampler[Any]", loader.sampler)
        return make_loader(made, self.config, sampler, None)

    def build_model(self) -> nn.Module:
        steps = self.data.horizon * max(1, len(self.levels))
        given = {"context": self.data.context, "horizon": steps}
        model = build_model(self.config.model, **given)
        inputs = self.known_mean.shape[1]
        return Known(model, inputs, len(self.columns)) if inputs else model

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Forecasts in the units of the data; the model itself sees scaled values.

        They are scaled by the mean and the deviation of each window (RevIN without its learnt
        part; Kim et al., 2022), or of the training data. With levels, they are (N, C, horizon,
        levels), and sorted, so that quantiles never cross (Chernozhukov et al., 2010).
        """
        past, mean, std = batch[0], self.mean, self.std
        if self.data.scaling == "window":
            mean, variance = past.mean(dim=2, keepdim=True), past.var(dim=2, keepdim=True)
            std = (variance + (0.001 * std) ** 2).sqrt()  # a window may be constant
        known = [(batch[1] - self.known_mean) / self.known_std] if self.inputs else []
        outputs = model((past - mean) / std, *known) * std + mean
        if not self.levels:
            return outputs
        return outputs.unflatten(-1, (-1, len(self.levels))).sort(dim=-1).values

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The loss in deviations of the training data, so that all series count equally."""
        std = self.std.unsqueeze(-1) if self.levels else self.std
        return self.loss_function(outputs / std, batch[-1] / self.std)

    def median(self, outputs: Tensor) -> Tensor:
        """The forecasts (N, C, horizon) in outputs that may have quantiles."""
        return outputs[..., self.levels.index(0.5)] if self.levels else outputs

    def metrics(self) -> ForecastErrors:
        return ForecastErrors(len(self.columns), self.data.season, self.device, self.levels)

    def draw_batch(self, batch: Batch, folder: Path) -> Path:
        past, future = (part[:12].numpy() for part in (batch[0], batch[-1]))
        plots.windows(past, future, self.columns, folder / "train.png")
        return folder / "train.png"

    def draw_results(self, outputs: Iterable[tuple[Tensor, Batch]], folder: Path) -> list[Path]:
        """Draw forecasts, the truth and seasonal-naive forecasts; and the errors by step."""
        windows, horizon, number = self._dataset(self.drawn), self.data.horizon, 0
        shown = windows.apart(12)
        ways: dict[str, dict[int, Any]] = {"model": {}, "seasonal naive": {}}
        bands = dict[int, Any]()
        sums = {name: torch.zeros(len(self.columns), horizon) for name in ways}
        for quantiles, (past, *_, future) in outputs:
            forecasts = self.median(quantiles)
            naive = seasonal_naive(past, horizon, self.data.season)
            here = {i - number: row for i, row in shown.items() if 0 <= i - number < len(future)}
            for name, made in zip(ways, (forecasts.float(), naive), strict=True):
                sums[name] += (made - future).abs().sum(dim=0)
                ways[name] |= {row: made[i].numpy() for i, row in here.items()}
            if self.levels:
                bands |= {row: quantiles[i].float().numpy() for i, row in here.items()}
            number += len(future)
        series, paths = windows.series[0], [folder / "forecasts.png", folder / "errors.png"]
        given = series.times, series.values, ways, self.columns, paths[0]
        plots.forecasts(*given, bands, self.levels)
        means = {name: (total / number).numpy() for name, total in sums.items()}
        plots.errors(means, self.columns, paths[1])
        return paths

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Predict for files, for all files below folders, and for standard input (`-`).

        `map` continues with the next file after an error.
        """
        paths = (None if name == "-" else locate(name) for name in inputs)
        files = (f for p in paths for f in (find_tables(p) if p and p.is_dir() else [p]))
        return map(partial(self._predict, model), files)

    def _predict(self, model: nn.Module, file: Path | None) -> dict[str, Any]:
        horizon = self.data.horizon
        series = read_series(file, self.data, self.columns, self.info["time"], horizon)
        check_step(series, self.step)
        if len(series.times) < self.data.context:
            short = f"{len(series.times)} rows are too few; the model needs {self.data.context}"
            raise UserError(f"{series.name}: {short}")
        start = len(series.times) - self.data.context
        parts = series.values[:, start:], series.known[:, start:]
        batch = tuple(torch.from_numpy(part[None]).to(self.device) for part in parts)
        values = self.forward(model, batch)[0]
        times, form = series.later(range(1, horizon + 1)), self.data.time_format
        return {
            "file": series.name,
            "time": [clock.write(time, series.last, form) for time in times],
            "forecast": dict(zip(self.columns, self.median(values).tolist(), strict=True)),
            **({"quantiles": self._quantiles(values)} if self.levels else {}),
        }

    def _quantiles(self, values: Tensor) -> dict[str, dict[str, list[float]]]:
        """Quantiles (C, horizon, levels) by series and level."""
        names = [f"{level:g}" for level in self.levels]
        rows = (dict(zip(names, each.T.tolist(), strict=True)) for each in values)
        return dict(zip(self.columns, rows, strict=True))

    def sentence(self, prediction: dict[str, Any]) -> str:
        columns = prediction["forecast"]
        if quantiles := prediction.get("quantiles"):
            columns = {f"{n} {q}": v for n, each in quantiles.items() for q, v in each.items()}
        rows = [["time", *columns]]
        steps = zip(prediction["time"], *columns.values(), strict=True)
        rows += [[time, *(f"{value:#.6g}" for value in values)] for time, *values in steps]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        cells = ["  ".join(map(str.rjust, row, widths)) for row in rows]
        return "\n".join([f"{prediction['file']}:", *cells])


def moments(rows: Sequence[Tensor], scaled: int | None = None) -> dict[str, list[float]]:
    """Mean and deviation of each row (R, T) over all files; 0 and 1 after the first `scaled`."""
    values = torch.cat([*rows], dim=1).double()
    mean, std = values.mean(dim=1), values.std(dim=1)
    std = torch.where(std > 0, std, 1.0)  # for a series that never changes
    if scaled is not None:
        mean[scaled:], std[scaled:] = 0, 1
    return {"mean": mean.tolist(), "std": std.tolist()}
