"""The extra `shards`: data larger than memory are read in an order that a resumed run continues exactly."""

import gzip
import io
import os
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from conftest import Render, in_project
from pyarrow import parquet
from test_documents import merge, steps
from test_kill import kill_and_compare
from test_seams import play

pytestmark = pytest.mark.slow

ORDERS = """
import random
from my_project.engine.shards import BlockSampler, ShardSampler

def order(world, start=0, epoch=1):
    ranks = []
    for rank in range(world):
        sampler = ShardSampler(sizes, 3, size, readers)
        sampler.rank, sampler.world, sampler.start, sampler.epoch = rank, world, start, epoch
        ranks.append([row for _, row in sampler])
        assert start or len(ranks[-1]) == len(sampler)
    assert len({*map(len, ranks)}) == 1
    return [row for first in range(0, len(ranks[0]), size) for rank in ranks for row in rank[first : first + size]]

rng, tried = random.Random(SEED), 0
while tried < 200:
    sizes = [rng.randint(0, 60) for _ in range(rng.randint(1, 40))]
    size, world, readers = rng.randint(1, 9), rng.randint(1, 4), rng.randint(1, 6)
    if sum(sizes) < size * readers:
        continue
    tried += 1
    one, several = order(1), order(world)
    assert len({*one}) == len(one) > sum(sizes) - readers * size
    assert several == one[: len(several)] and len(several) > len(one) - size * world
    start = rng.randint(0, len(several) // (size * world)) * size * world
    assert order(world, start) == several[start:]
    assert len(one) < 50 or order(1, epoch=2) != one
"""


def test_an_order_is_the_same_however_many_processes_read_it(render: Render, tmp_path: Path) -> None:
    play(render(extras="shards"), tmp_path, ORDERS.replace("SEED", os.environ["SEED"]))


READ = """
from my_project.engine import shards

class Rows(tiny.Tiny):
    def decode(self, columns):
        x = np.stack([columns[f"x{n}"] for n in range(6)], axis=1)
        return torch.from_numpy(x), torch.from_numpy(columns["y"])

    def loader(self, split, train):
        names = [*(f"x{n}" for n in range(6)), "y"]
        rows = shards.Parquet(sorted(Path(DATA, split).glob("*.parquet")), names, self.decode)
        return shards.shard_loader(rows, rows.sizes, self.config, train, shards.identity)

    def train_loader(self):
        return self.loader("train", True)

    def eval_loader(self, split):
        return self.loader(split, False)
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 rows in Parquet files of row groups of 10, and 44 to validate."""
    folder, rng = tmp_path_factory.mktemp("rows"), np.random.default_rng(0)
    for split, counts in {"train": (130, 170), "valid": (44,)}.items():
        (folder / split).mkdir()
        for number, count in enumerate(counts):
            columns = {f"x{n}": rng.normal(size=count).astype(np.float32) for n in range(6)}
            columns["y"] = np.stack([columns[f"x{n}"] for n in range(3)]).argmax(axis=0)
            parquet.write_table(pa.table(columns), folder / split / f"{number}.parquet", row_group_size=10)
    return folder


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_from_shards_resumes_bit_for_bit(
    processes: int, workers: int, table: Path, render: Render, tmp_path: Path
) -> None:
    code = f"""
settings = config(data={{"workers": {workers}}}, train={{"epochs": 2}})
one = train("{tmp_path}/one", settings, Rows)
for stop_at in (5, 30 // tiny.part("engine.distributed").world()):
    two = resumed("{tmp_path}/" + str(stop_at), settings, Rows, stop_at=stop_at)
    for whole, part in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(whole, part)
    assert one.step == two.step and one.best == two.best
"""
    play(render(extras="shards"), tmp_path, READ.replace("DATA", repr(str(table))) + code, processes)


def test_a_resumed_run_reads_only_what_is_left(table: Path, render: Render, tmp_path: Path) -> None:
    code = f"""
class Noting(Rows):
    def train_loader(self):
        loader, read = super().train_loader(), set()
        block = loader.dataset._block
        loader.dataset._block = lambda number: read.add(number) or block(number)
        found.append(read)
        return loader
found = []
resumed("{tmp_path}/run", config(train={{"epochs": 1}}), Noting, stop_at=32)
print(*map(len, found))
"""
    said = play(render(extras="shards"), tmp_path, READ.replace("DATA", repr(str(table))) + code)
    assert said.splitlines()[-1] == "28 6"  # of 30 row groups, 4 at a time: seven times, then the last two times


def test_an_epoch_reads_each_row_group_once(table: Path, render: Render, tmp_path: Path) -> None:
    code = """
class Reading(Rows):
    def train_loader(self):
        loader = super().train_loader()
        opened = shards._opened
        @contextlib.contextmanager
        def counted(file):
            files.append(file)
            with opened(file) as handle:
                yield handle
        shards._opened = counted
        return loader
import contextlib
files = []
batches = Reading(config(data={"batch_size": 7}), "cpu").train_loader()  # some take rows of eight groups
assert len(list(batches)) == 42
print(len(files))
"""
    said = play(render(extras="shards"), tmp_path, READ.replace("DATA", repr(str(table))) + code)
    assert said.splitlines()[-1] == "30"


def test_each_row_is_evaluated_once_by_one_of_two_processes(table: Path, render: Render, tmp_path: Path) -> None:
    code = """
rows = [row for x, y in Rows(config(), "cpu").eval_loader("valid") for row in x[:, 0].tolist()]
distributed = tiny.part("engine.distributed")
rows = sum(distributed.gather(rows), [])
print(*rows if distributed.rank() == 0 else [])
"""
    said = play(render(extras="shards"), tmp_path, READ.replace("DATA", repr(str(table))) + code, processes=2)
    rows = [float(word) for line in said.splitlines() for word in line.split()]
    assert sorted(rows) == sorted(parquet.read_table(table / "valid")["x0"].to_pylist())


def follow(project: Path) -> Path:
    """Change a project as its docs/shards.md says, without the commands."""
    for step in steps((project / "docs" / "shards.md").read_text()):
        if step.merged:
            merge(project / step.path, step.code)
        elif step.code:
            (project / step.path).write_text(step.code)
    unpack = "from pathlib import Path; from my_project.data.splits import unpack_sample; unpack_sample(Path('data'))"
    in_project(project, "-c", unpack)
    in_project(project, "scripts/write_shards.py")
    return project


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.exhaustive)])
def test_a_run_from_parquet_files_survives_being_killed(kills: int, render: Render, tmp_path: Path) -> None:
    project = shutil.copytree(render(extras="shards", data_kind="custom"), tmp_path / "project")
    settings = ["data.transforms={}", "data.workers=2", "model.args.dropout=0.3"]
    kill_and_compare(follow(project), tmp_path, kills, settings)


def test_parquet_files_give_the_same_tensors_as_csv_files(render: Render, tmp_path: Path) -> None:
    project = shutil.copytree(render(extras="shards", data_kind="tabular"), tmp_path / "project")
    code = """
import torch
from my_project.config import load
from my_project.options import Config
from my_project.task import Task

task = Task(load(Config, ["configs/train.yaml"], []), torch.device("cpu"))
whole = task._dataset("train")
order = torch.randperm(len(whole))
batch = task.train_loader().dataset.__getitems__(order.tolist())
for ours, theirs in zip(batch, (whole.numbers, whole.categories, whole.targets), strict=True):
    torch.testing.assert_close(ours, theirs[order])
"""
    in_project(follow(project), "-c", code)


def archive(path: Path, *members: str) -> Path:
    with tarfile.open(path, "w") as file:
        for name in members:
            member = tarfile.TarInfo(name)
            member.size = 3
            file.addfile(member, io.BytesIO(b"abc"))
    return path


WEBDATASET = """
import sys
from pathlib import Path

import numpy
import webdataset
from my_project.engine.shards import Tar

folder = Path(sys.argv[1])
with webdataset.ShardWriter(f"{folder}/%06d.tar", maxcount=7, verbose=0) as writer:
    for number in range(25):
        key = f"set.v1/{number // 5}/" + f"{number:06d}" * (1 + 20 * (number % 2))  # some longer than a header has room
        sample = {"__key__": key, "cls": number, "meta.json": {"number": number}, "ARRAY.NPY": numpy.arange(number)}
        writer.write(sample if number % 3 else sample | {"txt": "\N{GRINNING FACE}" * number})
files = sorted(folder.glob("*.tar"))
theirs = webdataset.WebDataset([str(file) for file in files], shardshuffle=False)
theirs = [{name: content for name, content in sample.items() if name[:2] != "__"} for sample in theirs]
shards = Tar(files, dict)
assert [shards[number] for number in range(len(shards))] == theirs
print(shards.sizes, *theirs[0])
"""


def test_what_webdataset_writes_is_read_as_by_webdataset(render: Render, tmp_path: Path) -> None:
    said = in_project(render(extras="shards"), "-c", WEBDATASET, tmp_path).stdout
    assert said == "[7, 7, 7, 4] array.npy cls meta.json txt\n"


def rows(path: Path) -> Path:
    parquet.write_table(pa.table({"x": np.arange(100.0)}), path)
    return path


def flipped(path: Path) -> Path:
    parquet.write_table(pa.table({"x": np.arange(100.0)}), path, write_page_checksum=True, compression="none")
    content = bytearray(path.read_bytes())
    content[content.index(np.float64(7).tobytes())] ^= 1
    path.write_bytes(content)
    return path


def short(path: Path) -> Path:
    os.truncate(path, 600)
    return path


WRONG: list[tuple[Callable[[Path], Path], str, str]] = [
    (lambda folder: rows(folder / "a"), "Parquet([path], ['y'], dict)", "{path}: no column 'y'; there are: x"),
    (lambda folder: short(rows(folder / "a")), "Parquet([path], ['x'], dict)", "{path}: Parquet magic bytes not found"),
    (lambda folder: flipped(folder / "a"), "Parquet([path], ['x'], dict).__getitems__([7])", "{path}: "),
    (lambda folder: folder / "none", "Parquet([path], ['x'], dict)", "{path}: "),
    (lambda folder: folder, "Parquet([], ['x'], dict)", "no rows in 0 Parquet files"),
    (lambda folder: archive(folder / "a", "0.txt"), "Tar([path], lambda m: m['cls'])[0]", "has txt, and no cls"),
    (lambda folder: archive(folder / "a", "0.a", "0.A"), "Tar([path], dict)[0]", "{path}: sample 0 has a twice"),
    (lambda folder: archive(folder / "a", "LICENSE", "._0.a"), "Tar([path], dict)", "no samples in 1 tar files"),
    (lambda folder: archive(folder / "a"), "Tar([path], dict)", "no samples in 1 tar files"),
    (lambda folder: short(archive(folder / "a", *(f"{n}.txt" for n in range(20)))), "Tar([path], dict)", "{path}: "),
    (lambda folder: folder, "ShardSampler([3, 4], 0, 8)", "7 samples in 2 blocks, 1 readers: too few for 1 x 8"),
]


@pytest.mark.parametrize(("make", "code", "message"), WRONG, ids=[code for _, code, _ in WRONG])
def test_a_wrong_shard_is_one_clear_error(
    make: Callable[[Path], Path], code: str, message: str, render: Render, tmp_path: Path
) -> None:
    path = make(tmp_path)
    lines = ["from pathlib import Path", "from my_project.engine.shards import Parquet, ShardSampler, Tar"]
    lines += [f"path = Path({str(path)!r})", code]
    said = in_project(render(extras="shards"), "-c", "\n".join(lines), ok=False).stderr
    assert re.search(f"UserError: .*{re.escape(message.format(path=path))}", said), said


def test_a_compressed_tar_file_is_refused(render: Render, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(archive(tmp_path / "a", "0.txt").read_bytes()))
    lines = [
        "from pathlib import Path",
        "from my_project.engine.shards import Tar",
        f"Tar([Path({str(path)!r})], dict)",
    ]
    said = in_project(render(extras="shards"), "-c", "\n".join(lines), ok=False).stderr
    assert f"UserError: {path}: no tar file, or compressed" in said
