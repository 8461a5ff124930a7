"""What this project is about: all that the engine knows of your data, models and pictures.

`engine/contract.py` says what each method is for.
"""

import math
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from .components import build_loss, build_model, extra
from .config import locate
from .data.dataloader import Batch, eval_loader, train_loader
from .data.dataset import (
    END,
    UNKNOWN,
    Vocabulary,
    Windows,
    decode,
    find_texts,
    read_folder,
    read_text,
    stack,
)
from .data.options import Data
from .data.splits import unpack_sample
from .errors import UserError
from .options import Config
from .visualization import plots


class Surprise:
    """`bpc`, the bits per character, and `ppl`, the perplexity per token.

    Both measure how likely the text is for the model, whatever the loss is. A uniform guess among
    C characters has a `bpc` of log2(C) and a `ppl` of C.
    """

    def __init__(self, begins: Tensor, device: torch.device | str) -> None:
        """`begins` (C,) is the number of characters that start with a token: 0 for some bytes."""
        self.begins = begins.to(device)
        exact = torch.float32 if self.begins.device.type == "mps" else torch.float64
        self.nats = torch.zeros((), dtype=exact, device=device)
        self.characters = torch.zeros((), dtype=torch.int64, device=device)
        self.tokens = 0

    def update(self, logits: Tensor, batch: Batch) -> None:
        """Add logits (N, L, C) and a batch of inputs and targets (N, L)."""
        self.nats += nats(logits.detach(), batch[1]).sum()
        self.characters += self.begins[batch[1]].sum()
        self.tokens += batch[1].numel()

    def compute(self) -> dict[str, float]:
        total, tokens, characters = float(self.nats), self.tokens, int(self.characters)
        if not characters:
            return {"bpc": math.nan, "ppl": math.nan}
        # Capped where it would be too large for a float.
        ppl = math.exp(min(total / tokens, 700))
        return {"bpc": total / math.log(2) / characters, "ppl": ppl}

    def state(self) -> dict[str, Any]:
        return {"nats": self.nats, "characters": self.characters, "tokens": self.tokens}

    def merge(self, states: list[dict[str, Any]]) -> None:
        for state in states:
            self.nats += state["nats"].to(self.nats.device)
            self.characters += state["characters"].to(self.nats.device)
            self.tokens += state["tokens"]


def nats(logits: Tensor, targets: Tensor) -> Tensor:
    """The surprise -log p of each target (N, L) for logits (N, L, C), float32 (N, L)."""
    losses = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return losses.view(targets.shape)


class Task:
    """The task: predict the next token."""

    def __init__(self, config: Config, device: torch.device, info: dict[str, Any] | None = None):
        self.config, self.data, self.device = config, config.data, device
        self.folder = locate(config.data.folder, inside=True)
        kind = None
        if self.data.tokens == "subwords":
            kind = extra("transformers", "data.tokens=subwords: needs").vocabulary()
        if info is None:
            unpack_sample(self.folder)
            info = {"characters": None}
            if self.data.tokens == "characters":
                found = set[str]()
                for _, text in read_folder(self.folder / "train"):
                    found.update(text)
                info["characters"] = "".join(sorted(found))
            if kind:
                info["subwords"] = kind.read(config.model.args.get("name")).state()
        if bool(kind) != ("subwords" in info):
            raise UserError("data.tokens: must stay as the model was trained")
        self.info, self.vocabulary = info, Vocabulary(info["characters"])
        if kind:
            self.vocabulary = kind(**info["subwords"])
        self.loss_function = build_loss(config.loss)
        if isinstance(self.loss_function, nn.Module):
            self.loss_function.to(device)

    def _windows(self, split: str, room: int = 0) -> Windows:
        unpack_sample(self.folder)
        return Windows(self.folder / split, self.vocabulary, self.data.context, room)

    def train_loader(self) -> DataLoader[Batch]:
        windows = self._windows("train", room=self.data.context)
        return train_loader(windows, self.config, partial(stack, context=self.data.context))

    def eval_loader(self, split: str) -> DataLoader[Batch]:
        return eval_loader(self._windows(split), self.config)

    def build_model(self) -> nn.Module:
        given: dict[str, Any] = {"vocab_size": len(self.vocabulary), "info": self.info}
        given |= {"context": self.data.context}
        self.model = build_model(self.config.model, **given)  # to generate text after a test
        return self.model

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        return model(batch[0])

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The loss of all tokens: windows have equal lengths, so it is a mean of windows too."""
        return self.loss_function(outputs.flatten(0, 1), batch[1].flatten())

    def metrics(self) -> Surprise:
        return Surprise(self.vocabulary.begins, self.device)

    def draw_batch(self, batch: Batch, folder: Path) -> Path:
        signs, windows = self.vocabulary.signs, batch[0][:16].tolist()
        rows = [[sign for token in row for sign in signs[token] or [""]] for row in windows]
        plots.batch_page(rows, folder / "train.png")
        return folder / "train.png"

    def draw_results(self, outputs: Iterable[tuple[Tensor, Batch]], folder: Path) -> list[Path]:
        """Draw the surprise of each character, and by position; write generated texts."""
        rows, read = list[Tensor](), list[Tensor]()
        for logits, (_, targets) in outputs:
            rows.append(nats(logits, targets) / math.log(2))
            read.append(targets)
        bits, windows = torch.cat(rows), torch.cat(read)
        start = zip(windows.flatten()[: plots.PAGE].tolist(), bits.flatten().tolist(), strict=False)
        found = [(s, b) for token, b in start for s in self.vocabulary.signs[token] or [""]]
        signs, costs = zip(*found[: plots.PAGE], strict=True)
        label = f"bits per {self.vocabulary.unit}"
        paths = [folder / name for name in ("surprise.png", "positions.png", "generated.txt")]
        plots.surprise_page(signs, costs, label, paths[0])
        plots.position_curve(bits.mean(dim=0), label, paths[1])
        begins = [windows[len(windows) * third // 3].tolist() for third in range(3)]
        prompts = map(self.vocabulary.decode, begins)
        texts = [f"{prompt} → {self.continuation(self.model, prompt)}\n" for prompt in prompts]
        plots.write(paths[2], lambda path: path.write_text("\n".join(texts), encoding="utf-8"))
        return paths

    def continuation(self, model: nn.Module, prompt: str) -> str:
        """The text generated after `prompt`: the same for the same prompt and `run.seed`."""
        special = self.vocabulary.end, self.vocabulary.unknown
        start = self.vocabulary.encode(prompt).tolist() or [self.vocabulary.end]
        seed = zlib.crc32(prompt.encode(), self.config.run.seed)
        tokens = generate(model, start, self.data, self.device, seed, *special)
        return self.vocabulary.decode(islice(tokens, self.data.generate))

    def predict(self, model: nn.Module, inputs: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Predict for text files, for all of those below folders, and for standard input (`-`).

        `map` continues with the next file after an error.
        """
        paths = (Path(name) if name == "-" else locate(name) for name in inputs)
        files = (f for path in paths for f in (find_texts(path) if path.is_dir() else [path]))
        return map(partial(self._predict, model), files)

    def _predict(self, model: nn.Module, file: Path) -> dict[str, Any]:
        if file == Path("-"):
            text = decode(sys.stdin.buffer.read(), "standard input")
        else:
            text = read_text(file)
        prompt = text.removesuffix("\n")  # editors add it to each file
        more = self.continuation(model, prompt)
        return {"file": str(file), "prompt": prompt, "continuation": more}

    def sentence(self, prediction: dict[str, Any]) -> str:
        """The file's name, then its text and, after an arrow, the generated text."""
        name = f"--- {prediction['file']}"
        return f"{name}\n{prediction['prompt']} → {prediction['continuation']}\n"


@torch.no_grad()
def generate(
    model: nn.Module,
    start: Sequence[int],
    options: Data,
    device: torch.device,
    seed: int,
    end: int = END,
    unknown: int | None = UNKNOWN,
) -> Iterator[int]:
    """Yield tokens after `start` until the document's `end`; the same ones for the same seed.

    The model sees at most `options.context` tokens. When these are full, it starts again from the
    newer half. A model without the method `step` reads all of them again for each token.
    """

    def reread(tokens: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        seen = tokens if seen is None else torch.cat([seen, tokens], dim=1)
        return model(seen), seen

    step: Callable[..., tuple[Tensor, Any]] = getattr(model, "step", reread)
    generator = torch.Generator().manual_seed(seed)
    known, fresh, state, seen = list(start), list(start), None, 0
    while known[-1] != end or len(known) == 1:
        if seen + len(fresh) > options.context:
            fresh, state, seen = known[-(options.context // 2) :], None, 0
        logits, state = step(torch.tensor([fresh], device=device), state)
        seen += len(fresh)
        fresh = [draw(logits[0, -1], options, generator, unknown)]
        known += fresh
        if fresh != [end]:
            yield fresh[0]


def draw(
    logits: Tensor, options: Data, generator: torch.Generator, unknown: int | None = UNKNOWN
) -> int:
    """Sample a token, but never `unknown`; with temperature 0, take the most likely."""
    scores = logits.float().cpu()
    if unknown is not None:
        scores[unknown] = -math.inf
    best, order = scores.topk(min(options.top_k or len(scores), len(scores)))
    if not options.temperature:
        return int(order[0])
    shares = ((best - best[0]) / options.temperature).softmax(dim=0)
    return int(order[torch.multinomial(shares, 1, generator=generator)])
