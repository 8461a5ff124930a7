"""A bag of n-grams: the first thing to try, and hard to beat with few texts."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PRIME, MODULUS = 1_000_003, 2**31 - 1  # of a rolling hash; their product fits into 64 bits


class Embedding(nn.Module):
    """Sums the vectors of the n-grams that begin at a token, or at any token of a text.

    The vector of an n-gram is that of its hash, which it may share with other n-grams. In training,
    n-grams are dropped at random, so that a model doesn't memorize whole words.
    """

    def __init__(self, width: int, dropout: float, longest: int, buckets: int) -> None:
        super().__init__()
        self.dropout, self.longest, self.buckets = dropout, longest, buckets
        self.vectors = nn.EmbeddingBag(buckets, width, mode="sum")
        nn.init.normal_(self.vectors.weight, std=0.1)

    def forward(self, ids: Tensor, whole: bool) -> Tensor:
        """Map ids (N, L), int64, 0 for padding, to vectors.

        These are the sums at each token (N, L, width) or, if `whole`, the means (N, width).
        """
        hashes, inside = list[Tensor](), list[Tensor]()
        code = torch.zeros_like(ids)
        for extra in range(self.longest):  # n-grams of `extra` + 1 tokens
            token = F.pad(ids[:, extra:], (0, min(extra, ids.shape[1])))
            code = (code * PRIME + token) % MODULUS
            hashes.append(code % self.buckets)
            inside.append(token != 0)
        places = torch.stack(hashes, dim=2).view(-1, self.longest)
        counts = torch.stack(inside, dim=2).to(self.vectors.weight.dtype)
        weights = F.dropout(counts, self.dropout, self.training)
        if whole:
            shares = weights.flatten(1) / counts.sum(dim=(1, 2))[:, None]
            return self.vectors(places.view(ids.shape[0], -1), per_sample_weights=shares)
        vectors = self.vectors(places, per_sample_weights=weights.view_as(places))
        return vectors.view(*ids.shape, -1)


class NGrams(nn.Module):
    """Classifies the mean of a text's n-grams (Joulin et al., 2016).

    To drop some of them is the word dropout of Iyyer et al. (2015).
    """

    def __init__(self, num_classes: int, embedding: Embedding, width: int) -> None:
        super().__init__()
        self.embedding, self.head = embedding, nn.Linear(width, num_classes)

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids (N, L), int64, 0 for padding, to logits (N, num_classes)."""
        return self.head(self.embedding(ids, whole=True))


def ngrams(
    num_classes: int,
    width: int = 32,
    dropout: float = 0.5,
    longest: int = 5,
    buckets: int = 30_000,
) -> NGrams:
    """A bag of n-grams of up to `longest` tokens, with `buckets` vectors of `width` numbers."""
    return NGrams(num_classes, Embedding(width, dropout, longest, buckets), width)
