import pytest
import torch

from digits.engine.loop import evaluate
from digits.options import Config
from digits.task import Task

CPU = torch.device("cpu")


def test_validation_changes_nothing(config: Config) -> None:
    task = Task(config, CPU)
    model = task.build_model()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.get_rng_state()
    first = evaluate(model, task, task.eval_loader("valid"), CPU)
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), generator)
    assert evaluate(model, task, task.eval_loader("valid"), CPU) == first


def test_metrics_count_samples_not_batches(config: Config) -> None:
    task = Task(config, CPU)
    data = config.data.model_copy(update={"batch_size": 10})
    whole = Task(config.model_copy(update={"data": data}), CPU)
    model = task.build_model()
    uneven, one = (evaluate(model, t, t.eval_loader("valid"), CPU) for t in (task, whole))
    assert uneven == pytest.approx(one, rel=1e-4)  # batches of 8 and 2, and one of 10
