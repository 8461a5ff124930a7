"""Reads sounds from class folders: `<folder>/<class>/*.wav`, or other formats."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..errors import UserError
from .folders import find_classes, find_files, find_samples
from .wav import OTHER, WAV, need_soundfile, read, refuse_long, resample

SUFFIXES = WAV + OTHER
MOST = 10  # windows of a sound: limits the memory that a long one takes
LARGEST = 10_000_000  # weights of filters; from 44,100 to 16,000 Hz takes 70,560


def find_sounds(folder: Path) -> list[Path]:
    """All sound files below `folder`, sorted; hidden ones are skipped."""
    return find_files(folder, SUFFIXES)


def read_sound(path: Path, sample_rate: int, convert: bool = False) -> Tensor:
    """Read a file as float32 (T,) from -1 to 1: the mean of its channels, in full length.

    Raises UserError if it can't be read, or has another rate and `convert` is false.
    """
    samples, rate = read(path)
    if rate == sample_rate:
        return samples
    if not convert:
        ways = f"set data.resample=true, or data.sample_rate={rate} if all files have that"
        raise UserError(f"{path}: {rate} samples a second instead of {sample_rate}; {ways}")
    weights = rate * sample_rate / math.gcd(rate, sample_rate) ** 2  # of all filters of `resample`
    if weights > LARGEST or sample_rate > 100 * rate:  # it may exceed the memory
        what = f"{rate} samples a second can't be converted to {sample_rate}"
        raise UserError(f"{path}: {what}; use ffmpeg -i FILE -ar {sample_rate} OUT.wav")
    refuse_long(path, len(samples) * sample_rate // rate)
    return resample(samples, rate, sample_rate)


def fit(samples: Tensor, length: int) -> Tensor:
    """The middle `length` of samples (T,); fewer samples are padded with silence on both sides."""
    spare = length - len(samples)
    left = spare // 2  # negative padding crops
    return F.pad(samples, (left, spare - left))


def windows(samples: Tensor, length: int) -> Tensor:
    """At most MOST windows (W, length), evenly spaced from the start to the end of samples (T,).

    They cover all of up to MOST * `length` samples; a single window is that of `fit`.
    """
    count = min(MOST, max(1, math.ceil(len(samples) / length)))
    if count == 1:
        return fit(samples, length)[None]
    spare = len(samples) - length
    return torch.stack([samples[n * spare // (count - 1) :][:length] for n in range(count)])


class ClassFolder(Dataset[tuple[Tensor, int]]):
    """One split: sounds as `read_sound` returns them, and the index of their class in `classes`.

    Their lengths differ, so transforms see all of a sound; `stack` makes them equally long.
    Raises UserError if a folder is missing or empty, or not among `classes` (default: any folder),
    or if files need the package soundfile and it is not installed.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str] | None,
        sample_rate: int,
        convert: bool = False,
    ):
        self.classes = list(classes or find_classes(folder))
        self.sample_rate, self.convert = sample_rate, convert
        self.samples = find_samples(folder, self.classes, SUFFIXES)
        need_soundfile([path for path, _ in self.samples])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, target = self.samples[index]
        return read_sound(path, self.sample_rate, self.convert), target


def stack(samples: Sequence[tuple[Tensor, int]], length: int) -> tuple[Tensor, Tensor]:
    """A batch: sounds float32 (N, length), classes int64 (N,)."""
    sounds = torch.stack([fit(sound, length) for sound, _ in samples])
    return sounds, torch.tensor([target for _, target in samples])


def stack_windows(samples: Sequence[tuple[Tensor, int]], length: int) -> tuple[Tensor, ...]:
    """Like `stack`, but if a sound is longer than `length`, a batch of the `windows` of each sound.

    It has sounds (N, W, length), classes (N,), and bool (N, W), which is false for padding.
    """
    cut = [windows(sound, length) for sound, _ in samples]
    most = max(map(len, cut))
    if most == 1:
        return stack(samples, length)
    sounds = torch.stack([F.pad(each, (0, 0, 0, most - len(each))) for each in cut])
    present = torch.tensor([[n < len(each) for n in range(most)] for each in cut])
    return sounds, torch.tensor([target for _, target in samples]), present
