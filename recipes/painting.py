"""Paint many pictures one after another, each only once: what is there with the same settings and models stays.

Used by the judging of guided painting (`recipes.evaluation.painted`) and by the gallery (`recipes.gallery`). A PNG
holds how it was made, as one of `bahu generate` does, so `bahu generate --config PICTURE.png` makes it again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from bahumukha import __version__
from bahumukha.cli.guided import METADATA, settings
from bahumukha.errors import UsageError
from bahumukha.generate.guided import Painting
from bahumukha.generate.guided_config import QUALITY, GuidedConfig
from bahumukha.images import save_image, to_uint8
from bahumukha.runtime import thread_count
from bahumukha.zoo.codecs import load_codec
from bahumukha.zoo.folder import WEIGHTS, find
from bahumukha.zoo.pytorch import TorchClip

load_encoder = cache(TorchClip)


@dataclass(frozen=True)
class Made:
    """A picture that is there."""

    path: Path
    score: float
    """Cosine of the picture, seen whole by the CLIP that guided it, with the prompt."""
    seconds: float
    """Wall time of the painting, models loaded."""

    def open(self) -> Image.Image:
        """RGB."""
        with Image.open(self.path) as image:
            return image.convert("RGB")


@dataclass(frozen=True)
class Settings:
    """What every picture of a list has in common; the same words as those of `bahu generate`."""

    drawer: str | None = None
    quality: str = "normal"
    seed: str = "0"
    config: Path | None = None
    overrides: tuple[str, ...] = ()

    def of(self, prompt: str) -> GuidedConfig:
        """The settings of one picture. Raises UsageError."""
        given = {"prompt": prompt, "seed": self.seed} | ({} if self.drawer is None else {"drawer": self.drawer})
        return settings(given, self.quality, self.config, list(self.overrides))


def add_settings_options(parser: argparse.ArgumentParser) -> None:
    """`--drawer`, `--quality`, `--seed`, `--config` and `--set`, for `read_settings`."""
    parser.add_argument("--drawer", help="default: that of --config, else vqgan")
    parser.add_argument("--quality", default="normal", choices=QUALITY)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--config", type=Path, metavar="SETTINGS", help="TOML file, or a PNG of bahu generate")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as bahu generate; repeatable")


def read_settings(args: argparse.Namespace) -> Settings:
    """What `add_settings_options` asked for."""
    return Settings(args.drawer, args.quality, args.seed, args.config, tuple(args.set))


def models_of(config: GuidedConfig) -> dict[str, str]:
    """Name -> hash of the weights of every model that takes part; another one makes another picture."""
    hashes = {name: load_encoder(name).fingerprint for name in config.models}
    if config.drawer == "vqgan":
        with (find(config.codec) / WEIGHTS).open("rb") as file:
            hashes[config.codec] = hashlib.file_digest(file, "sha256").hexdigest()[:32]
    return hashes


def find_made(config: GuidedConfig, path: Path) -> Made | None:
    """The picture at `path` if it was painted with these settings and models, else None."""
    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            record = json.loads(getattr(image, "text", {}).get(METADATA, ""))
        same = GuidedConfig.from_dict(record["settings"]) == config and record["models"] == models_of(config)
        return Made(path, float(record["score"]), float(record["seconds"])) if same else None
    except (OSError, ValueError, TypeError, KeyError, UsageError):  # cut off, or not a picture of this program's
        return None


def paint(config: GuidedConfig, path: Path) -> Made:
    """Paint one picture to the end and write it. Raises UsageError, ModelError."""
    codec = load_codec(config.codec) if config.drawer == "vqgan" else None
    encoders = [load_encoder(name) for name in config.models]
    torch.set_num_threads(thread_count())
    started = time.monotonic()
    painting = Painting(config, encoders, codec=codec)
    for step in painting.steps(every=config.steps):
        images = step.images
    made = Made(path, round(painting.score(), 4), round(time.monotonic() - started, 2))
    picture = Image.fromarray(to_uint8(images[0]))
    if config.upscale > 1:
        picture = picture.resize((picture.width * config.upscale, picture.height * config.upscale))
    save_image(picture, path, {METADATA: json.dumps(_record(config, made, painting.done), ensure_ascii=False)})
    return made


def _record(config: GuidedConfig, made: Made, steps: int) -> dict[str, Any]:
    return {
        "command": "generate",
        "with": "vqgan-clip",
        "version": __version__,
        "models": models_of(config),
        "steps_done": steps,
        "settings": config.to_dict(),
        "score": made.score,
        "seconds": made.seconds,
    }
