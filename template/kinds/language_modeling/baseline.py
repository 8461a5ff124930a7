"""Print the bits per character to beat on the sample's test split, as JSON: those of a trigram model.

It predicts each character from the two before it, interpolated with shorter contexts by the number of different
characters that followed the longer one (Witten and Bell, 1991). In a project: `PYTHONPATH=src python baseline.py`.
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
tested = test.tokens[: len(test) * data.context + 1].tolist()  # the tokens that a model is tested on


def bits(order: int) -> float:
    """Return the bits per character of `test`, predicted from `order` - 1 characters by counts of `train`."""
    counts = [defaultdict[tuple[int, ...], Counter[int]](Counter) for _ in range(order)]
    for length, table in enumerate(counts):
        for place in range(length, len(seen)):
            table[tuple(seen[place - length : place])][seen[place]] += 1
    total = 0.0
    for place in range(1, len(tested)):
        share = 1 / len(vocabulary)
        for length, table in enumerate(counts[: place + 1]):
            after = table.get(tuple(tested[place - length : place]), Counter())
            kinds = max(1, len(after))
            share = (after[tested[place]] + kinds * share) / (after.total() + kinds)
        total -= math.log2(share)
    return total / (len(tested) - 1)


value, unigram = bits(3), bits(1)
print(json.dumps({"name": "trigram", "metric": "bpc", "less": True, "value": value, "unigram": unigram}))
