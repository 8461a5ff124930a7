"""Splits of a data folder: train/, valid/ and test/; and the sample data to start with."""

import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError

SPLITS = ("train", "valid", "test")


def unpack_sample(folder: Path) -> bool:
    """Unpack `folder`/sample.zip unless train/ exists; returns whether it did. Raises UserError."""
    archive = folder / "sample.zip"
    if (folder / "train").is_dir():
        return False
    if not archive.is_file():
        raise UserError(f"{folder}: holds neither train/ nor sample.zip; see data/README.md")
    # Unpack to a temporary folder, move train/ last: a kill leaves nothing that looks complete.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as aside:
        try:
            with zipfile.ZipFile(archive) as file:
                if sum(each.file_size for each in file.infolist()) > 2e9:
                    raise ValueError("its files have more than 2 GB; unpack it yourself")
                for name in file.namelist():
                    if name.startswith("/") or ".." in name.split("/") or {*"\\:"} & {*name}:
                        raise ValueError(f"unsafe path {name!r}")
                file.extractall(aside)
            if not (Path(aside) / "train").is_dir():
                raise ValueError("it has no train/")
        except Exception as error:  # zipfile raises many types
            raise UserError(f"{archive}: not unpacked: {error}; see data/README.md") from error
        for path in sorted(Path(aside).iterdir(), key=lambda path: path.name == "train"):
            if not (folder / path.name).exists():
                path.rename(folder / path.name)
    print(f"{folder}: had no train/ yet; sample.zip is unpacked there", file=sys.stderr)
    return True


def check_new(folder: Path, valid: float, test: float) -> None:
    """Raise UserError if the fractions leave nothing to train, or a split already exists."""
    if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
        raise UserError(f"--valid {valid} --test {test}: should be above 0, and below 1 together")
    if there := [folder / split for split in SPLITS if (folder / split).exists()]:
        raise UserError(f"{there[0]}: already exists; move it away first")


def sizes(count: int, valid: float, test: float, what: str) -> dict[str, int]:
    """The number of samples of each split, at least one; UserError, naming `what`, for too few."""
    n_valid, n_test = (max(1, round(fraction * count)) for fraction in (valid, test))
    if count <= n_valid + n_test:
        raise UserError(f"{what}: {count} are too few to split; add some")
    return {"train": count - n_valid - n_test, "valid": n_valid, "test": n_test}


def draw(count: int, valid: float, test: float, seed: int, what: str) -> dict[str, list[int]]:
    """The indices of a random split of `count` samples, sorted; raises UserError as `sizes`."""
    counts = sizes(count, valid, test, what)
    order = np.random.default_rng(seed).permutation(count)
    ends = np.cumsum([counts["valid"], counts["test"]])
    parts = dict(zip(("valid", "test", "train"), np.split(order, ends), strict=True))
    return {split: sorted(parts[split].tolist()) for split in SPLITS}


def left_out(folder: Path, suffixes: Sequence[str], part: str = "") -> str:
    """A line that counts files below `<split>/part` with other extensions; empty without any."""
    files = (path for split in SPLITS for path in (folder / split / part).rglob("[!.]*"))
    others = (path for path in files if path.suffix.lower() not in suffixes and path.is_file())
    counts = Counter(path.suffix.lower() or "without an extension" for path in others)
    found = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())
    known = f"the formats are {', '.join(suffixes)}"
    return f"\n{part or 'files'} not read: {found}; {known}" if found else ""


def table(counts: Mapping[str, Counter[str]], things: str = "") -> str:
    """A table as text: a row per name (9 of more than 12), a column per split; and few `things`."""
    names = list(dict.fromkeys(name for split in SPLITS for name in counts[split]))
    shown = names if len(names) <= 12 else names[:9]
    width = max([16, *(len(name) + 1 for name in shown)])
    rows: list[list[object]] = [["", *SPLITS]]
    rows += [[name, *(counts[split][name] for split in SPLITS)] for name in shown]
    rows += [[f"({len(names) - len(shown)} more)"]] if len(names) > len(shown) else []
    rows.append(["all", *(counts[split].total() for split in SPLITS)])
    text = "\n".join(f"{row[0]:{width}}" + "".join(f"{n:>8}" for n in row[1:]) for row in rows)
    (_, most), *_ = ranked = counts["train"].most_common() or [("", 0)]
    few = [f"{name} {count}" for name, count in ranked[::-1] if count < max(10, most / 10)]
    rare = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
    return text + f"\nfew {things} to train on: {rare}; at most {most}" * bool(few and things)
