"""The figure to beat on the sample's test split: what the two characters before tell of the next.

A trigram that mixes in shorter contexts by how many different characters followed the longer one
(Witten and Bell, 1991). Run within a project: `PYTHONPATH=src python baseline.py`.
"""

import json
import math
from collections import Counter, defaultdict
from pathlib import Path

from my_project.config import load
from my_project.data.dataset import Vocabulary, Windows, find_texts, read_text
from my_project.data.splits import unpack_sample
from my_project.options import Config

data = load(Config, Path("configs").glob("train.*")).data
folder = Path(data.folder)
unpack_sample(folder)
texts = map(read_text, find_texts(folder / "train"))
vocabulary = Vocabulary("".join(sorted(set[str]().union(*texts))))
train, test = (Windows(folder / split, vocabulary, data.context) for split in ("train", "test"))
seen = train.tokens.tolist()
asked = test.tokens[: len(test) * data.context + 1].tolist()  # what the model is asked, too


def bits(order: int) -> float:
    """The mean bits of a character of `test`, by counts of `train` with `order` - 1 before it."""
    counts = [defaultdict[tuple[int, ...], Counter[int]](Counter) for _ in range(order)]
    for length, table in enumerate(counts):
        for place in range(length, len(seen)):
            table[tuple(seen[place - length : place])][seen[place]] += 1
    total = 0.0
    for place in range(1, len(asked)):
        share = 1 / len(vocabulary)
        for length, table in enumerate(counts[: place + 1]):
            after = table.get(tuple(asked[place - length : place]), Counter())
            kinds = max(1, len(after))
            share = (after[asked[place]] + kinds * share) / (after.total() + kinds)
        total -= math.log2(share)
    return total / (len(asked) - 1)


value, unigram = bits(3), bits(1)
print(json.dumps({"name": "trigram", "metric": "bpc", "less": True, "value": value, "unigram": unigram}))
