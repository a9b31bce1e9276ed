"""A sentence becomes a picture step by step: a drawer's parameters follow the gradient of how CLIP sees the picture.

    x = filters(render(θ)),    θ <- project(Adam(θ, ∂L/∂θ))
    L = 1/M Σ_m mean over cutouts of d(CLIP_m(cutout(x)), prompts) + Σ_i w_i L_i(x) + pull towards the start

Crowson et al., "VQGAN-CLIP: Open Domain Image Generation and Editing with Natural Language Guidance" (2022).

    for step in paint(tier("draft", prompt="a red fox in the snow"), [TorchClip()]): show(step.images)

The gradient is taken in two parts. Cutouts are scored in batches against pixels that are cut off from the drawer, so
that only one batch's network is in memory at a time; then ∂L/∂x goes through the drawer once.

Every random number of step t comes from the generators of (seed, t). So a run that is stopped after t steps needs no
more than the parameters and Adam's moments to go on as it would have, bit for bit.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bahumukha.errors import BahumukhaError, ModelError, UsageError
from bahumukha.generate.cutouts import cut, draw_windows, look
from bahumukha.generate.drawers import CurveDrawer, Drawer, DrawerConfig, build_drawer
from bahumukha.generate.drawers.matte import matted
from bahumukha.generate.filters import make_filter
from bahumukha.generate.guided_config import GuidedConfig, seed_number
from bahumukha.generate.losses import make_loss, pull
from bahumukha.generate.overlays import Overlay, check_loading
from bahumukha.generate.prompts import Place, encode_prompts, parse_story, prompt_loss, read_mask, spot
from bahumukha.generate.rivals import Rivals
from bahumukha.generate.schedules import parse_schedule
from bahumukha.generate.starts import start_picture
from bahumukha.generate.states import read_state, write_state
from bahumukha.nn.precision import autocast
from bahumukha.protocols import ImageCodec, ImageTextEncoder, Step

SMOOTHING = 0.9
"""Of the loss by which the best picture is chosen: cutouts are drawn anew each step, and single losses jump."""
MOST_FRAMES = 300
"""Of the film of a picture's strokes: more of them come several a frame."""


class Encoder(ImageTextEncoder, Protocol):
    """A CLIP through which gradients flow; `zoo.pytorch.TorchClip` is one.

    It may have `guide_pixels(x, size)`, which then stands for `encode_pixels(x, size, False)` in the loss.
    """

    def encode_pixels(self, x: Tensor, size: int | None = None, crop: bool = True) -> Tensor:
        """x (B, 3, H, W) in about [0, 1] -> unit vectors (B, dim); `crop` False: all of x, at `size` pixels a side."""
        ...


def paint(
    config: GuidedConfig,
    encoders: Sequence[Encoder],
    drawer: Drawer | None = None,
    *,
    codec: ImageCodec | None = None,
    every: int = 1,
) -> Iterator[Step]:
    """Paint; a step every `every` steps, and the last one with the finished picture.

    encoders: as many as one likes; `config.models` is what a caller loads them by, and is not read here.
    drawer: the config's by default; `codec` is what the drawer `vqgan` needs.
    `Painting` is the same with a state that can be saved. Raises UsageError before the first step.
    """
    return Painting(config, encoders, drawer, codec=codec).steps(every)


class Painting:
    """A picture that is being painted: all that the next step needs."""

    def __init__(
        self,
        config: GuidedConfig,
        encoders: Sequence[Encoder],
        drawer: Drawer | None = None,
        *,
        codec: ImageCodec | None = None,
    ):
        """As `paint`. A drawer begins as it comes, unless the config has a start."""
        self.config, self.encoders = config, list(encoders)
        for encoder in self.encoders:
            check_sides(config, encoder)
        self.seed = seed_number(config.seed)
        self.drawer = drawer or new_drawer(config, codec)
        self.size = (config.size[1], config.size[0])
        self.story = parse_story(config.prompt, config.fade)
        self.places: list[Place] = [prompt.place for prompt in self.story.prompts]
        self.mask = None if config.mask is None else read_mask(config.mask, config.size)
        self.targets = [encode_prompts(self.story.prompts, each, config.templates or None) for each in self.encoders]
        self.rivals = [
            Rivals(config.rivals, targets, each) if config.rivals.weight else None
            for targets, each in zip(self.targets, self.encoders, strict=True)
        ]
        self.rivals_weight = parse_schedule(config.rivals.weight, "rivals.weight")
        self.autocast = autocast(config.precision)
        self.filters = [make_filter(name, **options) for name, options in config.filters.items()]
        self.losses = {name: make_loss(name, **config.loss_parts(name)[1]) for name in config.losses}
        self.weights = {
            name: parse_schedule(config.loss_parts(name)[0], f"losses.{name}.weight") for name in config.losses
        }
        self.rate = parse_schedule(config.rate, "rate")
        ground, generator = config.matte.colour or "white", torch.Generator().manual_seed(self.seed)
        start = start_picture(config.start, self.size, generator, config.prompt, ground)
        if start is not None:
            self.drawer.load_picture(start)
        overlay = config.overlay
        self.overlay = None if overlay.picture is None else Overlay(overlay.picture, overlay.alpha, self.size)
        if self.overlay:
            check_loading(self.drawer)
        groups = self.drawer.parameters()
        self.rates = [float(group["lr"]) for group in groups]
        self.optimizer = torch.optim.Adam(groups)
        self.mean = [value.detach().clone() for value in self._values()] if config.ema else []
        self.start = self._start()
        self.done = 0
        """Steps that are finished."""
        self.picture = self._rendered()
        """The one that was judged last, (B, 3, H, W) in [0, 1]."""
        self.best, self.lowest, self.smooth = self.picture, math.inf, math.nan
        self.best_at = 0
        """Steps after which `lowest` was reached."""

    # --- running ----------------------------------------------------------------------------------------------

    def steps(self, every: int = 1) -> Iterator[Step]:
        """Go on to the end. Whoever stops between two steps, by closing the generator, can save and go on later.

        A step's picture is the one that its losses are of (with `ema` the mean's); the last step's is the finished one.
        """
        total = self.config.steps
        if self.is_over:
            yield Step(self.done - 1, total, _array(self.finished()))
        while not self.is_over:
            losses = self._advance()
            last = self.is_over
            if last or self.done % every == 0:
                shown = self.finished() if last or self.mean else self.picture
                yield Step(self.done - 1, total, _array(shown), losses)

    @property
    def is_over(self) -> bool:
        """No step is left, or as many as `stop_after` have brought no better loss."""
        patience = self.config.stop_after
        return self.done >= self.config.steps or 0 < patience <= self.done - self.best_at

    @property
    def steps_left(self) -> int:
        """At most; `stop_after` may end it sooner."""
        return self.config.steps - self.done

    def finished(self) -> Tensor:
        """The picture as the parameters (with `ema` their mean) now have it, (B, 3, H, W) in [0, 1]."""
        with self.at_rest():
            return self._rendered()

    @contextmanager
    def at_rest(self) -> Iterator[Drawer]:
        """Inside, the drawer has the parameters of the finished picture: with `ema` their mean."""
        values = self._values() if self.mean else []
        own = [value.detach().clone() for value in values]

        def give(numbers: list[Tensor]) -> None:
            if values:
                with torch.no_grad():
                    torch._foreach_copy_(values, numbers)

        give(self.mean)
        try:
            yield self.drawer
        finally:
            give(own)

    def stroke_by_stroke(self, most: int = MOST_FRAMES) -> Iterator[np.ndarray]:
        """The finished picture as it is laid, from empty paper to the last stroke: float32 (H, W, 3), `most` at most.

        Raises UsageError where the drawer has no strokes.
        """
        drawer = self.drawer
        if not isinstance(drawer, CurveDrawer):
            raise UsageError(f"drawer {self.config.drawer} draws no strokes; take strokes or line")
        frames = min(most, drawer.strokes + 1)
        with self.at_rest():
            for k in range(frames):
                with torch.no_grad():
                    laid = self._shown(drawer.render(drawer.strokes * k // (frames - 1)))
                yield _array(laid)[0]

    def best_picture(self) -> np.ndarray:
        """The one to keep when the painting is stopped, float32 (B, H, W, 3) in [0, 1].

        That of the lowest running mean of the loss. Where losses of different steps do not compare (a story, weights
        that change) it is the last one, and with `ema` the mean's.
        """
        if self.mean:
            return _array(self.finished())
        return _array(self.picture if self._goal_moves() else self.best)

    def score(self) -> float:
        """Cosine of the finished picture, seen whole by the first encoder, with the prompts of the last step: the mean
        by weight, those that repel counting against it."""
        targets = self.targets[0]
        weights = targets.weights(self.story.weights(1.0))
        pixels = torch.from_numpy(np.rint(_array(self.finished()) * 255) / 255).permute(0, 3, 1, 2).float()
        side = max(self.config.cutouts.sizes)
        whole = torch.tensor([[[0, 0], [1, 0], [1, 1], [0, 1]]]).double() * torch.tensor(self.config.size)
        with torch.no_grad():
            embeddings = self.encoders[0].encode_pixels(look(pixels, whole, side, "edge"), side, False)
        cosines = (embeddings @ targets.embeddings.T).mean(0)
        return float((cosines * weights).sum() / weights.abs().sum().clamp(min=1e-9))

    # --- one step ---------------------------------------------------------------------------------------------

    def _advance(self) -> dict[str, float]:
        """One step; the losses by name, and their sum as `total`."""
        step, total = self.done, self.config.steps
        generator = torch.Generator().manual_seed(_step_seed(self.seed, step))
        with torch.random.fork_rng(devices=[]):  # a loss of one's own may use the global generator
            torch.manual_seed(generator.initial_seed())
            if self.overlay and self.config.overlay.is_due(step, total):
                with torch.no_grad():
                    self.drawer.load_picture(self.overlay(self.drawer.render()[:1]))
            rendered = self.drawer.render()
            pixels = rendered.detach().requires_grad_()
            self.optimizer.zero_grad()
            losses = {"prompts": self._guide(pixels, step, generator)} | self._shape(pixels, step)
            if pixels.grad is not None:
                rendered.backward(pixels.grad)
            losses |= self._hold(step)
        losses["total"] = sum(losses.values())
        if not math.isfinite(losses["total"]):
            raise BahumukhaError(f"the loss is no longer a number at step {step + 1}; lower rate, or a loss's weight")
        for group, natural in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = natural * self.rate.at(step, total)
        self.optimizer.step()
        self.drawer.project()
        self.done += 1
        self._remember(rendered.detach(), losses["total"])
        return losses

    def _guide(self, pixels: Tensor, step: int, generator: torch.Generator) -> float:
        """The prompts' loss, its gradient added to that of `pixels` (B, 3, H, W), unfiltered."""
        total = self.config.steps
        of_prompts = self.story.weights(step / max(1, total - 1))
        count = self.config.cutouts.count_at(step, total)
        value = 0.0
        against = self.rivals_weight.at(step, total)
        for encoder, targets, rivals in zip(self.encoders, self.targets, self.rivals, strict=True):
            windows = draw_windows(self.config.cutouts, self.size, generator, count)
            for part in windows.parts(self.config.cutouts.batches):
                share = len(part.noise) / count / len(self.encoders)
                for place in dict.fromkeys(self.places):
                    here = [w if p == place else 0.0 for w, p in zip(of_prompts, self.places, strict=True)]
                    if not any(here):
                        continue
                    seen = self._filtered(pixels, step)
                    cutouts = cut(seen if self.mask is None else spot(seen, self.mask, place), part, generator)
                    with self.autocast:
                        embeddings = _seen(encoder, cutouts, part.side).float()
                    weights = targets.weights(here)
                    loss = prompt_loss(embeddings, targets.embeddings, weights, targets.stops)
                    if rivals is not None and against:
                        loss = loss + against * rivals.loss(embeddings, weights)
                    value += _backward(share * loss)
        return value

    def _shape(self, pixels: Tensor, step: int) -> dict[str, float]:
        """The other losses of the picture, their gradients added to that of `pixels`."""
        values = {}
        for name, loss in self.losses.items():
            if weight := self.weights[name].at(step, self.config.steps):
                values[name] = _backward(weight * loss(self._filtered(pixels, step)))
        start = self.config.start
        weight = start.pull_at(step / self.config.steps)
        if self.start and start.pull_by == "pixel" and weight:
            values["pull"] = _backward(weight * pull(pixels, self.start[0], "pixel"))
        return values

    def _hold(self, step: int) -> dict[str, float]:
        """The pull of the parameters towards the start, its gradient added to theirs."""
        start = self.config.start
        weight = start.pull_at(step / self.config.steps)
        if not self.start or start.pull_by == "pixel" or not weight:
            return {}
        costs = [pull(now, then, start.pull_by) for now, then in zip(self._values(), self.start, strict=True)]
        return {"pull": _backward(weight * torch.stack(costs).mean())}

    def _remember(self, picture: Tensor, loss: float) -> None:
        """The picture that was judged, and the mean of the parameters after it."""
        self.picture = self._shown(picture)
        self.smooth = loss if math.isnan(self.smooth) else SMOOTHING * self.smooth + (1 - SMOOTHING) * loss
        if self.smooth < self.lowest:
            self.lowest, self.best, self.best_at = self.smooth, self.picture, self.done
        if self.mean:
            # The warm-up keeps the random start from weighing on a short run.
            decay = min(self.config.ema, self.done / (9 + self.done))
            with torch.no_grad():
                torch._foreach_lerp_(self.mean, [value.detach() for value in self._values()], 1 - decay)

    def _filtered(self, pixels: Tensor, step: int) -> Tensor:
        for each in self.filters:
            pixels = each(pixels, step)
        return pixels

    def _shown(self, pixels: Tensor) -> Tensor:
        """As people see it: through the filters, which move nothing at step 0."""
        with torch.no_grad():
            return self._filtered(pixels, 0).clamp(0, 1)

    def _rendered(self) -> Tensor:
        with torch.no_grad():
            return self._shown(self.drawer.render())

    def _values(self) -> list[Tensor]:
        """The parameters, in the order of the drawer's groups."""
        return [each for group in self.optimizer.param_groups for each in group["params"]]

    def _start(self) -> list[Tensor]:
        """What the pull goes to: the first picture as it is rendered, or the first parameters; empty without a pull."""
        if not self.config.start.pull:
            return []
        if self.config.start.pull_by == "pixel":
            with torch.no_grad():
                return [self.drawer.render()]
        return [value.detach().clone() for value in self._values()]

    def _goal_moves(self) -> bool:
        schedules = [schedule.bounds for schedule in (*self.weights.values(), self.rivals_weight)]
        start = self.config.start
        return len(self.story.chapters) > 1 or start.pull > 0 or any(low != high for low, high in schedules)

    # --- stopping and going on --------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write all that is needed to go on, whole or not at all. Raises BahumukhaError where it cannot be written."""
        state = {
            "done": self.done,
            "drawer": self.drawer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "mean": self.mean,
            "pictures": {"last": self.picture, "best": self.best},
            "loss": {"lowest": self.lowest, "smooth": self.smooth, "best_at": self.best_at},
        }
        write_state(path, self.config, [encoder.fingerprint for encoder in self.encoders], state)

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote: the same settings (`steps` may differ) and the same encoders.

        Raises ModelError for a file that is none, and for other settings.
        """
        state = read_state(path, self.config, [encoder.fingerprint for encoder in self.encoders], free=["steps"])
        try:
            self.drawer.load_state_dict(state["drawer"])
        except UsageError as error:
            raise ModelError(f"{path}: was written by another version ({error}); begin the painting anew") from error
        self.optimizer.load_state_dict(state["optimizer"])
        self.mean = list(state["mean"])
        self.done = state["done"]
        self.picture, self.best = state["pictures"]["last"], state["pictures"]["best"]
        loss = state["loss"]
        self.lowest, self.smooth, self.best_at = loss["lowest"], loss["smooth"], loss.get("best_at", self.done)


def new_drawer(config: GuidedConfig, codec: ImageCodec | None = None) -> Drawer:
    """The config's, at its random start. Raises UsageError where the config or the codec does not suit it."""
    width, height = config.size
    canvas = DrawerConfig(
        width,
        height,
        seed=seed_number(config.seed),
        options=config.drawer_options,
        codec=codec,
        precision=config.precision,
    )
    drawer = build_drawer(config.drawer, canvas)
    return matted(drawer, config.matte) if config.matte.colour else drawer


def check_sides(config: GuidedConfig, encoder: Encoder) -> None:
    """Raises UsageError where cutouts are smaller than a CLIP takes them, which its `smallest_side` tells."""
    least, smallest = getattr(encoder, "smallest_side", 1), min(config.cutouts.sizes)
    if smallest < least:
        raise UsageError(f"cutouts.sizes has {smallest}, and {encoder.name} takes {least} pixels a side and more")


def _seen(encoder: Encoder, cutouts: Tensor, side: int) -> Tensor:
    guide = getattr(encoder, "guide_pixels", None)
    return encoder.encode_pixels(cutouts, side, False) if guide is None else guide(cutouts, side)


def _backward(loss: Tensor) -> float:
    """Add its gradient to those of the leaves; the loss as a number. Of a prompt past its stop there is none."""
    if loss.requires_grad:
        loss.backward()
    return loss.item()


def _step_seed(seed: int, step: int) -> int:
    """Far apart for neighbours, as the first numbers of generators with close seeds need not be."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{step}".encode(), digest_size=8).digest(), "big") >> 1


def _array(pictures: Tensor) -> np.ndarray:
    """(B, 3, H, W) -> float32 (B, H, W, 3)."""
    return pictures.detach().permute(0, 2, 3, 1).contiguous().float().cpu().numpy()
