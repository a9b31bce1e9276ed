"""What training a codec minimises: reconstruction, its quantiser's losses, and in time a critic's opinion.

    L = Σ_k w_k d_k(x, x̂) + codebook + λ · (-D(x̂)),    λ = weight · |∇ Σ w_k d_k| / |∇ D(x̂)|  at the last layer

The gradients of both parts at x̂ are computed once: they give λ, and their sum is what flows on into the codec.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.data.crops import Crops
from bahumukha.evaluate.fidelity import psnr
from bahumukha.models.critic import PatchCritic, adaptive_weight, adversarial_loss, critic_loss
from bahumukha.models.perceptual import edge_loss
from bahumukha.models.spaces import as_pictures
from bahumukha.models.vqgan import Codec
from bahumukha.train import processes
from bahumukha.train.optimizers import take_up
from bahumukha.train.vqgan_config import CriticConfig, ReconstructionConfig

MEMORY = 0.99
"""Decay of the counts of codes, a step: `usage` tells which were seen in the last 500 steps or so."""
SEEN = MEMORY**500
FLOOR = 4e-4
"""Added to a picture's squared error before its logarithm: 40 dB, beyond which nobody looks."""


def pixels_of(batch: Crops, device: torch.device) -> Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) in [-1, 1]."""
    return as_pictures(torch.from_numpy(batch.pixels).to(device))


def decibels(x: Tensor, made: Tensor) -> Tensor:
    """Pictures in [-1, 1], (B, 3, H, W) twice -> PSNR (B,); what was made is clamped, as it is when shown."""
    return psnr((x + 1) / 2, (made.detach().float().clamp(-1, 1) + 1) / 2)


class RecentCodes:
    """How often each code was used lately."""

    def __init__(self, codes: int):
        self.counts = torch.zeros(codes)

    def add(self, ids: Tensor) -> None:
        """Ids of one step, any shape; those of all processes are counted."""
        counts = torch.bincount(ids.flatten(), minlength=len(self.counts)).float()
        self.counts.mul_(MEMORY).add_(processes.count() * processes.mean(counts).cpu())

    def scores(self) -> dict[str, Tensor]:
        """`usage`: share of the codes that are in use; `perplexity`: as many used evenly would be as hard to guess."""
        share = self.counts / self.counts.sum()
        return {"usage": (self.counts > SEEN).float().mean(), "perplexity": torch.special.entr(share).sum().exp()}


class Reconstruction:
    """`step`, `before_step` and `beside` of `train.loop`: losses, the critic and its optimiser, counts of codes."""

    def __init__(
        self,
        codec: Codec,
        loss: ReconstructionConfig,
        perceptual: nn.Module | None = None,
        critic: CriticConfig | None = None,
    ):
        """`perceptual`: (x, x̂) -> distances (B,), asked when the loss has a weight for it."""
        self.codec, self.loss, self.perceptual, self.critic = codec, loss, perceptual, critic
        self.device = next(codec.parameters()).device
        self.recent = RecentCodes(codec.codes)
        self.network: PatchCritic | None = None
        self.steps = 0
        """That will have been taken when the step in hand is done."""
        self.progress = 0.0
        if critic is not None:
            self.network = PatchCritic(critic.network).to(self.device).train()
            self.optimizer = torch.optim.AdamW(
                self.network.parameters(), critic.learning_rate, critic.betas, weight_decay=0.0
            )
            processes.same_start(self.network)

    def before_step(self, step: int, progress: float) -> None:
        """Of `train.loop`: where the run is."""
        self.steps, self.progress = step + 1, progress

    @property
    def critic_share(self) -> float | None:
        """Part of its weight that the critic has now; None while it does not even learn."""
        if self.critic is None or self.progress < self.critic.start - self.critic.warmup:
            return None
        past = self.progress - self.critic.start
        return 0.0 if past < 0 else min(1.0, past / self.critic.ramp) if self.critic.ramp else 1.0

    def __call__(self, batch: Crops) -> dict[str, Tensor]:
        """The losses of a batch; `loss` is to be minimised. The critic takes its own step here."""
        x = pixels_of(batch, self.device)
        made, quantized = self.codec(x)
        made = made.float()
        terms = self.terms(x, made)
        loss = torch.stack([weight * value for weight, value in terms.values()]).sum()
        share = self.critic_share
        others: dict[str, Tensor] = {}
        if share:
            loss, others = self._with_critic(loss, made, share)
        for name, value in quantized.losses.items():
            loss = loss + self.loss.codebook * value
            others[name] = value
        if share is not None:
            others["critic"] = self._teach(x, made.detach())
        self.recent.add(quantized.ids)
        others[f"psnr_{x.shape[-1]}"] = decibels(x, made).mean()
        return {"loss": loss} | {k: v for k, (_, v) in terms.items()} | others | self.recent.scores()

    def terms(self, x: Tensor, made: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Name -> (weight, value), of those that have a weight."""
        c, found = self.loss, {}
        if c.l1:
            found["l1"] = (c.l1, F.l1_loss(made, x))
        if c.l2:
            found["l2"] = (c.l2, F.mse_loss(made, x))
        if c.log_l2:
            found["log_l2"] = (c.log_l2, ((made - x).square().flatten(1).mean(1) + FLOOR).log().mean())
        if c.edges:
            found["edges"] = (c.edges, edge_loss(x, made))
        if c.perceptual:
            assert self.perceptual is not None
            found["perceptual"] = (c.perceptual, self.perceptual(x, made).mean())
        return found

    def _with_critic(self, reconstruction: Tensor, made: Tensor, share: float) -> tuple[Tensor, dict[str, Tensor]]:
        assert self.network is not None and self.critic is not None
        adversarial = adversarial_loss(self.network(made))
        ours, theirs = (torch.autograd.grad(each, made)[0] for each in (reconstruction, adversarial))
        last = self.codec.last_layer
        at_last = (torch.autograd.grad(made, last, each, retain_graph=True)[0] for each in (ours, theirs))
        weight = self.critic.weight * share * adaptive_weight(*map(processes.mean, at_last))
        value = reconstruction.detach() + weight * adversarial.detach()
        loss = _KnownGradient.apply(made, value, ours + weight * theirs)
        return loss, {"adversarial": adversarial.detach(), "critic_weight": weight}

    def _teach(self, x: Tensor, made: Tensor) -> Tensor:
        """One step of the critic."""
        assert self.network is not None
        self.optimizer.zero_grad(set_to_none=True)
        loss = critic_loss(self.network(x), self.network(made))
        loss.backward()
        processes.average_gradients(self.network.parameters())
        self.optimizer.step()
        return loss.detach()

    # --- of a checkpoint --------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The critic's weights and optimiser, and the counts of codes."""
        state: dict[str, Any] = {"codes": self.recent.counts}
        if self.network is not None:
            state |= {"critic": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`; a critic that the run did not have before starts untaught."""
        self.recent.counts.copy_(state["codes"])
        if self.network is not None and "critic" in state:
            self.network.load_state_dict(state["critic"])
            take_up(self.optimizer, state["optimizer"])


class _KnownGradient(torch.autograd.Function):
    """A loss of `value` whose gradient at x is known already."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return outer * gradient, None, None
