"""Utterances: one JSON file each, with steps of 12 numbers and the number of the speaker."""

import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from ..errors import UserError

Sample = tuple[Tensor, Tensor]


def read_sample(path: Path) -> Sample:
    """Steps, float32 (T, 12), and the speaker, int64 (), -1 where there is none."""
    try:
        content = json.loads(path.read_text("utf-8"))
        steps = torch.tensor(content["steps"], dtype=torch.float32)
        if steps.dim() != 2 or steps.shape[1] != 12 or not steps.isfinite().all():
            raise ValueError("steps should be lists of 12 finite numbers")
        return steps, torch.tensor(int(content.get("speaker", -1)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: not an utterance ({error}); fix or remove it") from error


def find_files(path: Path) -> list[Path]:
    """The JSON files of a folder, sorted, or the one file itself."""
    files = sorted(path.glob("[!.]*.json")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: holds no .json files")
    return files


class Utterances(Dataset[Sample]):
    """One split, in memory."""

    def __init__(self, folder: Path) -> None:
        self.samples = [read_sample(file) for file in find_files(folder)]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def stack(samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    """Steps (N, T, 12), a mask of the real ones (N, T), and speakers (N,)."""
    steps = pad_sequence([steps for steps, _ in samples], batch_first=True)
    real = pad_sequence([torch.ones(len(steps)) for steps, _ in samples], batch_first=True)
    return steps, real, torch.stack([speaker for _, speaker in samples])
