"""Texts as the subwords of a pretrained tokenizer, in place of `data/vocabulary.py`."""

from typing import Any

import torch
from torch import Tensor

from .transformers import library, read_tokenizer

PADDING = 0  # a token is its number in the tokenizer, plus 1


class Subwords:
    """A tokenizer with the methods of `Vocabulary`; it knows upper and lower case itself."""

    unit = "subwords"

    def __init__(self, unit: str, tokenizer: str) -> None:
        self.json = tokenizer
        self.tokenizer: Any = library("tokenizers").Tokenizer.from_str(tokenizer)
        self._longest = 0

    @classmethod
    def read(cls, name: Any) -> "Subwords":
        """The tokenizer of a folder or of a model on the Hub; or UserError."""
        return cls(cls.unit, read_tokenizer(name)[0])

    def __len__(self) -> int:
        return 1 + self.tokenizer.get_vocab_size()

    def state(self) -> dict[str, Any]:
        """Plain values to make it again from: `Subwords(**state)`."""
        return {"unit": self.unit, "tokenizer": self.json}

    def encode(self, text: str, max_length: int) -> Tensor:
        """The numbers of the first `max_length` tokens, int64 (L,)."""
        return torch.tensor(self.numbers(text, max_length), dtype=torch.int64)

    def numbers(self, text: str, max_length: int) -> list[int]:
        """The same as a list; special tokens are among them, those at the end too."""
        if max_length != self._longest:
            self.tokenizer.enable_truncation(max_length)
            self._longest = max_length
        return [number + 1 for number in self.tokenizer.encode(text).ids]

    def decode(self, ids: Tensor) -> str:
        """The text of numbers (L,), without special tokens and padding."""
        return self.tokenizer.decode([number - 1 for number in ids.tolist() if number != PADDING])
