"""Which part of a CLIP is trained when: locked towers, and groups of layers that are unlocked later (LiT).

Zhai et al., "LiT: Zero-Shot Transfer with Locked-image text Tuning" (2022): a good image tower is left as it is and
the text tower learns to read it; what open_clip calls --lock-image and --lock-image-unlocked-groups.
"""

from __future__ import annotations

from torch import nn

from bahumukha.errors import UsageError
from bahumukha.models.clip import Clip
from bahumukha.models.vit import ViT
from bahumukha.train.clip_config import TowerConfig, TowersConfig
from bahumukha.train.optimizers import layer_groups, layer_rates


class Locks:
    """`before_step` of `train.loop`: sets what is trained at a step, and keeps what is locked out of training mode."""

    def __init__(self, model: Clip, config: TowersConfig):
        """Raises UsageError when more groups are asked for than a tower has."""
        self.model = model
        self._towers: list[_Tower] = []
        for name in ("image", "text"):
            tower: nn.Module = getattr(model, name)
            options: TowerConfig = getattr(config, name)
            if options.lock:
                self._towers.append(_Tower(name, tower, options))
            if options.grad_checkpointing:
                tower.set_grad_checkpointing(True)  # type: ignore[operator]
        self(0, 0.0)

    @property
    def later(self) -> tuple[str, ...]:
        """Names of the parameters that are locked at first and will be unlocked."""
        return tuple(f"{tower.name}.{p}" for tower in self._towers for p in tower.later)

    def __call__(self, step: int, progress: float) -> None:
        """Lock and unlock as at this step, the towers in training mode; the same however a run came to it."""
        for tower in self._towers:
            tower.set(step, progress)


class _Tower:
    def __init__(self, name: str, tower: nn.Module, options: TowerConfig):
        self.name, self.tower, self.options = name, tower, options
        groups = layer_groups(tower)
        self.at_first = self._last(groups, options.open_groups, "open_groups")
        wanted = len(groups) if options.unlock_groups is None else options.unlock_groups
        after = self._last(groups, wanted, "unlock_groups") | self.at_first
        self.in_the_end = after if options.unlocks_later else self.at_first
        self.later = [n for names in groups for n in names if n in self.in_the_end - self.at_first]

    def _last(self, groups: list[list[str]], count: int, option: str) -> set[str]:
        if count > len(groups):
            raise UsageError(f"towers.{self.name}.{option} is {count}; this tower has {len(groups)} groups")
        return {name for names in groups[len(groups) - count :] for name in names}

    def set(self, step: int, progress: float) -> None:
        at_step, at_share = self.options.unlock_at_step, self.options.unlock_at_share
        unlocked = (at_step is not None and step >= at_step) or (at_share is not None and progress >= at_share)
        trained = self.in_the_end if unlocked else self.at_first
        for name, parameter in self.tower.named_parameters():
            parameter.requires_grad_(name in trained)
        self.tower.train(bool(trained))
        for module in self.tower.modules():  # a locked norm's running statistics are locked with it
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.weight is not None:
                module.train(module.weight.requires_grad)


def rates_of(model: Clip, decay: float) -> dict[str, float]:
    """Factors of the learning rate by parameter name: each tower's groups, from the head down."""
    if decay == 1:
        return {}
    return layer_rates(model.image, decay, "image.") | layer_rates(model.text, decay, "text.")


def with_patch_dropout(model: Clip, share: float | None) -> None:
    """Set the image tower's patch dropout. Raises UsageError for a tower without patches."""
    if share is None:
        return
    if not isinstance(model.image, ViT):
        raise UsageError("towers.image.patch_dropout: this image tower is a convolution net and has no patches")
    from dataclasses import replace

    try:
        model.image.config = replace(model.image.config, patch_dropout=share)
    except ValueError as error:
        raise UsageError(f"towers.{error}") from error
