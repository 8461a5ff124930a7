"""Model utils: count parameters, summarize, initialize."""

from torch import nn


def count_parameters(model: nn.Module, trainable: bool = False) -> int:
    """The number of parameters of a model, or only of those that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)


def init_weights(module: nn.Module) -> None:
    """For `model.apply`: Kaiming normal in convolutions (He et al., 2015), std 0.01 in linear."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def summary(model: nn.Module) -> str:
    """One line for each direct child: its name, class and parameters; then the total."""
    parts = [*model.named_children(), ("total", model)]
    row = "{:<16} {:<16} {:>12,}".format
    return "\n".join(row(name, type(m).__name__, count_parameters(m)) for name, m in parts)
