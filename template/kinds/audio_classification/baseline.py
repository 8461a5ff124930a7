"""Print the accuracy to beat on the sample's test split, as JSON: that of the better of two simple classifiers.

    PYTHONPATH=src python baseline.py

One always predicts the largest class of the training data. The other averages each clip's log-mel spectrogram over
time, and predicts the class whose mean is nearest.
"""

import json
from pathlib import Path

import numpy as np
from my_project.data.dataset import ClassFolder, stack
from my_project.data.splits import unpack_sample
from my_project.visualization.plots import spectrograms

RATE = 8000


def main() -> None:
    unpack_sample(Path("data"))
    spectra, targets = {}, {}
    for split in ("train", "test"):
        dataset = ClassFolder(Path("data", split), None, RATE)
        sounds, labels = stack([dataset[i] for i in range(len(dataset))], length=RATE)
        spectra[split], targets[split] = spectrograms(sounds, RATE).mean(axis=2), labels.numpy()
    classes = range(len(dataset.classes))
    largest = np.bincount(targets["train"]).argmax()
    means = np.stack([spectra["train"][targets["train"] == c].mean(axis=0) for c in classes])
    nearest = np.linalg.norm(spectra["test"][:, None] - means, axis=2).argmin(axis=1)
    guesses = {"majority class": np.full_like(nearest, largest), "nearest mean spectrum": nearest}
    shares = {name: float((guess == targets["test"]).mean()) for name, guess in guesses.items()}
    name = max(shares, key=shares.__getitem__)
    print(json.dumps({"name": name, "metric": "acc", "value": shares[name]}))


if __name__ == "__main__":
    main()
