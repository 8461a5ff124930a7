"""A multilayer perceptron: the first thing to try."""

from torch import nn


def mlp(in_features: int, num_classes: int, width: int = 64, dropout: float = 0.0) -> nn.Sequential:
    """Two hidden layers map inputs (N, in_features) to logits (N, num_classes).

    Yours: write a function in any file of this folder that returns a module. It gets `model.args`
    of the config, and those arguments of the task's `build_model` that it has.
    """
    layers: list[nn.Module] = []
    for features in (in_features, width):
        layers += [nn.Linear(features, width), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(width, num_classes))
