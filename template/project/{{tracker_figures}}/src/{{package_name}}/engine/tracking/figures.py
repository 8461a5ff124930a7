"""Names of metrics that let a tracker group their curves."""


def grouped(row: dict[str, float]) -> dict[str, float]:
    """Rename `train_loss` to `loss/train`; `test` on the split valid gets its own curve."""
    figures, training = dict[str, float](), "seconds" in row
    for name, value in row.items():
        split, _, metric = name.partition("_")
        if split in ("train", "valid", "test"):
            figures[f"{metric}/{split if training or split == 'test' else f'test_{split}'}"] = value
        elif training and name != "step":
            figures[name] = value
    return figures
