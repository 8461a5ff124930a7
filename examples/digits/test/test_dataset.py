from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from digits import transforms
from digits.components import defined_in
from digits.data.dataset import ClassFolder, read_image
from digits.data.utils import check_folder, split_folder
from digits.errors import UserError


def test_samples_are_images_with_the_index_of_their_folder(data_folder: Path) -> None:
    dataset = ClassFolder(data_folder / "train", None, size=12, channels=1)
    assert len(dataset) == 22
    for image, target in (dataset[0], dataset[21]):
        lit_half = int(image[0, :, 6:].mean() > image[0, :, :6].mean())
        assert dataset.classes[target] == ["left", "right"][lit_half]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_any_size_and_mode_becomes_one_shape(mode: str, channels: int, tmp_path: Path) -> None:
    path = tmp_path / "image.tiff"
    Image.new(mode, (31, 17)).save(path)
    image = read_image(path, size=8, channels=channels)
    assert (image.shape, image.dtype) == ((channels, 8, 8), torch.float32)
    assert 0 <= image.min() <= image.max() <= 1


@pytest.mark.parametrize("name", defined_in(transforms))
def test_a_transform_keeps_the_shape_and_repeats_with_its_generator(name: str) -> None:
    transform, image = defined_in(transforms)[name], torch.rand(3, 10, 14)
    before = image.clone()
    results = [transform(image, 1, np.random.default_rng(seed)) for seed in (*range(9), 0)]
    assert all(out.shape == image.shape and target == 1 for out, target in results)
    assert torch.equal(results[0][0], results[-1][0])
    assert any(not torch.equal(results[0][0], out) for out, _ in results)
    assert torch.equal(image, before)


def test_a_flat_folder_is_split_into_three_without_loss(data_folder: Path, tmp_path: Path) -> None:
    assert split_folder(data_folder / "train", tmp_path) == {"train": 18, "valid": 2, "test": 2}
    assert not check_folder(tmp_path)[1]
    with pytest.raises(UserError, match="already exists"):
        split_folder(data_folder / "train", tmp_path)
