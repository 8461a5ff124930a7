"""Classes of different sizes: figures of each class, sampling and losses that balance them; trainings of few steps."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import Render, in_project

pytestmark = pytest.mark.slow

COUNTS = [70, 15, 5, 1]


def test_balanced_sampling_draws_each_class_equally_often(render: Render) -> None:
    code = f"""if True:
        from collections import Counter
        from my_project.engine import distributed
        from my_project.engine.sampler import EpochSampler
        classes = [name for name, count in enumerate({COUNTS}) for _ in range(count)]
        def draw(batch_size, epoch=3, start=0):
            sampler = EpochSampler(len(classes), 0, batch_size, classes)
            sampler.epoch, sampler.start = epoch, start
            keys = list(sampler)
            assert len(keys) == len(sampler) or start
            return keys
        keys = draw(12)
        assert len(keys) == len(set(keys)) == 91, "each draw is augmented by a key of its own"
        assert set(Counter(classes[index] for _, index, _ in keys).values()) <= {{22, 23}}
        assert len({{index for _, index, _ in keys if index < 70}}) >= 22, "no frequent one twice"
        assert {{index for _, index, _ in keys if index >= 70}} == set(range(70, 91)), "no rare one is left out"
        assert keys != [(3, *rest) for _, *rest in draw(12, epoch=4)]
        assert draw(12, start=48) == keys[48:], "a resumed epoch goes on"
        for world in (2, 3):
            distributed.world = lambda: world
            shares = []
            for rank in range(world):
                distributed.rank = lambda: rank
                shares += draw(12 // world)
            assert sorted(shares) == sorted(keys), "processes share the draws"
    """
    in_project(render(), "-c", code)


def test_repeated_samples_are_augmented_differently(render: Render) -> None:
    code = """if True:
        import torch
        from my_project.config import load
        from my_project.data.dataloader import train_loader
        from my_project.options import Config
        config = load(Config, ["configs/train.yaml"], ["data.batch_size=8"])
        same = [(torch.eye(20)[None], target) for target in (0, 0, 0, 0, 0, 0, 1)]
        [(images, targets)] = train_loader(same, config, classes=[target for _, target in same])
        rare = images[targets == 1]
        assert len(rare) == 3 and not torch.equal(rare[0], rare[1])
    """
    in_project(render(), "-c", code)


def test_balanced_weights_are_those_of_scikit_learn(render: Render) -> None:
    """Its documentation has the example [1, 1, 1, 1, 0, 0]: 1.5 and 0.75."""
    code = """if True:
        from my_project.components import build_loss
        from my_project.errors import UserError
        from my_project.options import Component
        balanced = Component(name="CrossEntropyLoss", args={"weight": "balanced"})
        print(build_loss(balanced, lambda: [2, 4]).weight.tolist())
        try:
            build_loss(balanced)
        except UserError as error:
            print(error)
    """
    said = in_project(render(), "-c", code).stdout
    assert said == "[1.5, 0.75]\nloss.args.weight: the task has no class counts; set a list\n"


def test_a_class_that_is_never_right_is_named(render: Render) -> None:
    code = """if True:
        import torch
        from my_project.engine.metrics import Confusion, by_class, class_table
        metrics, logits = Confusion(4, "cpu"), torch.eye(4)[[0, 0, 0, 1, 1, 0]]
        metrics.update(logits, (logits, torch.tensor([0, 0, 1, 1, 1, 2])))
        rows = by_class(metrics, ["a", "b", "longer", "d"])
        print(*class_table(rows), sep="\\n")
        assert rows["longer"] == {"f1": 0, "precision": None, "recall": 0, "samples": 1}
        assert [*by_class(metrics, [])] == ["0", "1", "2", "3"]
        assert by_class(object(), ["a"]) == by_class(object(), 4) == {}
        print(*class_table({"a": {"r2": 0.5}}, "target"), sep="\\n")
        many = {str(n): {"f1": n / 30, "samples": 3} for n in range(30)}
        first, *lines = class_table(many)
        assert [line.split()[0] for line in lines[:10]] == [str(n) for n in range(10)]
        assert lines[10:] == [
            "the worst 10 of 30; --json prints all",
            "warning: no correct prediction for 1 of 30 classes: 0",
        ]
    """
    assert in_project(render(), "-c", code).stdout.splitlines() == [
        "class          f1  precision     recall    samples",
        "longer     0.0000          -     0.0000          1",
        "a          0.6667     0.5000     1.0000          2",
        "b          0.8000     1.0000     0.6667          3",
        "d               -          -          -          0",
        "warning: no correct prediction for 1 of 4 classes: longer",
        "target         r2",
        "a          0.5000",
    ]


def test_test_prints_each_class_and_needs_no_training_data(render: Render, tmp_path: Path) -> None:
    project = shutil.copytree(render(), tmp_path / "project")
    few = ["run.name=a-run", "run.device=cpu", "model.args.width=2", "train.epochs=1", "train.limit_batches=1"]
    balanced = ["data.sampling=balanced", "loss.args.weight=balanced"]
    in_project(project, "-m", "my_project", "train", *few, *balanced)
    shutil.rmtree(project / "data" / "train")
    (project / "data" / "train").mkdir()
    lines = in_project(project, "-m", "my_project", "test").stdout.splitlines()
    assert lines[3].split() == ["class", "f1", "precision", "recall", "samples"]
    assert sorted(line.split()[0] for line in lines[4:14]) == [str(digit) for digit in range(10)]
    assert lines[14].startswith("  warning: no correct prediction for ")
    figures = json.loads(in_project(project, "-m", "my_project", "test", "--json").stdout)
    assert [*figures] == ["checkpoint", "split", "loss", "acc", "per_class"]
    assert [row["samples"] for row in figures["per_class"].values()] == [20] * 10


def test_a_training_of_few_steps_is_warned_of_unless_it_is_a_trial(render: Render) -> None:
    code = """if True:
        from types import SimpleNamespace
        from my_project.config import load
        from my_project.engine.state import warn_if_short
        from my_project.options import Config
        loader = SimpleNamespace(dataset=range(91))
        def train(batches, *settings):
            print(*settings, end=": ")
            config = load(Config, ["configs/train.yaml"], settings)
            warn_if_short(config, loader, config.train.epochs * -(-batches // config.train.accumulate))
            print()
        train(1, "data.batch_size=256")
        train(3, "train.accumulate=2")
        train(5)
        train(1, "train.epochs=2")
        train(1, "train.limit_batches=1")
        train(1, "train.overfit_batches=1")
    """
    advice = "lower data.batch_size or raise train.epochs"
    assert in_project(render(), "-c", code).stdout.split("\n") == [
        f"data.batch_size=256: warning: 20 steps in all (91 samples, batch size 256, 20 epochs): {advice}",
        "",
        f"train.accumulate=2: warning: 40 steps in all (91 samples, batch size 64, 20 epochs): {advice}",
        "",
        ": ",
        "train.epochs=2: ",
        "train.limit_batches=1: ",
        "train.overfit_batches=1: ",
        "",
    ]
