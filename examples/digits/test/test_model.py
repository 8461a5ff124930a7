import pytest
import torch
from torch.nn import functional as F

from digits.components import build_loss, build_model, build_optimizer
from digits.model.utils import count_parameters, summary
from digits.options import Component, Optimizer


def build(name: str, channels: int = 1) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(Component(name=name), num_classes=5, in_channels=channels)


@pytest.mark.parametrize("name", ["cnn", "resnet"])
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 33)])
def test_images_become_logits_and_every_weight_learns(name: str, channels: int, size: int) -> None:
    model = build(name, channels)
    logits = model(torch.rand(4, channels, size, size))
    assert logits.shape == (4, 5)
    F.cross_entropy(logits, torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("name", ["cnn", "resnet"])
@pytest.mark.parametrize("loss_name", ["CrossEntropyLoss", "FocalLoss"])
def test_one_batch_is_learnt_by_heart(name: str, loss_name: str) -> None:
    model, loss_function = build(name), build_loss(Component(name=loss_name))
    optimizer = build_optimizer(Optimizer(lr=0.01), model)
    images, targets = torch.rand(10, 1, 12, 12), torch.arange(10) % 5
    for _ in range(60):
        loss_function(model(images), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (model(images).argmax(dim=1) == targets).all()


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    logits, targets = torch.randn(6, 5), torch.arange(6) % 5
    focal = build_loss(Component(name="FocalLoss", args={"gamma": 0.0}))
    torch.testing.assert_close(focal(logits, targets), F.cross_entropy(logits, targets))


def test_the_summary_counts_all_parameters() -> None:
    model = build("cnn")
    assert f"{count_parameters(model):,}" in summary(model).splitlines()[-1]
    model.requires_grad_(False)
    assert count_parameters(model, trainable=True) == 0
