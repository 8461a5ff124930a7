"""Images per second of the project's training loader, compared with loops over the files.

    .venv/bin/python bench/loader.py [ROUNDS]

Each contender is a separate process, in an order that changes from round to round. Its first pass over the training
images of the sample doesn't count: after it, the files are in the system's cache, the workers run, and `data.cache` is
full. The result is the median of the passes after it.
"""

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

PASSES = 5
BATCH = 32


def main(rounds: int) -> None:
    import peers  # not for the contenders: see peers.run

    with tempfile.TemporaryDirectory() as folder:
        project = peers.render(Path(folder) / "project")

        def speed(name: str) -> float:
            return float(peers.run(project, str(Path(__file__).resolve()), "--contender", name).splitlines()[-1])

        for name in CONTENDERS:
            speed(name)
        times = [{name: speed(name) for name in order} for order in peers.rotated(list(CONTENDERS), rounds)]
    print(peers.environment("pillow", "numpy") + "\n")
    columns = [{name: row[name] for name in CONTENDERS} for row in times]
    print(peers.table("training images, 20 x 20 grey", "images/s", columns, "loop by hand"))


def contend(name: str) -> None:
    """Run one contender in this process; the last line of its output is its images per second."""
    passes = CONTENDERS[name]()
    count, speeds = sum(next(passes)), []
    for _ in range(PASSES):
        start = time.perf_counter()
        assert sum(next(passes)) == count
        speeds.append(count / (time.perf_counter() - start))
    print(statistics.median(speeds))


# --- the contenders: generators that yield the number of images of each pass over the data ---


def files() -> list[tuple[Path, int]]:
    """The training images and their class numbers."""
    return [(path, int(path.parent.name)) for path in sorted(Path("data/train").glob("*/*.png"))]


def read() -> Iterator[Iterable[int]]:
    """Read the bytes of the files, without decoding."""
    found = files()
    while True:
        yield (bool(path.read_bytes()) for path, _ in found)


def decode() -> Iterator[Iterable[int]]:
    """Decode the files with PIL."""
    image: Any = import_module("PIL.Image")

    def one(path: Path) -> int:
        with image.open(path) as file:
            file.load()
        return 1

    found = files()
    while True:
        yield (one(path) for path, _ in found)


def by_hand() -> Iterator[Iterable[int]]:
    """The loader's work in a new order each pass, written by hand without a DataLoader."""
    import numpy as np
    import torch
    from PIL import Image
    from torch.nn import functional

    def affine(image: torch.Tensor) -> torch.Tensor:
        turn, dx, dy, zoom = rng.uniform(-1, 1, size=4)
        angle, factor = math.radians(turn * 10), 1 + zoom * 0.1
        cos, sin = math.cos(angle) / factor, math.sin(angle) / factor
        matrix = torch.tensor([[cos, -sin, 0.2 * dx], [sin, cos, 0.2 * dy]])
        grid = functional.affine_grid(matrix[None].float(), [1, *image.shape], align_corners=False)
        return functional.grid_sample(image[None], grid, align_corners=False)[0]

    found, rng = files(), np.random.default_rng(0)

    def batches() -> Iterator[int]:
        order = rng.permutation(len(found)).tolist()
        for first in range(0, len(order), BATCH):
            images, targets = [], []
            for index in order[first : first + BATCH]:
                path, target = found[index]
                with Image.open(path) as file:
                    pixels = np.asarray(file.convert("L"), dtype=np.float32) / 255
                images.append(affine(torch.from_numpy(pixels)[None]))
                targets.append(target)
            yield len(torch.stack(images)) * bool(len(torch.tensor(targets)))

    while True:
        yield batches()


def loader(*settings: str) -> Iterator[Iterable[int]]:
    """The project's loader, with the augmentation of configs/train.yaml and `settings` on top."""
    import torch

    options: Any = import_module("my_project.options")
    config = import_module("my_project.config").load(options.Config, ["configs/train.yaml"], settings)
    assert config.data.batch_size == BATCH
    batches = import_module("my_project.task").Task(config, torch.device("cpu")).train_loader()
    epoch = 0
    while True:
        batches.sampler.epoch = epoch
        yield (len(images) for images, _ in batches)
        epoch += 1


CONTENDERS: dict[str, Callable[[], Iterator[Iterable[int]]]] = {
    "read the bytes": read,
    "decode": decode,
    "loop by hand": by_hand,
    "the project": lambda: loader(),
    "the project, data.workers=2": lambda: loader("data.workers=2"),
    "the project, data.cache=true": lambda: loader("data.cache=true"),
    "the project, both": lambda: loader("data.cache=true", "data.workers=2"),
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contender"]:
        contend(sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
