"""Simple methods of the field on the files of a project's data/: bench/public.py compares the trained model with them.

Each function takes a project, the config of its run, its data set, and a split; it returns the data set's metric on
that split, by name of the method. All methods learn from data/train/ only, with their default options.
"""
# mypy: disable-error-code="import-not-found,import-untyped"

import csv
import json
import math
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from public_sets import Set, import_timm

Figures = dict[str, float]
Array = np.ndarray[Any, Any]


def class_files(folder: Path) -> tuple[list[Path], Array]:
    """The files of class folders, and the class number of each."""
    pairs = [(file, k) for k, room in enumerate(sorted(folder.iterdir())) for file in sorted(room.rglob("*.*"))]
    return [file for file, _ in pairs], np.array([k for _, k in pairs])


def fitted(models: dict[str, Any], train: tuple[Any, Any], test: tuple[Any, Any]) -> Figures:
    """The accuracy of each classifier, after fitting it."""
    return {name: float((model.fit(*train).predict(test[0]) == test[1]).mean()) for name, model in models.items()}


def on_features(name: str, features: dict[str, Array], targets: dict[str, Array], part: str) -> Figures:
    """Logistic regression and a support vector machine, on the features of a pretrained model."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    models = {
        f"logistic regression of {name}'s features": LogisticRegression(max_iter=1000),
        f"SVM on {name}'s features": SVC(),
    }
    pipelines = {name: make_pipeline(StandardScaler(), model) for name, model in models.items()}
    return fitted(pipelines, (features["train"], targets["train"]), (features[part], targets[part]))


def image_classification(project: Path, config: dict[str, Any], data: Set, part: str) -> Figures:
    """Logistic regression of the pixels; a support vector machine on histograms of oriented gradients and colours.

    If the project starts from pretrained weights: also the two on features of these weights.
    """
    from skimage.feature import hog
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    pixels, features, targets, deep = {}, {}, {}, {}
    for split in ("train", part):
        files, targets[split] = class_files(project / "data" / split)
        images = [Image.open(file).convert("RGBA") for file in files]
        papers = [Image.alpha_composite(Image.new("RGBA", image.size, "white"), image) for image in images]
        if data.extra:
            deep[split] = pooled(papers, project / "checkpoints" / "lite0.pth", config["data"]["image_size"])
        colours = [np.asarray(paper.convert("RGB").resize((32, 32))) / 255 for paper in papers]
        pixels[split] = np.stack([colour.ravel() for colour in colours])
        features[split] = np.stack(
            [
                np.concatenate(
                    [
                        hog(colour.mean(axis=2), pixels_per_cell=(8, 8), cells_per_block=(2, 2)),
                        np.histogramdd(colour.reshape(-1, 3), bins=4, range=[(0, 1)] * 3)[0].ravel() / 1024,
                    ]
                )
                for colour in colours
            ]
        )
    regression = {"logistic regression of pixels": LogisticRegression(max_iter=1000)}
    machine = {"SVM on HOG and colours": make_pipeline(StandardScaler(), SVC())}
    found = fitted(regression, (pixels["train"], targets["train"]), (pixels[part], targets[part]))
    found |= fitted(machine, (features["train"], targets["train"]), (features[part], targets[part]))
    return found | (on_features("EfficientNet-Lite0", deep, targets, part) if data.extra else {})


def pooled(images: list[Image.Image], weights: Path, size: int) -> Array:
    """The inputs of the last layer of EfficientNet-Lite0, (N, 1280), for images of the project's size."""
    import torch

    model = import_timm().create_model("tf_efficientnet_lite0", num_classes=0).eval()
    model.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    square = [np.asarray(image.convert("RGB").resize((size, size))) / 127.5 - 1 for image in images]
    pixels: Any = torch.tensor(np.stack(square), dtype=torch.float32).permute(0, 3, 1, 2)
    with torch.inference_mode():
        return torch.cat([model(part) for part in pixels.split(64)]).numpy()


def image_segmentation(project: Path, config: dict[str, Any], data: Set, part: str) -> Figures:
    """The most frequent class; and the most frequent class of each value, grey or colour, in the training images."""
    classes = len((project / "data" / "classes.txt").read_text().split())

    def pixels(split: str) -> tuple[Array, Array]:
        values, masks = [], []
        for file in sorted((project / "data" / split / "images").rglob("*.png")):
            image = np.asarray(Image.open(file))
            values.append((image if image.ndim == 2 else (image // 16).astype(int) @ [256, 16, 1]).ravel())
            masks.append(np.asarray(Image.open(project / "data" / split / "masks" / file.name)).ravel())
        return np.concatenate(values), np.concatenate(masks)

    (values, mask), (new, true) = pixels("train"), pixels(part)
    counts = np.zeros((4096, classes))
    np.add.at(counts, (values, mask), 1)
    counts[counts.sum(axis=1) == 0] = counts.sum(axis=0)
    largest = np.full(true.shape, counts.sum(axis=0).argmax())
    answers = {"largest class": largest, "most frequent class of the pixel's value": counts.argmax(axis=1)[new]}
    figures = {}
    for name, answer in answers.items():
        matrix = np.bincount(true.astype(int) * classes + answer, minlength=classes**2).reshape(classes, classes)
        union = matrix.sum(axis=0) + matrix.sum(axis=1) - matrix.diagonal()
        figures[name] = float((matrix.diagonal() / union).mean())
    return figures


def object_detection(project: Path, config: dict[str, Any], data: Set, part: str) -> Figures:
    """A box of mean size in the middle; boxes around what Otsu's threshold finds, of the class nearest in colour."""
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    def split(name: str) -> tuple[list[Array], list[list[dict[str, Any]]], int]:
        content = json.loads((project / "data" / name / "annotations.json").read_text())
        images = [
            np.asarray(Image.open(project / "data" / name / "images" / image["file_name"]).convert("RGB"), float)
            for image in content["images"]
        ]
        boxes = [[b for b in content["annotations"] if b["image_id"] == i["id"]] for i in content["images"]]
        return images, boxes, len(content["categories"])

    images, boxes, classes = split("train")
    new, true, _ = split(part)
    pairs = [(pixels, box) for pixels, found in zip(images, boxes, strict=True) for box in found if not box["iscrowd"]]
    labels = np.array([box["category_id"] for _, box in pairs])
    sizes = np.array([box["bbox"][2:] for _, box in pairs])
    colours = np.stack([look(pixels, box["bbox"]) for pixels, box in pairs])
    means = np.stack([colours[labels == label].mean(axis=0) for label in range(classes)])
    width, height = sizes.mean(axis=0)
    answers: dict[str, list[list[tuple[float, int, list[float]]]]] = defaultdict(list)
    for pixels in new:
        y, x = (np.array(pixels.shape[:2]) - (height, width)) / 2
        answers["box in the middle"].append([(1.0, int(np.bincount(labels).argmax()), [x, y, width, height])])
        grey = pixels.mean(axis=2)
        for side, mask in {"bright": grey > threshold_otsu(grey), "dark": grey <= threshold_otsu(grey)}.items():
            for reach in (1, 3, 5):
                numbers, _ = ndimage.label(
                    ndimage.grey_dilation(mask, (1, reach)) if reach > 1 else mask, np.ones((3, 3))
                )
                found = []
                for rows, columns in ndimage.find_objects(numbers * mask):
                    box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
                    if min(box[2:]) >= 3:
                        label = np.abs(means - look(pixels, box)).sum(axis=1).argmin()
                        found.append((float(box[2] * box[3]), int(label), box))
                answers[f"Otsu's threshold, {side} parts, gaps up to {reach - 1}"].append(found)
    return {
        name: float(np.mean([precision(found, true, k) for k in range(classes)])) for name, found in answers.items()
    }


def look(pixels: Array, box: list[float]) -> Array:
    """The mean colour within a box."""
    left, top, width, height = box
    cut = pixels[int(top) : math.ceil(top + height), int(left) : math.ceil(left + width)]
    return np.asarray(cut.reshape(-1, 3).mean(axis=0)) if cut.size else np.zeros(3)


def precision(
    answers: list[list[tuple[float, int, list[float]]]], true: list[list[dict[str, Any]]], label: int
) -> float:
    """The average precision at an IoU of 0.5, as COCO defines it: 101 points, crowds are ignored."""
    hits = []
    for found, boxes in zip(answers, true, strict=True):
        own = [b for b in boxes if b["category_id"] == label]
        free = [b["bbox"] for b in own if not b["iscrowd"]]
        for score, kind, box in sorted(found, key=lambda answer: -answer[0]):
            if kind == label:
                best = max(range(len(free)), key=lambda i: overlap(box, free[i])[0], default=-1)
                if best >= 0 and overlap(box, free[best])[0] >= 0.5:
                    del free[best]
                    hits.append((score, True))
                elif not any(overlap(box, b["bbox"])[1] >= 0.5 for b in own if b["iscrowd"]):
                    hits.append((score, False))
    count = sum(b["category_id"] == label and not b["iscrowd"] for boxes in true for b in boxes)
    right = np.cumsum([hit for _, hit in sorted(hits, key=lambda hit: -hit[0])])
    precisions = np.maximum.accumulate((right / np.arange(1, len(right) + 1))[::-1])[::-1]
    return sum(max(precisions[right / count >= recall], default=0.0) for recall in np.linspace(0, 1, 101)) / 101


def overlap(box: list[float], other: list[float]) -> tuple[float, float]:
    """The intersection of two boxes over their union, and over the first."""
    width = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    height = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    both = max(0.0, width) * max(0.0, height)
    return both / (box[2] * box[3] + other[2] * other[3] - both), both / (box[2] * box[3])


def text_classification(project: Path, config: dict[str, Any], data: Set, part: str) -> Figures:
    """TF-IDF of words and pairs of words, or of 2 to 4 letters, with logistic regression or a linear SVM.

    If the project starts from a pretrained encoder: also two classifiers on the mean features of a text's tokens.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    texts, targets = defaultdict[str, list[str]](list), defaultdict[str, list[int]](list)
    for split in ("train", part):
        for file, target in zip(*class_files(project / "data" / split), strict=True):
            content = file.read_text("utf-8")
            lines = [content] if config["data"]["text"] == "file" else content.splitlines()
            texts[split] += lines
            targets[split] += [int(target)] * len(lines)
    words = {"ngram_range": (1, 2), "sublinear_tf": True}
    letters = {"analyzer": "char_wb", "ngram_range": (2, 4), "sublinear_tf": True}
    models = {
        f"TF-IDF of {name}, {model.__class__.__name__}": make_pipeline(TfidfVectorizer(**options), model)
        for name, options in {"words": words, "letters": letters}.items()
        for model in (LogisticRegression(max_iter=1000), LinearSVC())
    }
    found = fitted(models, (texts["train"], np.array(targets["train"])), (texts[part], np.array(targets[part])))
    if data.extra:
        folder, longest = project / "checkpoints" / "encoder", config["data"]["max_length"]
        features = {split: encoded(texts[split], folder, longest) for split in ("train", part)}
        numbers = {split: np.array(targets[split]) for split in ("train", part)}
        found |= on_features("MiniLM", features, numbers, part)
    return found


def encoded(texts: list[str], folder: Path, longest: int) -> Array:
    """The mean features of the first `longest` tokens of each text, (N, 384)."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(texts), 32):
            options = {"padding": True, "truncation": True, "max_length": longest, "return_tensors": "pt"}
            batch = tokenizer(texts[start : start + 32], **options)
            kept = batch["attention_mask"][..., None]
            found.append((model(**batch).last_hidden_state * kept).sum(dim=1) / kept.sum(dim=1))
    return torch.cat(found).numpy()


def within(project: Path, *command: str) -> dict[str, Any]:
    """The JSON printed by a program that uses the project's modules."""
    settings = {"PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=project, env=os.environ | settings, check=True, capture_output=True, text=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))  # the run prints other lines before it


def language_modeling(project: Path, config: dict[str, Any], data: Set, part: str) -> Figures:
    """Bits per character by counts of one, two and three tokens, as in the kind's own baseline.py."""
    tokens = {
        split: [file_tokens(f, config) for f in sorted((project / "data" / split).glob("*.txt"))]
        for split in ("train", part)
    }
    vocabulary = {token for document in tokens["train"] for token in document}
    seen = [token for document in tokens["train"] for token in (None, *document)]
    asked = [token if token in vocabulary else "" for document in tokens[part] for token in (None, *document)]
    characters = sum(len(f.read_text("utf-8")) for f in (project / "data" / part).glob("*.txt"))
    return {
        f"counts of {order} {config['data']['tokens']}": bits(seen, asked, order, len(vocabulary) + 2) / characters
        for order in (1, 2, 3)
    }


def file_tokens(file: Path, config: dict[str, Any]) -> list[Any]:
    text = file.read_text("utf-8")
    return list(text.encode() if config["data"]["tokens"] == "bytes" else text)


def bits(seen: list[Any], asked: list[Any], order: int, vocabulary: int) -> float:
    """The bits of all tokens of `asked`, by counts in `seen`, smoothed as by Witten and Bell (1991)."""
    counts = [defaultdict[tuple[Any, ...], Counter[Any]](Counter) for _ in range(order)]
    for length, tables in enumerate(counts):
        for place in range(length, len(seen)):
            tables[tuple(seen[place - length : place])][seen[place]] += 1
    total = 0.0
    for place in range(1, len(asked)):
        share = 1 / vocabulary
        for length, tables in enumerate(counts[: place + 1]):
            after = tables.get(tuple(asked[place - length : place]), Counter())
            kinds = max(1, len(after))
            share = (after[asked[place]] + kinds * share) / (after.total() + kinds)
        total -= math.log2(share)
    return total


def tabular(project: Path, config: dict[str, Any], data: Set, part: str) -> Figures:
    """Linear or logistic regression, and gradient-boosted trees."""
    import pandas
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.metrics import accuracy_score, r2_score, roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    options, frames = config["data"], {}
    for split in ("train", part):
        files = sorted((project / "data" / split).rglob("*.csv"))
        frames[split] = pandas.concat([pandas.read_csv(file) for file in files]).drop(columns=options["ignore"])
    targets = {split: frame.pop(options["target"]) for split, frame in frames.items()}
    numbers = list(frames["train"].select_dtypes("number").columns)
    groups = [column for column in frames["train"] if column not in numbers]
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), groups),
    )
    found = {}
    if options["task"] == "classification":
        models = {
            "logistic regression": LogisticRegression(max_iter=1000),
            "boosted trees": HistGradientBoostingClassifier(),
        }
    else:
        models = {"linear regression": LinearRegression(), "boosted trees": HistGradientBoostingRegressor()}
    for name, model in models.items():
        model = make_pipeline(columns, model).fit(frames["train"], targets["train"])
        if data.metric == "auroc":
            found[name] = roc_auc_score(targets[part], model.predict_proba(frames[part])[:, 1])
        else:
            score = accuracy_score if data.metric == "acc" else r2_score
            found[name] = score(targets[part], model.predict(frames[part]))
    return {name: float(value) for name, value in found.items()}


def audio_classification(project: Path, config: dict[str, Any], data: Set, part: str) -> Figures:
    """Mean, deviation and maximum of 40 bands of the spectrum, in decibels: logistic regression and an SVM."""
    import soundfile
    from scipy.signal import resample_poly, stft
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    rate = config["data"]["sample_rate"]
    edges = 700 * (np.exp(np.linspace(0, np.log1p(rate / 2 / 700), 41)) - 1)
    sounds, targets = {}, {}
    for split in ("train", part):
        files, targets[split] = class_files(project / "data" / split)
        rows = []
        for file in files:
            values, own = soundfile.read(file, always_2d=True)
            mono = resample_poly(values.mean(axis=1), rate, own)
            frequencies, _, spectrum = stft(np.pad(mono, (0, max(0, 256 - len(mono)))), rate, nperseg=256)
            bands = np.digitize(frequencies, edges)
            power = np.stack([(np.abs(spectrum[bands == b]) ** 2).sum(axis=0) for b in range(1, 41)])
            level = 10 * np.log10(power + 1e-9)
            rows.append(np.concatenate([level.mean(axis=1), level.std(axis=1), level.max(axis=1)]))
        sounds[split] = np.stack(rows)
    models = {
        "logistic regression of band levels": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        "SVM on band levels": make_pipeline(StandardScaler(), SVC()),
    }
    return fitted(models, (sounds["train"], targets["train"]), (sounds[part], targets[part]))


FORECASTS = """
import json, sys
from pathlib import Path
import torch
from my_project.config import load
from my_project.options import Config
from my_project.task import Task

config = load(Config, [Path(sys.argv[1])])
task, season, horizon = Task(config, torch.device("cpu")), config.data.season, config.data.horizon
found = {name: task.metrics() for name in ("last value", "drift", "seasonal naive", "seasonal naive with drift")}
steps = torch.arange(1, horizon + 1)
for past, future in task.eval_loader(sys.argv[2]):  # (N, series, context) and (N, series, horizon)
    last = past[..., -1:]
    drift = (last - past[..., :1]) / (past.shape[-1] - 1)
    again = past[..., -season:].repeat(1, 1, -(-horizon // season))[..., :horizon]
    answers = [last + 0 * steps, last + steps * drift, again, again + season * drift]
    for metrics, answer in zip(found.values(), answers, strict=True):
        metrics.update(answer, (past, future))
print(json.dumps({name: metrics.compute()["mae"] for name, metrics in found.items()}))
"""


def time_series(project: Path, config: dict[str, Any], data: Set, part: str) -> Figures:
    """The last value, the last season again, and both with the drift of the input, on all windows of the split."""
    run = max((project / "checkpoints").iterdir())
    return within(project, "-c", FORECASTS, str(run / "config.yaml"), part)


def custom(project: Path, config: dict[str, Any], data: Set, part: str) -> Figures:
    """The methods of each data set; their names say what they do."""
    from sklearn.cross_decomposition import PLSRegression
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import r2_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    def rows(split: str) -> Array:
        with next((project / "data" / split).glob("*.csv")).open() as file:
            return np.array(list(csv.reader(file))[1:], float)

    def means(split: str) -> tuple[Array, Array]:
        contents = [json.loads(file.read_text()) for file in sorted((project / "data" / split).glob("*.json"))]
        steps = [np.array(content["steps"]) for content in contents]
        features = [np.concatenate([s.mean(axis=0), s.std(axis=0), s[0], s[-1]]) for s in steps]
        return np.stack(features), np.array([content["speaker"] for content in contents])

    models = {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "SVM": make_pipeline(StandardScaler(), SVC()),
    }
    if data.name == "vowels":
        models = {f"{name} of means, deviations and ends": model for name, model in models.items()}
        return fitted(models, means("train"), means(part))
    train, test = rows("train"), rows(part)
    if data.name == "nuclei":
        return fitted(models, (train[:, :2], train[:, 2]), (test[:, :2], test[:, 2]))
    found = {}
    for count in (5, 10, 15, 20):
        model = PLSRegression(count).fit(train[:, :100], train[:, 100:])
        found[f"partial least squares, {count} components"] = float(
            r2_score(test[:, 100:], model.predict(test[:, :100]))
        )
    return found


BASELINES = {
    function.__name__: function
    for function in (
        image_classification,
        image_segmentation,
        object_detection,
        text_classification,
        language_modeling,
        tabular,
        audio_classification,
        time_series,
        custom,
    )
}
