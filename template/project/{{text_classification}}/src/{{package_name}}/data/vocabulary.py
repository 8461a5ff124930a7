"""The vocabulary: converts texts to numbers and back."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError

PADDING, UNKNOWN = 0, 1  # the tokens of the vocabulary are numbered from 2


class Vocabulary:
    """The known tokens: characters, or words (letters and digits, or one other sign)."""

    def __init__(self, unit: str, lowercase: bool, tokens: Sequence[str]) -> None:
        self.unit, self.lowercase, self.tokens = unit, lowercase, list(tokens)
        self._ids = {token: number for number, token in enumerate(tokens, UNKNOWN + 1)}

    @classmethod
    def fit(cls, texts: Iterable[str], unit: str, lowercase: bool, min_count: int) -> "Vocabulary":
        """A vocabulary of the tokens that occur `min_count` times in `texts`, frequent ones first.

        Raises UserError if there are none.
        """
        empty = cls(unit, lowercase, [])
        counts = Counter(token for text in texts for token in empty.cut(text))
        tokens = [token for token, count in counts.items() if count >= min_count]
        if not tokens:
            raise UserError(f"data.min_count: no token occurs {min_count} times; lower it")
        return cls(unit, lowercase, sorted(tokens, key=lambda token: (-counts[token], token)))

    def __len__(self) -> int:
        return UNKNOWN + 1 + len(self.tokens)

    def state(self) -> dict[str, Any]:
        """Plain values to create it again: `Vocabulary(**state)`."""
        return {"unit": self.unit, "lowercase": self.lowercase, "tokens": self.tokens}

    def cut(self, text: str) -> list[str]:
        """The tokens of a text, known or not.

        Characters start and end with a space, so that the first and last words look like others.
        """
        text = text.lower() if self.lowercase else text
        return re.findall(r"\w+|[^\w\s]", text) if self.unit == "words" else list(f" {text} ")

    def encode(self, text: str, max_length: int) -> Tensor:
        """The numbers of the first `max_length` tokens, int64 (L,)."""
        return torch.tensor(self.numbers(text, max_length), dtype=torch.int64)

    def numbers(self, text: str, max_length: int) -> list[int]:
        """Like `encode`, but returns a list."""
        return [self._ids.get(token, UNKNOWN) for token in self.cut(text)[:max_length]]

    def decode(self, ids: Tensor) -> str:
        """The text of numbers (L,), with `�` for unknown tokens; padding is skipped."""
        known = {PADDING: "", UNKNOWN: "�"}
        tokens = [known[i] if i in known else self.tokens[i - 2] for i in ids.tolist()]
        return (" " if self.unit == "words" else "").join(tokens).strip()
