"""The samples that `sweep --folds` divides: points."""

from collections.abc import Iterator
from pathlib import Path

from .dataset import find_files, read_file
from .options import Data


def samples(folder: Path, options: Data) -> Iterator[tuple[object, str | None, str]]:
    """Yield the key, the class and the line of each point of train/ and valid/.

    Samples with one key are always in one fold: here, equal lines. The class may be None.

    Yours: as key, yield what samples that belong together share (a patient, a day, a machine). If
    samples are files, yield a list of paths instead of the line, and remove `write`.
    """
    for split in ("train", "valid"):
        for file in find_files(folder / split):
            lines = file.read_text("utf-8-sig").splitlines()
            for number, (_, target) in read_file(file).items():
                yield lines[number - 1], str(int(target)), lines[number - 1]


def write(lines: list[str], split: Path) -> None:
    """Write points to train/ or valid/ of a fold.

    Yours: write samples that are not files of their own.
    """
    split.mkdir(parents=True)
    (split / "points.csv").write_text("\n".join(["x,y,class", *lines]) + "\n", "utf-8")
