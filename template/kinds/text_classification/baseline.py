"""Print the accuracy to beat on the sample's test split, as JSON: that of the better of two simple classifiers.

One always predicts the largest class of the training data. The other is naive Bayes on trigrams of characters, with
their frequencies in the training texts of a class as probabilities (and 0.1 added to each count).
"""

import json
from pathlib import Path

import numpy as np
from my_project.data.dataset import read_folder
from my_project.data.folders import find_classes
from my_project.data.splits import unpack_sample


def trigrams(text: str) -> list[str]:
    text = f" {text.lower()} "
    return [text[i : i + 3] for i in range(len(text) - 2)]


data = Path("data")
unpack_sample(data)
classes = find_classes(data / "train")
train, test = (read_folder(data / split, classes) for split in ("train", "test"))
truth = np.array([target for _, target in test])

largest = np.bincount([target for _, target in train]).argmax()
scores = {"largest class": float((truth == largest).mean())}

known = {gram: i for i, gram in enumerate(sorted({g for text, _ in train for g in trigrams(text)}))}
counts = np.full((len(classes), len(known)), 0.1)
for text, target in train:
    np.add.at(counts[target], [known[gram] for gram in trigrams(text)], 1)
prior = np.log(np.bincount([target for _, target in train]) / len(train))
shares = np.log(counts / counts.sum(axis=1, keepdims=True))
taken = [(prior + shares[:, [known[g] for g in trigrams(text) if g in known]].sum(axis=1)).argmax() for text, _ in test]
scores["naive Bayes on character trigrams"] = float((truth == taken).mean())

name = max(scores, key=scores.__getitem__)
print(json.dumps({"name": name, "metric": "acc", "value": round(scores[name], 4)}))
