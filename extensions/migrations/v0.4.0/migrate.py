"""Use the engine's samplers in `task.py`: runs then resume within an epoch, and processes divide the samples.

Only if both files still have their original lines. The sampler in `dataloader.py` stays, for your tests.
"""

from collections.abc import Mapping
from typing import Any

FILES = ["src/*/data/dataloader.py", "src/*/task.py"]
IN_LOADER = [("sampler: EpochSampler | None = None\n", "sampler: Sampler[Any] | None = None\n")]
IN_TASK = [
    ("import Augmented, Batch, EpochSampler, make_loader\n", "import Augmented, Batch, make_loader\n"),
    ("from .errors import ", "from .engine.sampler import EpochSampler, Share\nfrom .errors import "),
    ("EpochSampler(len(dataset), seed)\n", "EpochSampler(len(dataset), seed, self.data.batch_size)\n"),
    (
        "        return make_loader(self._dataset(split), self.data.batch_size, self.data.workers)\n",
        "        dataset = self._dataset(split)\n"
        "        share = Share(len(dataset))\n"
        "        return make_loader(dataset, self.data.batch_size, self.data.workers, share)\n",
    ),
]


def migrate(files: Mapping[str, str], answers: Mapping[str, Any]) -> dict[str, str]:
    folder = f"src/{answers['package_name']}"
    changes = {f"{folder}/data/dataloader.py": IN_LOADER, f"{folder}/task.py": IN_TASK}
    if not all(path in files and has(files[path], pairs) for path, pairs in changes.items()):
        return {}
    return {path: replaced(files[path], pairs) for path, pairs in changes.items()}


def has(text: str, pairs: list[tuple[str, str]]) -> bool:
    """Whether each old text occurs exactly once."""
    return all(text.count(old) == 1 for old, _ in pairs)


def replaced(text: str, pairs: list[tuple[str, str]]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text
