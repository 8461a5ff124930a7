"""The extra `shards`: data larger than memory are read in an order that a resumed run continues exactly."""

import gzip
import io
import os
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from conftest import Render, in_project
from pyarrow import parquet
from test_documents import merge, sections, steps
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


UNSEEN = """
import contextlib, io
from my_project.engine import shards

for sizes, size, readers, world, unseen in CASES:
    shards.distributed.world = lambda: world
    with contextlib.redirect_stdout(io.StringIO()) as said:
        sampler = shards.ShardSampler(sizes, 0, size, readers)
    left = set(range(sum(sizes)))
    for sampler.epoch in range(50):
        for sampler.rank in range(world):
            left -= {row for _, row in sampler}
    assert len(left) == unseen, (sizes, len(left))
    warned = f"warning: {unseen} of {sum(sizes)} samples are never trained on (1 of " if unseen else ""
    assert said.getvalue()[: len(warned) or None] == warned
"""


def test_samples_that_no_epoch_reads_are_counted_at_the_start(render: Render, tmp_path: Path) -> None:
    cases = [  # sizes, batch size, readers, processes, samples
        ([1000, 1000, 1000, 30], 64, 4, 1, 30),
        ([1000, 1000, 1000, 30], 64, 3, 1, 0),
        ([64, 64, 64], 64, 3, 2, 64),  # the third batch is not enough for two processes
        ([9, 0, 8], 8, 3, 1, 0),  # a reader without samples lacks none
    ]
    play(render(extras="shards"), tmp_path, f"CASES = {cases}\n{UNSEEN}")


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
    assert said.splitlines()[-1] == "28 6"  # row groups of 30: before the stop, and after


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


TASK = """
import torch
from my_project.config import load
from my_project.options import Config
from my_project.task import Task

task = Task(load(Config, ["configs/train.yaml"], []), torch.device("cpu"))
"""

SAME = """
whole = task._dataset("train")
order = torch.randperm(len(whole))
batch = task.train_loader().dataset.__getitems__(order.tolist())
for ours, theirs in zip(batch, (whole.numbers, whole.categories, whole.targets), strict=True):
    torch.testing.assert_close(ours, theirs[order])
"""


def of_texts(project: Path) -> Path:
    """Give a project for tables classes and categories that pyarrow takes for numbers and booleans."""
    (project / "data" / "train").mkdir()
    lines = ["code,zip,on,m,new", "007,101,true,1.5,true", "08, 102 ,false,?,false", "7,,true,2,true", "?,101,,3,true"]
    (project / "data" / "train" / "0.csv").write_text("".join(f"{line}\n" for line in lines))
    config = project / "configs" / "train.yaml"
    text = config.read_text()
    changed = {"target": "new", "task: regression": "classification", "target_log": "false"}
    changed |= {
        "categorical": "[code, zip]",
        "  name: HuberLoss": "CrossEntropyLoss",
        "monitor": "auroc",
        "mode": "max",
        "batch_size": "4",
    }
    for key, value in changed.items():
        name, _, old = key.strip().partition(": ")
        text, count = re.subn(rf"^(  {name}:) {old or '.*'}", rf"\1 {value}", text, flags=re.MULTILINE)
        assert count == 1, key
    config.write_text(text)
    return project


@pytest.mark.parametrize("change", [lambda project: project, of_texts], ids=["the_sample", "texts_like_numbers"])
def test_parquet_files_give_the_same_tensors_as_csv_files(
    change: Callable[[Path], Path], render: Render, tmp_path: Path
) -> None:
    project = shutil.copytree(render(extras="shards", data_kind="tabular"), tmp_path / "project")
    in_project(follow(change(project)), "-c", TASK + SAME)


def test_categories_and_classes_of_parquet_files_must_be_known_texts(render: Render, tmp_path: Path) -> None:
    project = follow(of_texts(shutil.copytree(render(extras="shards", data_kind="tabular"), tmp_path / "project")))
    shard = project / "data" / "shards" / "0.parquet"
    table = parquet.read_table(shard)
    wrong = {
        "zip": (pa.array([101, 102, None, 101]), "column 'zip' has a float; write it as text"),
        "on": (pa.array([True, False, True, None]), "column 'on' has a bool; write it as text"),
        "new": (pa.array(["yes", "true", "true", "true"]), "data/train has no row of the class 'yes'"),
    }
    for name, (values, message) in wrong.items():
        parquet.write_table(table.set_column(table.column_names.index(name), name, values), shard)
        said = in_project(project, "-c", TASK + "next(iter(task.train_loader()))", ok=False).stderr
        assert f"UserError: data/shards: {message}" in said, said


@pytest.mark.parametrize("kind", ["custom", "tabular"])
def test_a_flipped_bit_in_a_written_row_group_is_an_error(kind: str, render: Render, tmp_path: Path) -> None:
    project = follow(shutil.copytree(render(extras="shards", data_kind=kind), tmp_path / "project"))
    shard = min((project / "data" / "shards").glob("*.parquet"))
    column = parquet.read_metadata(shard).row_group(0).column(0)  # a number
    content = bytearray(shard.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    shard.write_bytes(content)
    code = "dataset = task.train_loader().dataset; dataset.__getitems__(list(range(len(dataset))))"
    said = in_project(project, "-c", TASK + code, ok=False).stderr
    assert f"UserError: data/shards/{shard.name}: " in said, said


def test_linked_images_are_written_to_tar_files_with_their_contents(render: Render, tmp_path: Path) -> None:
    project = shutil.copytree(render(extras="shards"), tmp_path / "project")
    in_project(project, "-c", "from my_project.data.splits import *; unpack_sample(Path('data'))")
    image, other = sorted((project / "data" / "train").glob("*/*.png"))[:2]
    image.with_name("hard.png").hardlink_to(image)
    image.with_name("symbolic.png").symlink_to(other)
    count = len([*(project / "data" / "train").glob("*/*.png")])
    code = "tar = task.train_loader().dataset.dataset; print(len([tar[index] for index in range(len(tar))]))"
    assert in_project(follow(project), "-c", TASK + code).stdout == f"{count}\n"


@pytest.mark.parametrize("damaged", [False, True])
def test_a_stream_ends_with_an_error_at_a_damaged_tar_file(damaged: bool, render: Render, tmp_path: Path) -> None:
    project = shutil.copytree(render(extras="shards"), tmp_path / "project")
    for step in steps(sections(project / "docs" / "recipes.md")["Stream data"]):
        if step.whole:
            (project / step.path).write_text(step.code)
        elif step.merged:
            merge(project / step.path, step.code)
    in_project(project, "-c", "from my_project.data.splits import *; unpack_sample(Path('data'))")
    shard = Path(shutil.make_archive(str(tmp_path / "0"), "tar", project / "data" / "valid"))
    with tarfile.open(shard) as file:
        images = [member for member in file if member.isfile()]
    if damaged:
        changed(shard, DAMAGE["two_joined_with_cat"])
    code = f"from pathlib import Path; print(len([*task._read(Path({str(shard)!r}))]))"
    done = in_project(project, "-c", TASK + code, ok=not damaged)
    assert done.stdout == ("" if damaged else f"{len(images)}\n")
    assert (f"UserError: {shard}: cut, damaged, or joined" in done.stderr) == damaged


def archive(path: Path, *members: str, **fields: Any) -> Path:
    with tarfile.open(path, "w") as file:
        for name in members:
            member = tarfile.TarInfo(name)
            member.size = 3
            for field, value in fields.items():
                setattr(member, field, value)
            file.addfile(member, io.BytesIO(b"abc"))
    return path


def changed(path: Path, change: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


DAMAGE: dict[str, Callable[[bytes], bytes]] = {  # to a file of members of 1024 bytes, half of them header
    "cut_between_samples": lambda content: content[:2048],
    "cut_within_a_sample": lambda content: content[:1024],
    "cut_within_a_header": lambda content: content[:2100],
    "without_its_end": lambda content: content[:4096],
    "a_flipped_bit": lambda content: content[:2050] + bytes([content[2050] ^ 1]) + content[2051:],
    "a_header_of_zeros": lambda content: content[:2048] + bytes(512) + content[2560:],
    "two_joined_with_cat": lambda content: content + content,
    "two_joined_after_a_long_end": lambda content: content + bytes(2**21) + content,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_tar_file_is_one_clear_error(damage: str, render: Render, tmp_path: Path) -> None:
    path = changed(archive(tmp_path / "a.tar", "0.jpg", "0.cls", "1.jpg", "1.cls"), DAMAGE[damage])
    code = f"from pathlib import Path; from my_project.engine.shards import Tar; Tar([Path({str(path)!r})], dict)"
    said = in_project(render(extras="shards"), "-c", code, ok=False).stderr
    assert re.search(rf"UserError: {path}: cut, damaged, or joined with cat, at byte \d+; write it again", said), said


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


def test_samples_of_tar_files_make_batches(render: Render, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", "0.a", "1.b", "2.c", "3.d")
    code = f"""
from pathlib import Path
from my_project.config import load
from my_project.engine.shards import Tar, shard_loader
from my_project.options import Config

config = load(Config, ["configs/train.yaml"], ["data.batch_size=2"])
tar = Tar([Path({str(path)!r})], "".join)  # a sample is its extension
print(*shard_loader(tar, tar.sizes, config, False))
print(*sorted(name for batch in shard_loader(tar, tar.sizes, config, True) for name in batch))
"""
    said = in_project(render(extras="shards"), "-c", code).stdout
    assert said == "['a', 'b'] ['c', 'd']\na b c d\n"


def rows(path: Path) -> Path:
    parquet.write_table(pa.table({"x": np.arange(100.0)}), path)
    return path


def flipped(path: Path) -> Path:
    parquet.write_table(pa.table({"x": np.arange(100.0)}), path, write_page_checksum=True, compression="none")
    content = bytearray(path.read_bytes())
    content[content.index(np.float64(7).tobytes())] ^= 1
    path.write_bytes(content)
    return path


def twice(path: Path) -> Path:
    parquet.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"]), path)
    return path


SPARSE = {"GNU.sparse.map": "0,3"}  # as tar --sparse writes it: the content's pieces


def short(path: Path) -> Path:
    os.truncate(path, 600)
    return path


WRONG: list[tuple[Callable[[Path], Path], str, str]] = [
    (lambda folder: rows(folder / "a"), "Parquet([path], ['y'], dict)", "{path}: no column 'y'; there are: x"),
    (lambda folder: short(rows(folder / "a")), "Parquet([path], ['x'], dict)", "{path}: Parquet magic bytes not found"),
    (lambda folder: flipped(folder / "a"), "Parquet([path], ['x'], dict).__getitems__([7])", "{path}: "),
    (lambda folder: folder / "none", "Parquet([path], ['x'], dict)", "{path}: no such file; list files that exist"),
    (lambda folder: folder, "Parquet([path], ['x'], dict)", "{path}: is a folder; list the files in it"),
    (lambda folder: twice(folder / "a"), "Parquet([path], ['x'], dict)", "{path}: duplicate column 'x'; rename"),
    (lambda folder: folder / "none", "Tar([path], dict)", "{path}: no such file; list files that exist"),
    (lambda folder: archive(folder / "a", "0.a", type=tarfile.LNKTYPE), "Tar([path], dict)", "{path}: 0.a is a link"),
    (lambda folder: archive(folder / "a", "0.a", type=tarfile.SYMTYPE), "Tar([path], dict)", "{path}: 0.a is a link"),
    (lambda folder: archive(folder / "a", "0.a", pax_headers=SPARSE), "Tar([path], dict)", "{path}: 0.a is sparse"),
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
    assert f"UserError: {path}: not a tar file, or compressed" in said
