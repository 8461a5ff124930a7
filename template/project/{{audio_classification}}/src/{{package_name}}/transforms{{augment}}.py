"""Custom data augmentation: any function here can be named in `data.transforms`.

A transform takes a sound, its target and a random generator, and returns sound and target. If
targets have times (a class has none), shift them with the sound. Sounds are float32 tensors (T,)
from -1 to 1, of any length. Draw all random numbers from `rng`, so that runs are reproducible.
"""

import numpy as np
import torch
from torch import Tensor


def random_crop(
    sound: Tensor, target: int, rng: np.random.Generator, least: float = 0.5
) -> tuple[Tensor, int]:
    """Crop a random part, of a length from the fraction `least` up to the whole sound.

    Only the middle `data.seconds` of the part is used. For sounds that are ten times as long, set
    `least` to 0.1, so that training uses all parts of them.
    """
    share, place = rng.uniform(least, 1), rng.random()
    length = max(1, round(share * len(sound)))
    start = round(place * (len(sound) - length))
    return sound[start : start + length], target


def random_gain(
    sound: Tensor, target: int, rng: np.random.Generator, decibels: float = 6.0
) -> tuple[Tensor, int]:
    """Make it louder or softer by up to `decibels`; samples beyond -1 and 1 are clipped."""
    factor = 10 ** (rng.uniform(-decibels, decibels) / 20)
    return (sound * factor).clamp(-1, 1), target


def random_noise(
    sound: Tensor, target: int, rng: np.random.Generator, least: float = 15.0, most: float = 40.0
) -> tuple[Tensor, int]:
    """Add white noise that is `least` to `most` decibels softer than the sound."""
    level = sound.square().mean().sqrt() * 10 ** (-rng.uniform(least, most) / 20)
    noise = rng.standard_normal(len(sound), dtype=np.float32)
    return sound + level * torch.from_numpy(noise), target


def random_mask(
    sound: Tensor, target: int, rng: np.random.Generator, p: float = 0.5, share: float = 0.2
) -> tuple[Tensor, int]:
    """Silence up to `share` of the sound: SpecAugment's time mask (Park et al., 2019)."""
    if rng.random() >= p:
        return sound, target
    length = round(rng.uniform(0, share) * len(sound))
    start = rng.integers(0, len(sound) - length + 1)
    sound = sound.clone()
    sound[start : start + length] = 0
    return sound, target


def random_band(
    sound: Tensor, target: int, rng: np.random.Generator, p: float = 0.5, share: float = 0.1
) -> tuple[Tensor, int]:
    """Remove up to `share` of the frequencies: like SpecAugment's frequency mask."""
    if rng.random() >= p:
        return sound, target
    spectrum = torch.fft.rfft(sound)
    count = round(rng.uniform(0, share) * len(spectrum))
    start = rng.integers(0, len(spectrum) - count + 1)
    spectrum[start : start + count] = 0
    return torch.fft.irfft(spectrum, len(sound)), target
