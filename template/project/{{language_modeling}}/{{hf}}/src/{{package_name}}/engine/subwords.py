"""Documents as the subwords of a pretrained tokenizer, in place of characters or bytes."""

import json
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UserError
from .transformers import NAME, library, read_tokenizer

SPACE = "\u2581"  # SentencePiece's sign for a space


def byte_signs() -> dict[str, int]:
    """The byte that each sign of a byte-level vocabulary stands for (GPT-2: Radford et al., 2019).

    Bytes that Latin-1 draws stand for themselves; for the others, signs from U+0100 on.
    """
    drawn = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in drawn]
    return {chr(byte): byte for byte in drawn} | {chr(256 + i): b for i, b in enumerate(others)}


class Subwords:
    """A tokenizer with the methods of `Vocabulary`; its special token for the end is `end`."""

    bytes, unit = False, "subword"

    def __init__(self, tokenizer: str, end: str) -> None:
        self.json, self.end_token = tokenizer, end
        self.tokenizer: Any = library("tokenizers").Tokenizer.from_str(tokenizer)
        self.end = self.tokenizer.token_to_id(end)
        about = json.loads(tokenizer)
        unknown = self.tokenizer.token_to_id(about["model"].get("unk_token") or end)
        self.unknown = None if unknown == self.end else unknown
        size = max(self.tokenizer.get_vocab().values()) + 1
        self.dtype = np.min_scalar_type(size - 1)
        parts, table = [b""] * size, byte_signs()
        by_bytes = "ByteLevel" in json.dumps([about["decoder"], about["pre_tokenizer"]])
        for token, number in self.tokenizer.get_vocab().items():
            if by_bytes and table.keys() >= {*token}:
                parts[number] = bytes(table[sign] for sign in token)
            elif code := re.fullmatch("<0x([0-9A-F]{2})>", token):  # a byte of SentencePiece's
                parts[number] = bytes([int(code[1], 16)])
            else:
                parts[number] = token.replace(SPACE, " ").encode()
        special = {each["id"] for each in about["added_tokens"] if each["special"]}
        begins = [sum(byte & 0xC0 != 0x80 for byte in part) for part in parts]
        begins = [1 if number in special else count for number, count in enumerate(begins)]
        self.begins = torch.tensor(begins)  # how many characters each begins
        self.signs = [part.decode(errors="replace") for part in parts]
        self.signs[self.end] = ""

    @classmethod
    def read(cls, name: Any) -> "Subwords":
        """The tokenizer of a folder or of a model on the Hub; or UserError."""
        tokenizer, end = read_tokenizer(name)
        if end is None:
            raise UserError(f"{NAME}: {name}: its tokenizer has no token for the end of a text")
        return cls(tokenizer, end)

    def __len__(self) -> int:
        return len(self.signs)

    def state(self) -> dict[str, Any]:
        """Plain values to make it again from: `Subwords(**state)`."""
        return {"tokenizer": self.json, "end": self.end_token}

    def encode(self, text: str) -> NDArray[np.unsignedinteger]:
        """The tokens of a text, (length,), without special ones."""
        return np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, self.dtype)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens, without special ones."""
        return self.tokenizer.decode(list(tokens))
