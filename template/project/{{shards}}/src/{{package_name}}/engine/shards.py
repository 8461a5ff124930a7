"""Data larger than memory: Parquet and tar files, and the order in which a run reads them.

The order follows from seed and epoch, as with `EpochSampler`, so a resumed run computes its
position and reads nothing twice. A process reads a few blocks at a time, such as row groups of
Parquet files, and holds only these.
"""

import math
import tarfile
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import UserError
from ..options import Config
from . import distributed
from .device import derived_seed
from .sampler import EpochSampler

MIX = 4  # blocks whose samples are shuffled together


class ShardSampler(EpochSampler):
    """Pairs of epoch and index, in a new order each epoch that takes a few blocks at a time.

    `sizes` are the numbers of samples of consecutive blocks, which `readers` share. Each reader
    shuffles its blocks, and the samples of `MIX` blocks together. The readers take turns, a batch
    each. Of each global batch, rank 0 takes the first `batch_size` samples, rank 1 the next, and so
    on. An epoch drops the samples that fill no batch of their reader, or no global batch.
    """

    def __init__(self, sizes: Sequence[int], seed: int, batch_size: int, readers: int = 1) -> None:
        super().__init__(sum(sizes), seed, batch_size)
        self.sizes = np.asarray(sizes, np.int64)
        self.begins = np.cumsum(self.sizes) - self.sizes
        self.dealt = [np.arange(first, len(sizes), readers) for first in range(readers)]
        self.counts = [int(self.sizes[blocks].sum()) // batch_size for blocks in self.dealt]
        if len(self) == 0:
            found = f"{self.size} samples in {len(sizes)} blocks, {readers} readers"
            raise UserError(f"data.batch_size: {found}: too few for {self.world} x {batch_size}")
        used = [number for number, count in enumerate(self.counts) if count]
        used = used[: len(self) // batch_size * self.world]  # the rest fills no global batch
        if lost := self.size - sum(int(self.sizes[self.dealt[number]].sum()) for number in used):
            what = f"{lost} of {self.size} samples are never trained on"
            why = f"{readers - len(used)} of {readers} readers get no batch"
            fix = "lower data.workers or data.batch_size, or write more blocks, of equal sizes"
            distributed.log(f"warning: {what} ({why}): {fix}")

    def __len__(self) -> int:
        return sum(self.counts) // self.world * self.batch_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        turns = (
            (reader, turn * self.batch_size)
            for turn in range(max(self.counts))
            for reader, count in enumerate(self.counts)
            if turn < count
        )
        first, end = self.start // self.batch_size, len(self) // self.batch_size * self.world
        readers = [self._reader(number) for number in range(len(self.counts))]
        for reader, begin in islice(turns, first + self.rank, end, self.world):
            yield from ((self.epoch, index) for index in readers[reader](begin))

    def _reader(self, number: int) -> Callable[[int], list[int]]:
        """A function that returns the batch which begins at a position in a reader's order."""
        seeds = self.seed, self.epoch, number
        blocks = np.random.default_rng(seeds).permutation(self.dealt[number])
        groups = [blocks[first : first + MIX] for first in range(0, len(blocks), MIX)]
        ends = np.cumsum([self.sizes[group].sum() for group in groups])
        held: dict[int, NDArray[np.int64]] = {}  # of one group

        def order(group: int) -> NDArray[np.int64]:
            if group not in held:
                held.clear()
                parts = [self.begins[b] + np.arange(self.sizes[b]) for b in groups[group]]
                rng = np.random.default_rng((*seeds, group))
                held[group] = rng.permutation(np.concatenate(parts))
            return held[group]

        def batch(begin: int) -> list[int]:
            found: list[int] = []
            while len(found) < self.batch_size:
                at = begin + len(found)
                group = int(np.searchsorted(ends, at, side="right"))
                rows = order(group)
                place = at - int(ends[group]) + len(rows)
                found += rows[place : place + self.batch_size - len(found)].tolist()
            return found

        return batch


class BlockSampler(Sampler[int]):
    """The indices that this rank evaluates, in order: whole blocks, divided among ranks."""

    def __init__(self, sizes: Sequence[int]) -> None:
        begins, ends = np.cumsum([0, *sizes]).tolist(), np.cumsum(sizes).tolist()
        blocks = [range(begin, end) for begin, end in zip(begins, ends, strict=False)]
        self.blocks = blocks[distributed.rank() :: distributed.world()]

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    def __iter__(self) -> Iterator[int]:
        for block in self.blocks:
            yield from block


class Parquet(Dataset[Any]):
    """Rows of Parquet files, whose blocks are row groups.

    `decode` makes a batch of the columns, each an array (N,). Raises UserError for a file that
    can't be read, or lacks a column.
    """

    def __init__(
        self, files: Sequence[Path], columns: Sequence[str], decode: Callable[[Any], Any]
    ) -> None:
        self.columns, self.decode = list(columns), decode
        self.blocks: list[tuple[Path, int]] = []
        self.sizes: list[int] = []
        for file in files:
            with _opened(file) as opened:
                meta, names = opened.metadata, opened.schema_arrow.names
            if missing := sorted({*columns} - {*names}):
                raise UserError(f"{file}: no column {missing[0]!r}; there are: {', '.join(names)}")
            counts = Counter(names)
            if twice := [name for name in columns if counts[name] > 1]:
                raise UserError(f"{file}: duplicate column {twice[0]!r}; rename one of them")
            for number in range(meta.num_row_groups):
                self.blocks.append((file, number))
                self.sizes.append(meta.row_group(number).num_rows)
        if not sum(self.sizes):
            raise UserError(f"no rows in {len(files)} Parquet files")
        self.begins = np.cumsum(self.sizes) - self.sizes
        self.keep = MIX  # blocks in memory
        self.held: OrderedDict[int, dict[str, NDArray[Any]]] = OrderedDict()

    def __len__(self) -> int:
        return sum(self.sizes)

    def __getitems__(self, keys: Sequence[Any]) -> Any:
        """The batch of these indices, or of pairs of an epoch and an index."""
        rows = np.asarray(keys).reshape(len(keys), -1)[:, -1]
        blocks = np.searchsorted(self.begins, rows, side="right") - 1
        order = np.argsort(blocks, kind="stable")
        numbers, firsts = np.unique(blocks[order], return_index=True)
        places = dict(zip(numbers.tolist(), np.split(order, firsts[1:]), strict=True))
        parts, taken = [], []
        for number in sorted(places, key=lambda number: number not in self.held):  # else read twice
            columns, here = self._block(number), places[number]
            parts.append([columns[name][rows[here] - self.begins[number]] for name in self.columns])
            taken.append(here)
        back = np.argsort(np.concatenate(taken))
        merged = [np.concatenate(column)[back] for column in zip(*parts, strict=True)]
        return self.decode(dict(zip(self.columns, merged, strict=True)))

    def _block(self, number: int) -> dict[str, NDArray[Any]]:
        if number not in self.held:
            file, group = self.blocks[number]
            while len(self.held) >= self.keep:
                self.held.popitem(last=False)
            with _opened(file) as opened:
                table = opened.read_row_group(group, columns=self.columns, use_threads=False)
            self.held[number] = {name: table.column(name).to_numpy() for name in self.columns}
        self.held.move_to_end(number)
        return self.held[number]


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A Parquet file; UserError if it can't be read."""
    try:
        parquet: Any = import_module("pyarrow.parquet")  # slow to import
    except ImportError as error:
        raise UserError(f"{file}: {error}; run pip install -e '.[shards]'") from error
    try:
        with parquet.ParquetFile(file, page_checksum_verification=True) as opened:
            yield opened
    except (OSError, import_module("pyarrow").ArrowException) as error:
        raise _unreadable(file, f"{' '.join(str(error).split())}; write it again") from error


def _unreadable(file: Path, why: str) -> UserError:
    """An error that says why, unless the file is missing or a folder."""
    if file.is_dir():
        why = "is a folder; list the files in it"
    elif not file.exists():
        why = "no such file; list files that exist"
    return UserError(f"{file}: {why}")


class Tar(Dataset[Any]):
    """Samples of tar files in WebDataset's format, whose blocks are files.

    The members of a sample are next to each other, and have one name up to the first dot:
    `0001.png`, `0001.cls`. Members without a dot are ignored. `decode` makes a sample of their
    contents by extension, in lower case. At the start, only headers are read. Raises UserError for
    a file that is compressed, damaged or empty, for a link, and for two members of a sample with
    one extension. Contents have no checksums in a tar file.
    """

    def __init__(self, files: Sequence[Path], decode: Callable[[Mapping[str, bytes]], Any]) -> None:
        self.files, self.decode, self.sizes = list(files), decode, list[int]()
        numbers = dict[str, int]()  # by extension
        members, begins = array("q"), array("q")
        for file in files:
            before, last = len(begins), ""
            try:
                with tarfile.open(file, "r:") as archive:
                    for member in archive:
                        archive.members.clear()  # type: ignore[attr-defined]  # it would keep all
                        folder, slash, name = member.name.rpartition("/")
                        name, dot, extension = name.partition(".")
                        if not (name and dot):  # macOS adds ._0001.png
                            continue
                        if wrong := _without_content(member):
                            raise UserError(f"{file}: {member.name} {wrong}")
                        if not member.isfile():
                            continue
                        if folder + slash + name != last:
                            begins.append(len(members) // 3)
                            last = folder + slash + name
                        number = numbers.setdefault(extension.lower(), len(numbers))
                        members.extend((number, member.offset_data, member.size))
                    _check_end(file, archive)
            except (OSError, tarfile.TarError) as error:
                why = f"not a tar file, or compressed, or damaged ({error}); write it again"
                raise _unreadable(file, why) from error
            self.sizes.append(len(begins) - before)
        if not begins:
            raise UserError(f"no samples in {len(files)} tar files")
        self.extensions = list(numbers)
        self.members = np.asarray(members, np.int64).reshape(-1, 3)  # number, offset, bytes
        self.begins = np.asarray([*begins, len(self.members)], np.int64)
        self.ends = np.cumsum(self.sizes)

    def __len__(self) -> int:
        return len(self.begins) - 1

    def __getitem__(self, index: int | tuple[int, ...]) -> Any:
        """The sample of this index, or of a pair of an epoch and an index."""
        index = index[-1] if isinstance(index, tuple) else index
        file = self.files[int(np.searchsorted(self.ends, index, side="right"))]
        contents = dict[str, bytes]()
        with open(file, "rb") as opened:
            for number, offset, size in self.members[self.begins[index] : self.begins[index + 1]]:
                extension = self.extensions[number]
                if extension in contents:
                    raise UserError(f"{file}: sample {index} has {extension} twice; write it again")
                opened.seek(offset)
                contents[extension] = opened.read(size)
                if len(contents[extension]) < size:
                    raise UserError(f"{file}: ends within sample {index}; copy it again")
        try:
            return self.decode(contents)
        except KeyError as error:
            if error.args[0] in contents:
                raise
            found = f"sample {index} has {', '.join(contents)}, and no {error.args[0]}"
            raise UserError(f"{file}: {found}") from error


def _without_content(member: tarfile.TarInfo) -> str:
    """What is wrong with a member whose content isn't in one piece behind its header."""
    if member.issym() or member.islnk():
        return "is a link; write it with tar --dereference --hard-dereference"
    return "is sparse; write it without tar --sparse" if member.issparse() else ""


def _check_end(file: Path, archive: tarfile.TarFile) -> None:
    """UserError if there is more than zeros after the last member, where tarfile stops silently."""
    source: Any = archive.fileobj
    source.seek(archive.offset)
    zeros = 0
    while (part := source.read(2**20)) and not part.strip(b"\0"):
        zeros += len(part)
    if part or zeros < tarfile.BLOCKSIZE:
        what = f"cut, damaged, or joined with cat, at byte {archive.offset}"
        raise UserError(f"{file}: {what}; write it again")


def identity(batch: Any) -> Any:
    """The `collate` of a dataset that gives whole batches, such as Parquet."""
    return batch


def shard_loader(
    dataset: Any,
    sizes: Sequence[int],
    config: Config,
    train: bool,
    collate: Callable[[list[Any]], Any] | None = None,
    readers: int = 0,
) -> DataLoader[Any]:
    """Batches of a dataset whose blocks have these sizes, in a new order each epoch if `train`.

    By default there are as many `readers` as workers of all ranks. If you set their number, the
    order does not depend on the numbers of workers and ranks.
    """
    seed, workers = config.run.seed, config.data.workers
    processes = distributed.world() * max(1, workers)
    readers = min(readers or processes, len(sizes))
    if isinstance(dataset, Parquet):
        dataset.keep = MIX * math.ceil(readers / processes)
    sampler: Sampler[Any] = BlockSampler(sizes)
    if train:
        sampler = ShardSampler(sizes, seed, config.data.batch_size, readers)
    return DataLoader(
        dataset,
        config.data.batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(derived_seed(seed, distributed.rank())),
    )
