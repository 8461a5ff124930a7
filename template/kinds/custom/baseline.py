"""Print the accuracy to beat on data/test/, as JSON: that of the best straight line, by least squares."""

import json
from pathlib import Path

import torch
from my_project.data.dataset import Points
from my_project.data.splits import unpack_sample


def split(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x, y and 1 for each point (N, 3), and its class (N,)."""
    points, targets = (torch.stack(parts) for parts in zip(*Points(Path("data") / name).samples, strict=True))
    return torch.nn.functional.pad(points, (0, 1), value=1.0), targets


unpack_sample(Path("data"))
train, test = split("train"), split("test")
line = torch.linalg.lstsq(train[0], train[1][:, None] * 2.0 - 1).solution
acc = ((test[0] @ line > 0).flatten() == (test[1] == 1)).double().mean().item()
print(json.dumps({"name": "the best straight line", "metric": "acc", "value": round(acc, 4)}))
