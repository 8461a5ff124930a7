"""A recurrent network: the first thing to try."""

from torch import Tensor, nn


class GRU(nn.Module):
    """An embedding, gated recurrent units (Cho et al., 2014), and a score for each next token."""

    def __init__(self, vocab_size: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, width // 2)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(width // 2, width, layers, batch_first=True)
        self.head = nn.Linear(width, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (N, L), int64, to logits (N, L, vocab_size) of the next tokens."""
        return self.step(tokens)[0]

    def step(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Like `forward`, but from the state of an earlier step; also returns the new state."""
        hidden, state = self.gru(self.dropout(self.embed(tokens)), state)
        return self.head(self.dropout(hidden)), state


def gru(vocab_size: int, width: int = 192, layers: int = 1, dropout: float = 0.1) -> GRU:
    """A GRU; `width` is the size of its state."""
    return GRU(vocab_size, width, layers, dropout)
