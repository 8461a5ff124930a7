"""Reads sound files as one channel, and resamples them."""

import importlib
import importlib.util
import math
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError

WAV = (".wav", ".wave")
OTHER = (".aif", ".aiff", ".flac", ".mp3", ".oga", ".ogg", ".opus")  # need the package soundfile
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # formats of WAV files
STREAMED = 0x7FFFF000  # a size from here on means unknown: the file was written to a pipe
MAX_SAMPLES = 100_000_000  # of all channels: 38 minutes at 44,100 Hz; needs about 3 GB of memory
LOUDEST = 100.0  # floats beyond this are not samples from -1 to 1
ADVICE = "convert it to PCM (ffmpeg -i FILE OUT.wav) or remove it"


def need_soundfile(files: Sequence[Path]) -> None:
    """Raise UserError if some of `files` need the package soundfile, and it is not installed."""
    others = [path for path in files if path.suffix.lower() in OTHER]
    if others and not importlib.util.find_spec("soundfile"):
        kinds = ", ".join(sorted({path.suffix.lower() for path in others}))
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        ways = "`pip install soundfile`, or convert to WAV"
        raise UserError(f"{others[0]}{more}: {kinds} needs the package soundfile; {ways}")


def read(path: Path) -> tuple[Tensor, int]:
    """Return samples, float32 (T,) from -1 to 1, the mean of all channels; and the rate in Hz.

    Raises UserError if the file is missing, empty, damaged, or of an unknown format.
    """
    try:
        refuse_long(path, path.stat().st_size // 8)  # before reading; samples have 8 bytes or less
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give a sound file") from error
    if not content:
        raise UserError(f"{path}: the file is empty; remove it")
    decode = _read_other if path.suffix.lower() in OTHER else _read_wav
    samples, rate = decode(path, content)
    if not len(samples):
        raise UserError(f"{path}: holds no sound; remove it")
    with np.errstate(all="ignore"):
        mono = samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    if not np.abs(mono).max() < LOUDEST:  # true for NaN, too
        raise UserError(f"{path}: has samples that are not from -1 to 1; {ADVICE}")
    return torch.from_numpy(mono), rate


def refuse_long(path: Path, count: int) -> None:
    """Raise UserError if a sound of `count` samples may not fit in memory."""
    if count > MAX_SAMPLES:
        most = f"more than MAX_SAMPLES in data/wav.py, {MAX_SAMPLES:,}"
        raise UserError(f"{path}: has {most}; cut it into several, or raise that")


def _read_other(path: Path, content: bytes) -> tuple[NDArray[Any], int]:
    """Samples (T, channels) and rate, read with libsndfile."""
    need_soundfile([path])
    parts = list[NDArray[np.float32]]()
    try:
        soundfile: Any = importlib.import_module("soundfile")
        with soundfile.SoundFile(os.fsencode(path)) as file:
            # In parts: a damaged header may give a length that does not fit in memory.
            frames = max(1, (1 << 20) // file.channels)
            while len(part := file.read(frames, dtype="float32", always_2d=True)):
                parts.append(part)
                refuse_long(path, sum(part.size for part in parts))
            rate = file.samplerate
    except UserError:
        raise
    except Exception as error:  # of soundfile, or for a missing library
        reason = getattr(error, "error_string", str(error)).rstrip(".")
        raise UserError(f"{path}: cannot be read ({reason}); {ADVICE}") from error
    return np.concatenate(parts or [np.zeros((0, 1), np.float32)]), rate


def _read_wav(path: Path, content: bytes) -> tuple[NDArray[Any], int]:
    """Samples (T, channels) and rate of a WAV file: PCM of 8 to 32 bits, floats of 32 or 64."""
    header, data = _chunks(path, content)
    code, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", header)
    if code == EXTENSIBLE and len(header) >= 26:
        code = struct.unpack_from("<H", header, 24)[0]
    width = (bits + 7) // 8
    if code not in (PCM, FLOAT) or width not in ((1, 2, 3, 4) if code == PCM else (4, 8)):
        kind = {PCM: "PCM", FLOAT: "floats"}.get(code, f"compressed, format {code}")
        raise UserError(f"{path}: a WAV file of {bits} bits ({kind}); {ADVICE}")
    if not channels or not rate or block != channels * width:
        sizes = f"{channels} channels of {bits} bits in {block} bytes, {rate} a second"
        raise UserError(f"{path}: a damaged header ({sizes}); {ADVICE}")
    refuse_long(path, len(data) // width)
    data = data[: len(data) // block * block]
    samples = np.frombuffer(data, f"<f{width}") if code == FLOAT else _decode(data, width)
    return samples.reshape(-1, channels), rate


def _chunks(path: Path, content: bytes) -> tuple[bytes, bytes]:
    """The chunks `fmt ` and `data` of a WAV file."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise UserError(f"{path}: not a WAV file; {ADVICE}")
    header, at = b"", 12
    while at + 8 <= len(content):
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        chunk = content[at + 8 : at + 8 + size]
        if name == b"fmt ":
            header = chunk
        elif name == b"data":
            if len(header) < 16:
                break
            if len(chunk) < size < STREAMED:
                sizes = f"it has {len(chunk)} of {size} bytes"
                raise UserError(f"{path}: cut short: {sizes}; remove it")
            return header, chunk
        at += 8 + size + size % 2
    raise UserError(f"{path}: not a WAV file: it has no format or no data; {ADVICE}")


def _decode(data: bytes, width: int) -> NDArray[Any]:
    """PCM samples of `width` bytes as floats from -1 to 1: float32 where that is exact."""
    if width == 1:  # samples of 8 bits are unsigned
        return np.frombuffer(data, np.uint8).astype(np.float32) / 128.0 - 1
    padded = np.zeros((len(data) // width, 4), np.uint8)  # the upper bytes of an int32
    padded[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)
    whole = padded.view("<i4")[:, 0]
    return (whole.astype(np.float32) if width < 4 else whole) / 2.0**31


def resample(samples: Tensor, old: int, new: int, zeros: int = 16) -> Tensor:
    """Resample (T,) from `old` to `new` samples a second: float32 (ceil(T * new / old),).

    Band-limited interpolation (Smith and Gossett, 1984): a sinc of `zeros` crossings on each side
    under a Hann window removes the frequencies that the new rate can't represent (no aliasing).
    """
    divisor = math.gcd(old, new)
    old, new = old // divisor, new // divisor
    if old == new:
        return samples
    cutoff = 0.95 * min(1, new / old)  # relative to half the old rate; room for the slope
    reach = math.ceil(zeros / cutoff)  # old samples on each side
    # One filter for each position that a new sample can have between two old ones.
    place = torch.arange(new, dtype=torch.float64)[:, None] * old / new
    distance = torch.arange(-reach, old + reach, dtype=torch.float64) - place
    window = torch.cos(torch.pi / 2 * (distance / reach).clamp(-1, 1)) ** 2
    filters = (cutoff * torch.sinc(cutoff * distance) * window).float()
    padded = F.pad(samples, (reach, reach + old))
    parts = F.conv1d(padded[None, None], filters[:, None], stride=old)
    return parts[0].T.reshape(-1)[: math.ceil(len(samples) * new / old)]
