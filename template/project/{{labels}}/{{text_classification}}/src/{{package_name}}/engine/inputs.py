"""How texts that a table lists are read, by the owner's functions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, int32

from ..components import extra
from ..data.dataset import read_lines
from ..data.vocabulary import Vocabulary
from ..errors import UserError
from ..options import Config

COLUMNS = ("file", "text")  # that may name a sample


def item(source: str | Path) -> str:
    """The text of a cell or a file, in one line, as the owner's dataset reads it."""
    content = source.encode() if isinstance(source, str) else source.read_bytes()
    found = list(read_lines(content.splitlines()))
    texts = [part for _, part, _ in found if part]
    for number, part, problem in found:
        if problem and (part or not problem.startswith("is empty") or not texts):
            raise ValueError(f"the text, line {number}: {problem}")
    if not texts:
        raise ValueError("the text is empty; remove the line")
    return " ".join(texts)


def fit(config: Config, texts: Sequence[str], files: bool) -> dict[str, Any]:
    """The vocabulary of the training texts."""
    data: Any = config.data
    if files and getattr(data, "text", "file") != "file":
        raise UserError("data.text=line: the table has a column `file`; set data.text=file")
    if data.tokens == "subwords":
        kind = extra("transformers", "data.tokens=subwords: needs").vocabulary()
        return {"vocabulary": kind.read(config.model.args.get("name")).state()}
    found = Vocabulary.fit(texts, data.tokens, data.lowercase, data.min_count)
    return {"vocabulary": found.state()}


def target(values: Tensor) -> list[float]:
    """A target (C,) in the form of which the loader makes batches."""
    return values.tolist()


class Reader:
    """Gives a text by its number, as numbers of tokens; int32, since all are kept."""

    def __init__(self, task: Any, texts: Sequence[str]) -> None:
        longest = task.data.max_length
        self.ids = [task.vocabulary.encode(text, longest).to(int32) for text in texts]

    def __call__(self, index: int) -> Tensor:
        return self.ids[index].long()
