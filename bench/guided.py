"""Painting under CLIP: one step, and what a number of steps lead to, beside the loop that the notebooks have.

The notebook's loop is written here after Crowson's and nerdyrodent's, in plain PyTorch and torchvision: pool the whole
picture to the side of a cutout, once a cutout; change each by itself (affine, perspective, colours, erasing); one
batch, one graph from loss to latents, one backward pass. Both loops have the same CLIP, the same drawer with the same
codec, the same number and size of cutouts, the same rates of Adam, and the precision of the tier's settings. The
notebook's tower is as its network is loaded; what is won by ours alone, whose batch norms are folded
(`nn/folding.py`), tells the third line, in which it is lent to the notebook's loop.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.timing import line, seconds

PROMPT = "a photo of a tiger"
QUALITY = "normal"
SIDE = 128
"""Of the cutouts, in pixels."""
STEPS, NOUNS = 120, 6
"""Of the second bench: of each picture, and how many pictures."""


def one_step(photos: Path | None = None) -> None:
    """Steps a second at the tier `normal`: with the starter's kind of codec (random weights), and with spectra."""
    import torch

    from bahumukha import runtime
    from bahumukha.generate.guided import paint
    from bahumukha.generate.guided_config import tier
    from bahumukha.models.vit_codec import VitCodec, VitCodecConfig
    from bahumukha.zoo.pytorch import TorchClip

    torch.set_num_threads(runtime.thread_count(None))
    torch.manual_seed(0)
    encoder = TorchClip()
    loaded = _as_loaded(encoder)
    codec = VitCodec(VitCodecConfig()).eval().requires_grad_(False)
    for drawer in ("vqgan", "fft"):
        config = tier(QUALITY, prompt=PROMPT, drawer=drawer, steps=1000)
        # The tier's cutouts are of several sizes, the notebooks' of one: here both have the middle one.
        config = replace(config, cutouts=replace(config.cutouts, sizes=(SIDE,)))
        ours = paint(config, [encoder], codec=codec)
        theirs, lent = _notebook(config, loaded, codec), _notebook(config, encoder, codec)
        fast, slow, helped = seconds(ours.__next__, theirs, lent, rounds=9)
        name = f"{drawer}, {config.size[0]} px, {config.cutouts.count} cutouts of {config.cutouts.sizes[0]} px"
        line(f"the notebooks' loop: {name}", 1 / slow, "steps/s")
        line(f"ours, {config.precision}", 1 / fast, "steps/s", 1 / slow)
        line("the notebooks' loop with our tower", 1 / helped, "steps/s", 1 / slow)


def pictures(photos: Path | None = None) -> None:
    """The same steps by both loops, before EfficientNet-Lite0, which guided neither. Some ten minutes.

    Drawn with the starter's codec if it is there, else as spectra.
    """
    import numpy as np
    import torch

    from bahumukha import runtime
    from bahumukha.errors import ModelError
    from bahumukha.evaluate.guided import nouns
    from bahumukha.generate.guided_config import tier
    from bahumukha.zoo.codecs import load_codec
    from bahumukha.zoo.pytorch import TorchClip

    torch.set_num_threads(runtime.thread_count(None))
    encoder = TorchClip()
    loaded = _as_loaded(encoder)
    try:
        drawer, codec = "vqgan", load_codec("starter/vqgan")
    except ModelError:
        drawer, codec = "fft", None
    asked = nouns(NOUNS)
    made: dict[str, list[Any]] = {"the notebooks' loop": [], "ours": []}
    spent = dict.fromkeys(made, 0.0)
    for noun in asked:
        config = tier(QUALITY, prompt=noun.prompt, drawer=drawer, steps=STEPS)
        for name, way, clip in (("the notebooks' loop", _painted_as_notebooks, loaded), ("ours", _painted, encoder)):
            started = time.perf_counter()
            made[name].append(way(config, clip, codec))
            spent[name] += time.perf_counter() - started
    print(f"  {NOUNS} nouns, {drawer}, {STEPS} steps each, EfficientNet-Lite0 on the picture:")
    for name, images in made.items():
        scores = _judged(images, asked)
        first = sum(score.rank == 1 for score in scores)
        five = sum(score.rank <= 5 for score in scores)
        probability = np.mean([score.probability for score in scores])
        print(
            f"  {name:<24} first {first} of {NOUNS}, among five {five}, mean probability {probability:.2f}, "
            f"median place {np.median([score.rank for score in scores]):g}, {spent[name] / NOUNS:.0f} s a picture"
        )


def _as_loaded(encoder: Any) -> Any:
    """The same CLIP without what `TorchClip` does to its tower."""
    from bahumukha.zoo.folder import find
    from bahumukha.zoo.pytorch import load_clip

    plain = copy.copy(encoder)
    plain.model = load_clip(find(encoder.name))
    return plain


def _judged(images: Sequence[Any], asked: Sequence[Any]) -> list[Any]:
    from bahumukha.evaluate.guided import judge_nouns
    from recipes.evaluation.lite0 import Lite0
    from recipes.fetch import default_cache

    return judge_nouns(images, asked, Lite0(default_cache()))


def _painted(config: Any, encoder: Any, codec: Any) -> Any:
    from PIL import Image

    from bahumukha.generate.guided import paint
    from bahumukha.images import to_uint8

    for step in paint(config, [encoder], codec=codec, every=config.steps):
        images = step.images
    return Image.fromarray(to_uint8(images[0]))


def _painted_as_notebooks(config: Any, encoder: Any, codec: Any) -> Any:
    from PIL import Image

    from bahumukha.images import to_uint8

    step = _notebook(config, encoder, codec)
    for _ in range(config.steps):
        step()
    return Image.fromarray(to_uint8(step.picture()))  # type: ignore[attr-defined]


def _notebook(config: Any, encoder: Any, codec: Any) -> Callable[[], float]:
    """The notebooks' loop with these settings; call it for each step."""
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F
    from torchvision import transforms as T
    from torchvision.transforms import InterpolationMode

    from bahumukha.generate.drawers import DrawerConfig, build_drawer
    from bahumukha.generate.schedules import parse_schedule

    count, side = int(config.cutouts.count), config.cutouts.sizes[0]
    smooth = InterpolationMode.BILINEAR

    class Cutouts(nn.Module):
        """nerdyrodent's `--cut_method latest`, with torchvision in kornia's place: one draw a cutout."""

        def __init__(self) -> None:
            super().__init__()
            self.mean_pool, self.max_pool = nn.AdaptiveAvgPool2d(side), nn.AdaptiveMaxPool2d(side)
            self.changes = nn.Sequential(
                T.RandomApply([T.RandomAffine(15, translate=(0.1, 0.1), interpolation=smooth)], p=0.7),
                T.RandomPerspective(0.7, p=0.7, interpolation=smooth),
                T.RandomApply([T.ColorJitter(0.1, 0.1, 0.1, 0.05)], p=0.7),
                T.RandomErasing(p=0.7, scale=(0.1, 0.4), ratio=(0.3, 1 / 0.3)),
            )

        def forward(self, picture: Tensor) -> Tensor:
            cutouts = [self.changes((self.mean_pool(picture) + self.max_pool(picture)) / 2) for _ in range(count)]
            batch = torch.cat(cutouts)
            return batch + batch.new_empty(count, 1, 1, 1).uniform_(0, 0.1) * torch.randn_like(batch)

    class Step:
        def __init__(self) -> None:
            torch.manual_seed(0)
            width, height = config.size
            options = DrawerConfig(width, height, seed=0, options=config.drawer_options, codec=codec)
            self.drawer = build_drawer(config.drawer, options)
            self.cutouts = Cutouts()
            self.prompt = F.normalize(torch.from_numpy(encoder.encode_texts([config.prompt])), dim=1)
            groups = self.drawer.parameters()
            self.rates = [group["lr"] for group in groups]
            self.optimizer = torch.optim.Adam(groups)
            self.rate, self.done = parse_schedule(config.rate, "rate"), 0

        def __call__(self) -> float:
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * self.rate.at(self.done, config.steps)
            self.optimizer.zero_grad(set_to_none=True)
            seen = F.normalize(encoder.encode_pixels(self.cutouts(self.drawer.render()), side, False), dim=1)
            loss = (seen - self.prompt).norm(dim=1).div(2).arcsin().square().mul(2).mean()
            loss.backward()
            self.optimizer.step()
            self.drawer.project()
            self.done += 1
            return loss.item()

        def picture(self) -> Any:
            with torch.no_grad():
                return self.drawer.render().clamp(0, 1)[0].permute(1, 2, 0).contiguous().numpy()

    return Step()
