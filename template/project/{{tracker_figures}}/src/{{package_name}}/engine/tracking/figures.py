"""The figures of a row under the names that trackers group curves by."""


def grouped(row: dict[str, float]) -> dict[str, float]:
    """`train_loss` as `loss/train`; what `test` says of `valid` is no point of its curve."""
    figures, training = dict[str, float](), "seconds" in row
    for name, value in row.items():
        split, _, metric = name.partition("_")
        if split in ("train", "valid", "test"):
            figures[f"{metric}/{split if training or split == 'test' else f'test_{split}'}"] = value
        elif training and name != "step":
            figures[name] = value
    return figures
