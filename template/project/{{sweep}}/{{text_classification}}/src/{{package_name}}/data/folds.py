"""The samples that `sweep --folds` divides: texts, in a folder per class."""

from collections.abc import Iterator
from pathlib import Path

from .dataset import SUFFIXES, read_texts
from .folders import find_classes, find_files
from .options import Data

OPTIONS = ("text",)
"""The options of `data` that decide what a sample is."""

Text = tuple[Path, str]
"""The path of the text's file in a fold, and the text."""


def samples(folder: Path, options: Data) -> Iterator[tuple[object, str, Text]]:
    """Yield the key, the class and the text of each sample of train/ and valid/.

    Samples with one key are always in one fold: here, equal texts. To keep more together, such as
    the texts of an author, return what they share instead.
    """
    for split in ("train", "valid"):
        for name in find_classes(folder / split):
            for file in find_files(folder / split / name, SUFFIXES):
                place = Path(name, split, file.relative_to(folder / split / name))
                for text in read_texts(file, options.text == "file"):
                    yield text, name, (place, text)


def write(texts: list[Text], split: Path) -> None:
    """Write texts, in their order, to train/ or valid/ of a fold."""
    files = dict[Path, list[str]]()
    for place, text in texts:
        files.setdefault(split / place, []).append(text)
    for target, lines in files.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(f"{text}\n" for text in lines), "utf-8", newline="\n")
