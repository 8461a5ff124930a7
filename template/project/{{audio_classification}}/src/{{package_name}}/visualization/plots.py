"""Pictures of this kind of data."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..model.spectrogram import FLOOR, HOP, LogMel, mel_points
from .charts import INK, confusion_matrix, curves, write

__all__ = ["batch_grid", "confusion_matrix", "curves", "spectrograms", "worst_mistakes"]

COLUMNS, MELS = 8, 40
TILE, LINE = (1.4, 1.2), 0.16  # inches: a spectrogram, a line of its title
MARKS = (250, 1000, 4000, 16000)  # Hz, on the axis of frequency


def spectrograms(sounds: ArrayLike, sample_rate: int) -> NDArray[np.float32]:
    """Log-mel spectrograms (N, MELS, frames) of sounds (N, T), in dB; low frequencies first."""
    waves = torch.from_numpy(np.nan_to_num(np.asarray(sounds, dtype=np.float32)))
    return LogMel(sample_rate, MELS)(waves).numpy() * (10 / math.log(10))


def batch_grid(sounds: ArrayLike, titles: Sequence[str], path: Path, sample_rate: int) -> None:
    """Save the spectrograms of sounds (N, T) in a grid, each with its title; bright is loud."""
    from matplotlib.figure import Figure

    images = spectrograms(sounds, sample_rate)
    count, height, width = images.shape
    columns = min(COLUMNS, count)
    rows, lines = math.ceil(count / columns), max(title.count("\n") + 1 for title in titles)
    # One image of all spectrograms is many times faster than axes for each.
    gap, above = math.ceil(0.06 * width), math.ceil((lines + 0.5) * LINE / TILE[1] * height)
    step_x, step_y = width + gap, height + above
    sheet = np.full((rows * step_y, columns * step_x - gap), np.nan)
    size = np.array([sheet.shape[1] / width * TILE[0], sheet.shape[0] / height * TILE[1]])
    left, right, bottom = 0.7, 0.9, 0.55  # inches around it
    whole = size + np.array([left + right, bottom])
    figure = Figure(tuple(whole), dpi=80)
    axes = figure.add_axes((left / whole[0], bottom / whole[1], *(size / whole)))
    for index, (image, title) in enumerate(zip(images, titles, strict=True)):
        row, column = divmod(index, columns)
        x, y = column * step_x, row * step_y + above
        sheet[y : y + height, x : x + width] = image[::-1]
        text = title.replace("$", r"\$")  # matplotlib reads $ as mathematics
        axes.text(x + width / 2, y - 2, text, ha="center", va="bottom", fontsize=9, color=INK)
    silence = 10 * math.log10(FLOOR)
    loudest = max(float(images.max()), silence + 20)
    shown = axes.imshow(sheet, cmap="magma", aspect="auto", interpolation="nearest")
    shown.set_clim(max(loudest - 60, silence), loudest)
    marks = [hertz for hertz in MARKS if hertz <= sample_rate / 2]
    centres = mel_points(MELS + 2, sample_rate)[1:-1].numpy()
    heights = height - 1 - np.interp(marks, centres, np.arange(MELS))
    places = [row * step_y + above + at for row in range(rows) for at in heights]
    axes.set_yticks(places, [f"{hertz / 1000:g}" for hertz in marks] * rows)
    last, shares = width - 1, (0, 0.5)
    places = [column * step_x + share * last for column in range(columns) for share in shares]
    axes.set_xticks(places, [f"{share * last * HOP:.2g}" for share in shares] * columns)
    axes.set(xlabel="seconds", ylabel="frequency in kHz")
    axes.tick_params(labelsize=8)
    axes.spines[:].set_visible(False)
    place = np.array([whole[0] - 0.75, bottom, 0.12, min(1.2, size[1])])
    bar = figure.add_axes(tuple(place / np.tile(whole, 2)))
    figure.colorbar(shown, bar, label="dB")
    write(path, figure.savefig)


def worst_mistakes(
    mistakes: Sequence[tuple[ArrayLike, str, str, float]], path: Path, sample_rate: int
) -> None:
    """Save sounds (T,) with their class, the predicted class and its probability."""
    titles = [f"{truth}\n→ {taken} {share:.0%}" for _, truth, taken, share in mistakes]
    silence = np.zeros((1, sample_rate))
    sounds = np.array([np.asarray(sound) for sound, _, _, _ in mistakes]) if mistakes else silence
    batch_grid(sounds, titles or ["no mistakes"], path, sample_rate)
