"""Data utils: split folders of sounds into train/valid/test, check a data folder."""

import statistics
from collections import Counter
from pathlib import Path

from ..config import load, locate
from ..errors import UserError
from ..options import Config
from . import folders
from .dataset import SUFFIXES, find_sounds
from .options import Data
from .wav import need_soundfile, read


def split_folder(
    source: Path, folder: Path, valid: float = 0.1, test: float = 0.1, seed: int = 0
) -> dict[str, int]:
    """Copy a folder of class folders into `folder`/train, valid and test, class by class.

    `valid` and `test` are shares of each class, at least one file. Returns the number of files
    in each split. Raises UserError, before it copies any, if the files can't be split.
    """
    return folders.split(source, folder, valid, test, seed, SUFFIXES)


def check_folder(
    folder: Path, options: Data | None = None, settings: list[str] | None = None
) -> tuple[str, list[str]]:
    """Read every sound: a table of sounds per split and class, and a list of problems.

    Problems are unreadable and silent files, several sample rates without `data.resample`, empty or
    unknown classes, and sounds that are in two splits. Lines below the table describe the sounds.
    `options` are those of configs/train if not given; `settings` receives overrides of them that
    fit the data better, such as `data.seconds=2.5`.
    """
    files = list(locate("configs", inside=True).glob("train.*"))
    options = options or (load(Config, files).data if files else Data())
    rates, lengths, first = Counter[int](), list[float](), dict[int, Path]()

    def check(path: Path) -> bytes:
        samples, rate = read(path)
        first.setdefault(rate, path)
        rates[rate] += 1
        lengths.append(len(samples) / rate)
        if samples.max() - samples.min() < 1e-3:
            raise UserError(f"{path}: is silent; record it again or remove it")
        return samples.numpy().tobytes()  # a copy may have another header or format

    need_soundfile(find_sounds(folder))
    table, problems = folders.check(folder, SUFFIXES, check, "sounds")
    if not lengths:
        return table, problems
    better, median = list[str](), statistics.median(lengths)
    counted = ", ".join(f"{count} of {rate:,} Hz" for rate, count in rates.most_common(4))
    spread = f"median {median:.2f} s, shortest {min(lengths):.2f} s, longest {max(lengths):.2f} s"
    table += f"\nsounds: {counted}; {spread}"
    if len(rates) > 1 and not options.resample:
        found = ", ".join(f"{rate} in {path}" for rate, path in sorted(first.items()))
        ways = "convert them, or set data.resample=true"
        problems.append(f"{folder}: sounds of several sample rates: {found}; {ways}")
        better.append("data.resample=true")
    elif options.sample_rate not in rates and not options.resample:
        (rate,) = rates
        fits = 1000 <= rate <= 192_000
        better.append(f"data.sample_rate={rate}" if fits else "data.resample=true")
        table += f"\ndata.sample_rate={options.sample_rate} refuses them; set {better[-1]}"
    longer = [length for length in lengths if length > options.seconds]
    best = min(10.0, statistics.median(longer or lengths))
    better += [f"data.seconds={best:.1f}"] if 2 * len(longer) > len(lengths) else []
    if longer:
        table += f"\n{len(longer)} of {len(lengths)} sounds are longer than data.seconds="
        table += f"{options.seconds:g} (median {statistics.median(longer):.1f} s), "
        table += f"so training uses a part of each; set data.seconds={best:.1f} to use more"
    elif max(lengths) < options.seconds / 2:
        better.append(f"data.seconds={max(0.1, *lengths):.1f}")
        table += f"\ndata.seconds={options.seconds:g} is mostly silence; set {better[-1]}"
    if settings is not None:
        settings += better
    return table, problems
