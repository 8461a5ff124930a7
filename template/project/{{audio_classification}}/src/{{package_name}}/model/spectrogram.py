"""Log-mel spectrograms (loudness by time and frequency), computed by the model on its device."""

import math

import torch
from torch import Tensor, nn

WINDOW, HOP = 0.025, 0.010  # seconds
FLOOR = 1e-6  # added to the power: silence is about -60 dB of full scale


def mel_points(count: int, sample_rate: int) -> Tensor:
    """`count` frequencies in Hz up to half the sample rate, equally spaced in mel.

    mel = 2595 * log10(1 + hertz / 700), as in HTK.
    """
    highest = 2595 * math.log10(1 + sample_rate / 2 / 700)
    mels = torch.linspace(0, highest, count, dtype=torch.float64)
    return 700 * (10 ** (mels / 2595) - 1)


class LogMel(nn.Module):
    """Maps sounds (N, T) to float32 (N, mels, 1 + T // hop): log power in triangular mel bands.

    There is one column every 10 ms, from a Hann window of 25 ms.
    """

    def __init__(self, sample_rate: int, mels: int) -> None:
        super().__init__()
        self.window_length, self.hop = round(WINDOW * sample_rate), round(HOP * sample_rate)
        self.size = 2 ** math.ceil(math.log2(self.window_length))
        points = mel_points(mels + 2, sample_rate)
        hertz = torch.linspace(0, sample_rate / 2, self.size // 2 + 1, dtype=torch.float64)[:, None]
        low, centre, high = points[:-2], points[1:-1], points[2:]
        rising, falling = (hertz - low) / (centre - low), (high - hertz) / (high - centre)
        filters = torch.minimum(rising, falling).clamp(min=0)
        if not filters.any(dim=0).all():
            raise ValueError(f"{mels} mel bands are too many at {sample_rate} samples a second")
        # Not in checkpoints: they follow from the options.
        self.register_buffer("filters", filters.float(), persistent=False)
        self.register_buffer("window", torch.hann_window(self.window_length), persistent=False)

    def forward(self, sounds: Tensor) -> Tensor:
        # In float32 for any train.precision, because the range of powers exceeds that of fp16.
        with torch.autocast(sounds.device.type, enabled=False):
            spectrum = torch.stft(
                sounds.float(),
                self.size,
                self.hop,
                self.window_length,
                self.get_buffer("window").float(),
                pad_mode="constant",
                return_complex=True,
            )
            power = spectrum.real.square() + spectrum.imag.square()
            bands = power.transpose(1, 2) @ self.get_buffer("filters").float()
            return (bands + FLOOR).log().transpose(1, 2)
