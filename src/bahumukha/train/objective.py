"""One contrastive step: a batch of captioned pictures -> the loss, on one process or several, whole or in parts.

A contrastive loss is not a mean over parts of the batch: every picture competes with every sentence. So a batch that
does not fit is embedded part by part without keeping what the towers computed; the loss is taken of all embeddings;
and in the backward pass each part is embedded again, with gradients (GradCache: Gao et al., "Scaling Deep Contrastive
Learning Batch Size under Memory Limited Setup", 2021). That is `torch.utils.checkpoint` around each part: the graph is
that of the whole batch, and so is its gradient, dropout included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bahumukha.data.batches import Batch
from bahumukha.data.tokens import encode_texts
from bahumukha.images import Preprocess
from bahumukha.models.clip import Clip
from bahumukha.models.contrastive import contrastive_loss, contrastive_loss_of_part, sigmoid_loss
from bahumukha.train import processes
from bahumukha.train.clip_config import LossConfig


class ClipObjective:
    """`step` of `train.loop` for a CLIP; also what validation embeds with."""

    def __init__(
        self,
        model: Clip,
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        loss: LossConfig,
        micro_batches: int = 1,
    ):
        self.model, self.tokenizer, self.loss, self.micro_batches = model, tokenizer, loss, micro_batches
        self.device = model.log_scale.device
        mean, std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (preprocess.mean, preprocess.std))
        self._scale, self._shift = 1 / (255 * std), -mean / std

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Losses by name: `loss`, and to be watched the logit scale (and SigLIP's bias)."""
        images = self._embedded(self.model.encode_image, self.pixels(torch.from_numpy(batch.pixels)))
        texts = self._embedded(self.model.encode_text, *self.tokens(batch.texts))
        same = batch.same if self.loss.same_match else None
        positives = None if same is None else torch.from_numpy(same).to(self.device)
        losses = {"loss": self.contrast(images, texts, positives), "scale": self.model.logit_scale}
        if self.loss.kind == "siglip":
            losses["bias"] = self._bias()
        return losses

    # --- in ---------------------------------------------------------------------------------------------------

    def pixels(self, raw: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) -> normalised (B, 3, H, W), channels last in memory, as convolutions like it."""
        x = raw.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float()
        return x.mul_(self._scale).add_(self._shift)

    def tokens(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Sentences -> ids and mask (B, L)."""
        text = self.model.config.text
        ids, mask = encode_texts(self.tokenizer, texts, text.context_length, full=text.attention == "all")
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)

    # --- towers -----------------------------------------------------------------------------------------------

    def _embedded(self, encode: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Unit vectors float32 (B, dim)."""
        if self.micro_batches == 1:
            return encode(*inputs, normalize=True).float()
        parts = zip(*(x.chunk(self.micro_batches) for x in inputs), strict=True)
        return torch.cat([self._again_later(encode, part) for part in parts]).float()

    def _again_later(self, encode: Callable[..., Tensor], part: tuple[Tensor, ...]) -> Tensor:
        return checkpoint(encode, *part, True, use_reentrant=False, context_fn=self._passes)  # type: ignore[return-value]

    def _passes(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), running_statistics_kept(self.model)

    # --- the loss ---------------------------------------------------------------------------------------------

    def contrast(self, images: Tensor, texts: Tensor, positives: Tensor | None = None) -> Tensor:
        """images, texts float32 (n, dim) of norm 1, this process's part; positives bool (n, N) -> the loss.

        In float32 whatever the towers compute in: logits go up to 100, where bfloat16 knows halves only.
        """
        if not processes.are_several():
            return self.contrast_alone(images, texts, positives)
        with torch.autocast(self.device.type, enabled=False):
            return self._contrast_of_several(images, texts, self.model.logit_scale, positives)

    def contrast_alone(self, images: Tensor, texts: Tensor, positives: Tensor | None = None) -> Tensor:
        """The same of what this process has, without asking the others."""
        scale = self.model.logit_scale
        with torch.autocast(self.device.type, enabled=False):
            if self.loss.kind == "siglip":
                return sigmoid_loss(images, texts, scale, self._bias(), positives)
            return contrastive_loss(images, texts, scale, positives)

    def _contrast_of_several(self, images: Tensor, texts: Tensor, scale: Tensor, positives: Tensor | None) -> Tensor:
        all_images, all_texts = processes.gather(images), processes.gather(texts)
        first = processes.rank() * len(images)
        if not self.loss.local:
            everything = None if positives is None else processes.gather(positives.float()) > 0
            if self.loss.kind == "siglip":
                return sigmoid_loss(all_images, all_texts, scale, self._bias(), everything)
            return contrastive_loss(all_images, all_texts, scale, everything)
        if self.loss.kind == "siglip":
            return sigmoid_loss(images, all_texts, scale, self._bias(), positives, first)
        return contrastive_loss_of_part(images, texts, all_images, all_texts, scale, first, positives)

    def _bias(self) -> Tensor:
        bias = self.model.logit_bias
        assert bias is not None, "a model for SigLIP's loss is made with logit_bias"
        return bias


@contextmanager
def running_statistics_kept(model: nn.Module) -> Iterator[None]:
    """Batch norms in training mode leave their running means: a second pass over the same pictures counts once."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
