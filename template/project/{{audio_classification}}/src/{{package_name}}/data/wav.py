"""WAV files, with the standard library: read as one channel, and brought to another rate."""

import math
import wave
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError

ADVICE = "convert it to PCM (ffmpeg -i FILE OUT.wav) or remove it"


def read_wav(path: Path) -> tuple[Tensor, int]:
    """Samples, float32 (T,) from -1 to 1, the mean of all channels; and how many make a second.

    It reads PCM of 8, 16, 24 and 32 bits. Raises UserError if the file is missing, empty, cut
    short, compressed, of floats or no WAV file.
    """
    try:
        with wave.open(str(path)) as file:
            channels, width, rate, count = file.getparams()[:4]
            data = file.readframes(count)
    except Exception as error:  # wave raises half a dozen kinds
        if not path.exists():
            raise UserError(f"{path}: No such file") from error
        if path.is_file() and not path.stat().st_size:
            raise UserError(f"{path}: the file is empty; remove it") from error
        reason = str(error) or "it ends too early"
        if isinstance(error, OSError):
            reason = error.strerror or reason
        elif reason.startswith("unknown"):  # names the format's number
            reason = f"floats or compressed: {reason}"
        raise UserError(f"{path}: not a WAV file that can be read ({reason}); {ADVICE}") from error
    if width > 4:
        raise UserError(f"{path}: {8 * width} bits a sample are too many; {ADVICE}")
    there = len(data) // (channels * width)
    if there < count:
        raise UserError(f"{path}: cut short: {there} of {count} samples are there; remove it")
    if not count or rate < 1:
        raise UserError(f"{path}: holds no sound; remove it")
    samples = _decode(data, width).reshape(-1, channels).mean(axis=1)
    return torch.from_numpy(samples.astype(np.float32)), rate


def _decode(data: bytes, width: int) -> NDArray[np.float64]:
    """Samples of `width` bytes as floats from -1 to 1."""
    if width == 1:  # the only one without a sign
        return np.frombuffer(data, np.uint8) / 128.0 - 1
    padded = np.zeros((len(data) // width, 4), np.uint8)  # the upper bytes of an int32
    padded[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)
    return padded.view("<i4")[:, 0] / 2.0**31


def resample(samples: Tensor, old: int, new: int, zeros: int = 16) -> Tensor:
    """Samples (T,) at `old` a second to float32 (ceil(T * new / old),) at `new` a second.

    Band-limited interpolation (Smith and Gossett, 1984): a sinc of `zeros` crossings on each side
    under a Hann window, so what the new rate can't hold is left out instead of mirrored.
    """
    divisor = math.gcd(old, new)
    old, new = old // divisor, new // divisor
    if old == new:
        return samples
    cutoff = 0.95 * min(1, new / old)  # of half the old rate; the rest is for the filter's slope
    reach = math.ceil(zeros / cutoff)  # old samples on each side
    # One filter for each place that a new sample can have between two old ones.
    place = torch.arange(new, dtype=torch.float64)[:, None] * old / new
    distance = torch.arange(-reach, old + reach, dtype=torch.float64) - place
    window = torch.cos(torch.pi / 2 * (distance / reach).clamp(-1, 1)) ** 2
    filters = (cutoff * torch.sinc(cutoff * distance) * window).float()
    padded = F.pad(samples, (reach, reach + old))
    parts = F.conv1d(padded[None, None], filters[:, None], stride=old)
    return parts[0].T.reshape(-1)[: math.ceil(len(samples) * new / old)]
