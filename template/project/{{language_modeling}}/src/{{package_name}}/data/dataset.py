"""Reads text files, converts them to tokens, and cuts the tokens into windows."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError

UNKNOWN, END = 0, 1
"""The first two tokens: an unknown character; the boundary between two documents."""

PART = 1 << 20
"""Characters to encode at once, because encoding takes several times their memory."""

MOST = 100
"""The maximum number of problems that an error lists."""

Sample = tuple[Tensor, Tensor]
"""Tokens, and the token that follows each of them; both int64 (length,)."""


def find_texts(folder: Path) -> list[Path]:
    """All .txt files below `folder`, sorted, without hidden ones; UserError if there are none.

    Each file is a document.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; data/README.md shows what belongs there")
    found = (path for path in folder.rglob("*") if path.suffix.lower() == ".txt")
    files = sorted(path for path in found if path.name[0] != "." and path.is_file())
    if not files:
        raise UserError(f"{folder}: holds no .txt files; put a document into each")
    return files


def read_text(path: Path) -> str:
    """Read a document; UserError, with the line, if it is missing, empty, not UTF-8 or not text."""
    try:
        return decode(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path}: not read ({error.strerror})") from error


def read_folder(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the documents below `folder`; after the last, UserError with all problems."""
    problems = list[str]()
    for path in find_texts(folder):
        try:
            yield path, read_text(path)
        except UserError as error:
            problems.append(str(error))
    if problems:
        more = [f"and {len(problems) - MOST} more"] if len(problems) > MOST else []
        raise UserError("\n".join([*problems[:MOST], *more]))


def decode(content: bytes, name: str) -> str:
    """Decode UTF-8, with \\n for any line end; the errors are those of `read_text`, for `name`."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{content[error.start]:02x}"
        raise UserError(f"{name}, line {line}: not UTF-8 ({byte}); save it as UTF-8") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{name}, line {line}: a NUL character; is this a text? Fix or remove it")
    if not text.strip():
        raise UserError(f"{name}: the text is empty; remove it")
    return text.replace("\r\n", "\n").replace("\r", "\n")


class Vocabulary:
    """Maps characters to tokens and back or, if `characters` is None, bytes of UTF-8."""

    unknown, end = UNKNOWN, END

    def __init__(self, characters: str | None) -> None:
        self.bytes = characters is None
        self.unit = "byte" if self.bytes else "character"
        signs = characters or "".join(map(chr, range(256)))  # each byte as a character
        self.signs = ["\ufffd", "", *signs]
        self.dtype = np.min_scalar_type(len(self) - 1)  # tokens take one or two bytes
        codes = np.frombuffer(signs.encode("utf-32-le"), np.uint32)
        self.numbers = np.full(int(codes.max()) + 2, UNKNOWN, self.dtype)  # tokens by code point
        self.numbers[codes] = np.arange(2, len(self))
        self.begins = torch.ones(len(self), dtype=torch.int64)  # characters that start here
        if self.bytes:
            self.begins[2 + 0x80 : 2 + 0xC0] = 0  # bytes that continue a character

    def __len__(self) -> int:
        return len(self.signs)

    def encode(self, text: str) -> NDArray[np.unsignedinteger]:
        """The tokens of a text, (length,)."""
        parts = [np.empty(0, self.dtype)]
        for start in range(0, len(text), PART):
            part = text[start : start + PART]
            part = part.encode().decode("latin-1") if self.bytes else part
            codes = np.frombuffer(part.encode("utf-32-le", "surrogatepass"), np.uint32)
            parts.append(self.numbers[np.minimum(codes, len(self.numbers) - 1)])
        return np.concatenate(parts)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens, with a replacement character for unknown ones and invalid UTF-8."""
        text = "".join(self.signs[token] for token in tokens)
        return text.encode("latin-1", "replace").decode("utf-8", "replace") if self.bytes else text


class Windows(Dataset[Sample]):
    """One split: its documents joined, and cut into adjacent windows of `context` tokens.

    Tokens that are left at the end are dropped. With `room`, each sample is that many tokens
    longer, so that transforms can shift it; the last one then continues with the first document.
    Raises UserError if a file can't be used, or all together are shorter than a window.
    """

    def __init__(self, folder: Path, vocabulary: Vocabulary, context: int, room: int = 0) -> None:
        end = np.array([vocabulary.end], vocabulary.dtype)
        parts = [end]
        for _, text in read_folder(folder):
            parts += [vocabulary.encode(text), end]
        self.tokens = np.concatenate(parts)
        self.context, self.room = context, room
        if self.count < context:
            less = f"{self.count} tokens are less than a window of data.context={context}"
            raise UserError(f"{folder}: {less}; add text, or lower it")

    @property
    def count(self) -> int:
        """The number of targets: all tokens except the first."""
        return len(self.tokens) - 1

    def __len__(self) -> int:
        return -(-self.count // self.context) if self.room else self.count // self.context

    def __getitem__(self, index: int) -> Sample:
        start = index * self.context
        places = np.arange(start, start + self.context + self.room) % self.count
        inputs, targets = (self.tokens[each].astype(np.int64) for each in (places, places + 1))
        return torch.from_numpy(inputs), torch.from_numpy(targets)


def stack(samples: Sequence[Sample], context: int) -> Sample:
    """A batch of the first `context` tokens of each sample: two of int64 (N, context)."""
    inputs, targets = zip(*samples, strict=True)
    return torch.stack([t[:context] for t in inputs]), torch.stack([t[:context] for t in targets])
