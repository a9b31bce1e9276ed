"""Training the second stage: a transformer over the codes that a codec makes of pictures.

    codes = encode_pictures(codec, pictures, size=64, labels=classes)          # once; the codec is not needed again
    held, seen = codes.split(0.05)
    for report in train_tokens(model, seen, LoopConfig(minutes=30), out, batch=64, validation=held): print(report)

A share of the labels is left out, so that one model knows pictures of a class and pictures of any: what guidance
compares. The loss is the cross-entropy of a token in nats; what is validated is bits a token, which a codec's picture
then takes: tokens times that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.data.batches import Order, own_rows
from bahumukha.errors import ImageError, UsageError
from bahumukha.evaluate.vqgan import check_size, pixels_of
from bahumukha.images import open_image
from bahumukha.models.tokens import TokenTransformer
from bahumukha.protocols import ImageCodec
from bahumukha.train import processes
from bahumukha.train.loop import LoopConfig, Report, train

ENCODED_AT_ONCE = 16
"""Pictures a batch through the codec."""


@dataclass(frozen=True)
class Codes:
    """The codes of many pictures of one size."""

    ids: Tensor
    """int64 (N, rows, columns)."""
    labels: Tensor | None = None
    """int64 (N,), the class of each; None where there are none."""

    def __len__(self) -> int:
        return len(self.ids)

    def split(self, share: float, seed: int = 0) -> tuple[Codes, Codes]:
        """A random `share` of the pictures, and the rest. Raises UsageError when either would be empty."""
        count = round(share * len(self))
        if not 0 < count < len(self):
            raise UsageError(f"share: {share} of {len(self)} pictures leaves a part empty")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self._rows(order[:count]), self._rows(order[count:])

    def _rows(self, places: Tensor) -> Codes:
        return Codes(self.ids[places], None if self.labels is None else self.labels[places])


class TokenBatch(NamedTuple):
    """ids int64 (B, rows * columns); labels int64 (B,), some of them the one for no class."""

    ids: Tensor
    labels: Tensor | None


@torch.no_grad()  # not inference_mode: what it makes could not be trained on
def encode_pictures(
    codec: ImageCodec,
    pictures: Sequence[Path | bytes],
    *,
    size: int,
    labels: Sequence[int] | None = None,
    failed: Callable[[ImageError], None] | None = None,
) -> Codes:
    """The middle squares of pictures, brought to `size` pixels, as codes.

    failed: called with the error of each picture that cannot be read, which is then left out with its label; without it
      the error is raised. Raises UsageError for a size that the codec does not take, or no pictures.
    """
    check_size(codec, size)
    if labels is not None and len(labels) != len(pictures):
        raise UsageError(f"labels: {len(labels)} were given for {len(pictures)} pictures")
    kept: list[int] = []
    pixels: list[Tensor] = []
    rows: list[Tensor] = []

    def encode() -> None:
        if pixels:
            rows.append(codec.quantize(codec.encode(2 * torch.stack(pixels) - 1))[1])
            pixels.clear()

    for number, picture in enumerate(pictures):
        try:
            pixels.append(pixels_of(open_image(picture, at_least=size), size))
        except ImageError as error:
            if failed is None:
                raise
            failed(error)
            continue
        kept.append(number)
        if len(pixels) == ENCODED_AT_ONCE:
            encode()
    encode()
    if not rows:
        raise UsageError("no pictures to encode" if not pictures else "none of the pictures could be read")
    chosen = None if labels is None else torch.tensor([labels[number] for number in kept])
    return Codes(torch.cat(rows), chosen)


class TokenBatches:
    """`Addressable` batches of codes: each picture once a round, in another order each round."""

    def __init__(
        self,
        codes: Codes,
        batch: int,
        *,
        no_label: int,
        drop_label: float = 0.1,
        seed: int = 0,
        rank: int = 0,
        parts: int = 1,
    ):
        """`drop_label`: share of the labels that become `no_label`. Part `rank` of `parts` when processes share them.

        Raises UsageError if `parts` does not divide `batch`.
        """
        if batch < 1:
            raise UsageError(f"batch: {batch} pictures were given; it takes a whole number above 0")
        if not 0 <= drop_label <= 1:
            raise UsageError(f"drop_label: {drop_label} was given; it takes a share from 0 to 1")
        self.codes, self.batch, self.seed = codes, batch, seed
        self.rows = own_rows(batch, rank, parts)
        self.no_label, self.drop_label = no_label, drop_label
        self.order = Order([len(codes)], [1.0], seed)

    def starting_at(self, number: int) -> Iterator[TokenBatch]:
        """Batch `number` and those after it, for ever."""
        while True:
            yield self._batch(number)
            number += 1

    def _batch(self, number: int) -> TokenBatch:
        first = number * self.batch
        places = torch.tensor([self.order[first + row][1] for row in self.rows])
        labels = None
        if self.codes.labels is not None:
            dropped = np.random.default_rng([self.seed, number]).random(self.batch)[list(self.rows)] < self.drop_label
            labels = self.codes.labels[places].masked_fill(torch.from_numpy(dropped), self.no_label)
        return TokenBatch(self.codes.ids[places].flatten(1), labels)


def token_loss(model: TokenTransformer, batch: TokenBatch) -> Tensor:
    """Mean cross-entropy of a token, in nats."""
    device = model.head.weight.device
    ids = batch.ids.to(device)
    labels = None if batch.labels is None else batch.labels.to(device)
    return F.cross_entropy(model(ids, labels).flatten(0, 1).float(), ids.flatten())


def bits_per_token(model: TokenTransformer, codes: Codes, batch: int = 64) -> float:
    """What a token of these pictures costs, given its class and what stands before it; log2(codes) is not knowing."""
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(codes), batch):
            part = codes.labels[start : start + batch] if codes.labels is not None else None
            ids = codes.ids[start : start + batch].flatten(1)
            total += len(ids) * float(token_loss(model, TokenBatch(ids, part)))
    return total / len(codes) / math.log(2)


def train_tokens(
    model: TokenTransformer,
    codes: Codes,
    config: LoopConfig,
    out: Path,
    *,
    batch: int = 64,
    drop_label: float = 0.1,
    validation: Codes | None = None,
    resume: bool = False,
) -> Iterator[Report]:
    """Train in place on the shared loop (`train.loop.train`), with everything it does; the score is `bits_per_token`.

    Raises UsageError before the first step when the codes are not those of the model.
    """
    for each in (codes, validation):
        if each is not None:
            _check_codes(model, each)
    batches = TokenBatches(
        codes,
        batch,
        no_label=model.no_label,
        drop_label=drop_label,
        seed=config.seed,
        rank=processes.rank(),
        parts=processes.count(),
    )

    def step(tokens: TokenBatch) -> dict[str, Tensor]:
        return {"loss": token_loss(model, tokens)}

    def validate(trained: nn.Module) -> dict[str, float]:
        assert isinstance(trained, TokenTransformer) and validation is not None
        return {"bits_per_token": bits_per_token(trained, validation, batch)}

    return train(model, batches, step, config, out, resume, validate=validate if validation is not None else None)


def _check_codes(model: TokenTransformer, codes: Codes) -> None:
    c = model.config
    if tuple(codes.ids.shape[1:]) != c.grid:
        have, want = (" x ".join(map(str, grid)) for grid in (codes.ids.shape[1:], c.grid))
        raise UsageError(f"the pictures are grids of {have} codes and the transformer's grid is {want}")
    if int(codes.ids.max()) >= c.codes:
        raise UsageError(f"the pictures have the code {int(codes.ids.max())}; the transformer knows 0 to {c.codes - 1}")
    if codes.labels is not None and not 0 <= int(codes.labels.min()) <= int(codes.labels.max()) < max(c.classes, 1):
        raise UsageError(
            f"the labels go from {int(codes.labels.min())} to {int(codes.labels.max())}; the transformer has"
            f" {c.classes} classes"
        )
    if codes.labels is not None and not c.classes:
        raise UsageError("the pictures have labels and the transformer no classes; set classes, or leave them out")
