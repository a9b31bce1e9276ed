"""CLIP on PyTorch, from the same folder as `zoo.onnx`: for gradients, training and whoever expects open_clip's names.

`encode_pixels` is what guidance optimises through: any tensor of pixels, resized and normalised inside, differentiable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.errors import ModelError
from bahumukha.models.clip import Clip, ClipConfig, ImageTower
from bahumukha.models.text import TextFeatures, TextTower
from bahumukha.nn.folding import folded
from bahumukha.protocols import ImageTextEncoder
from bahumukha.zoo.folder import TOKENIZER, WEIGHTS, find, fingerprint, read_config
from bahumukha.zoo.small_tensors import restored
from bahumukha.zoo.tokenizer import TextTokenizer

M = TypeVar("M", bound=nn.Module)
SMALLEST_SIDE = 96


class TorchClip(ImageTextEncoder):
    """The `ImageTextEncoder` of a model folder on PyTorch, and open_clip's names for its parts.

    `encode_image` and `encode_text` take what `preprocess` and `tokenizer` give, as a model of open_clip does.
    Weights are frozen, and batch norms folded into them; gradients flow to the pixels.
    """

    smallest_side = SMALLEST_SIDE
    """Pixels of a tensor's sides, at least."""

    def __init__(self, name: str | Path = "starter/clip", *, device: str = "cpu", batch: int = 16):
        """Raises ModelError when the folder has no PyTorch weights, or weights of another architecture."""
        folder = find(name)
        config = read_config(folder)
        self.name = str(name)
        self.fingerprint = config.fingerprint or fingerprint(folder)
        self.dim, self.logit_scale = config.dim, config.logit_scale
        self.templates, self.context_length = config.templates, config.context_length
        self._preprocess, self.batch, self.device = config.preprocess, batch, device
        self.model = load_clip(folder).to(device)
        side = self._preprocess.size
        example = torch.linspace(-1, 1, 3 * side * side, device=device).view(1, 3, side, side)
        self.model.image = folded(self.model.image, example)  # type: ignore[assignment]
        self.read_texts = TextReader(self.model.text, TextTokenizer(folder / TOKENIZER, self.context_length), device)

    # --- tensors in, tensors out ------------------------------------------------------------------------------

    def encode_pixels(self, x: Tensor, size: int | None = None, crop: bool = True) -> Tensor:
        """x (B, 3, H, W) in [0, 1], H and W >= 96 -> unit vectors (B, dim), differentiable.

        Resized (antialiased) and cropped as `preprocess` does it, so that a tensor and its saved picture embed alike.
        `size`: side that the tower is fed, its own by default; a smaller one is faster and a little less exact.
        `crop`: False shows the tower all of a square x.
        """
        return self.encode_image(self._prepared(x, size, crop), normalize=True)

    def guide_pixels(self, x: Tensor, size: int | None = None) -> Tensor:
        """All of square x as guidance follows it: `encode_pixels` without the starter tower's mixture of classes.

        The mixture is a softmax over classes: away from a decision it is flat, and where it is steep it leads to
        whatever class is nearest, not to the one that is wanted.
        """
        tower, pixels = self.model.image, self._prepared(x, size, crop=False)
        return F.normalize(tower(pixels, mixed=False) if isinstance(tower, ImageTower) else tower(pixels), dim=-1)

    def _prepared(self, x: Tensor, size: int | None, crop: bool) -> Tensor:
        """Resized and normalised as the tower takes it."""
        if x.dim() != 4 or x.shape[1] != 3 or min(x.shape[2:]) < SMALLEST_SIDE:
            raise ValueError(f"pixels have shape {tuple(x.shape)}; (B, 3, H, W) with H, W >= {SMALLEST_SIDE} is needed")
        p = self._preprocess
        side = size or p.size
        short = round(p.resize * side / p.size)
        height, width = x.shape[2:]
        if p.mode == "squash" or not crop:
            target = (side, side)
        else:
            target = (short * height // min(height, width), short * width // min(height, width))
        if target != (height, width):
            x = F.interpolate(x, target, mode=p.interpolation, antialias=True, align_corners=False).clamp(0, 1)
        top, left = (target[0] - side) // 2, (target[1] - side) // 2
        x = x[:, :, top : top + side, left : left + side]
        mean = torch.tensor(p.mean, device=x.device).view(1, 3, 1, 1)
        std = torch.tensor(p.std, device=x.device).view(1, 3, 1, 1)
        return (x - mean) / std

    def encode_image(self, pixels: Tensor, normalize: bool = False) -> Tensor:
        """Preprocessed pixels (B, 3, H, W) -> (B, dim)."""
        return self.model.encode_image(pixels, normalize)

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Tokens (B, L) as `tokenizer` gives them, padded with its `pad_id` -> (B, dim)."""
        return self.model.encode_text(tokens, (tokens != self.read_texts.pad).long(), normalize)

    def tokenizer(self, texts: str | Sequence[str]) -> Tensor:
        """Sentences -> int64 (N, L), padded to the longest, or to `context_length` where padding counts.

        Towers that look back only (CLIP's) take open_clip's own tokens, padded with zeros to 77, as well.
        """
        return self.read_texts.tokens(texts)

    def preprocess(self, image: Image.Image) -> Tensor:
        """An RGB picture -> (3, size, size), normalised."""
        return torch.from_numpy(self._preprocess(image))

    # --- ImageTextEncoder -------------------------------------------------------------------------------------

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Pictures (RGB) -> float32 (N, dim), rows of norm 1."""
        rows = [np.zeros((0, self.dim), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(images), self.batch):
                pixels = torch.stack([self.preprocess(i) for i in images[start : start + self.batch]])
                rows.append(self.encode_image(pixels.to(self.device), normalize=True).cpu().numpy())
        return np.concatenate(rows)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Sentences -> float32 (N, dim), rows of norm 1."""
        rows = [np.zeros((0, self.dim), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(texts), 64):
                tokens = self.tokenizer(texts[start : start + 64])
                rows.append(self.encode_text(tokens, normalize=True).cpu().numpy())
        return np.concatenate(rows)


class TextReader:
    """Sentences -> embeddings, and what a CLIP's text tower makes of each token: the condition of unCLIP's networks."""

    def __init__(self, tower: TextTower, tokenizer: TextTokenizer, device: str = "cpu"):
        self.tower, self._tokenizer, self.device = tower, tokenizer, device

    @classmethod
    def load(cls, name: str | Path, *, device: str = "cpu") -> TextReader:
        """Of a model's name or folder, without its picture tower, whose libraries take seconds to import. Raises
        ModelError, as `TorchClip` does."""
        folder = find(name)
        tokenizer = TextTokenizer(folder / TOKENIZER, read_config(folder).context_length)
        return cls(load_text_tower(folder).to(device), tokenizer, device)

    @property
    def pad(self) -> int:
        """The token that stands where a sentence has ended."""
        return self._tokenizer.pad_id

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> TextFeatures:
        """Padded to the longest, or as `tokens` has it."""
        ids = self.tokens(texts)
        mask = (ids != self.pad).long()
        mask[:, 0] = 1  # of an empty text one token is left
        hidden = self.tower.hidden(ids, mask)
        pooled = self.tower.pool(hidden, ids, mask)
        return TextFeatures(F.normalize(self.tower.project(pooled), dim=-1), hidden, mask.bool())

    def tokens(self, texts: str | Sequence[str]) -> Tensor:
        """See `TorchClip.tokenizer`."""
        ids, _ = self._tokenizer.pad(self._tokenizer([texts] if isinstance(texts, str) else texts))
        return torch.from_numpy(ids).to(self.device)


def load_clip(folder: Path) -> Clip:
    """`model.safetensors` and `config.json` -> the network in float32, frozen, in eval mode. Raises ModelError."""
    return _loaded(folder, Clip)


def load_text_tower(folder: Path) -> TextTower:
    """Its text tower alone, likewise."""
    return _loaded(folder, lambda config: TextTower(config.text, config.dim), "text.")


def _loaded(folder: Path, build: Callable[[ClipConfig], M], part: str = "") -> M:
    """part: what the names of its weights begin with."""
    from safetensors import SafetensorError, safe_open

    path = folder / WEIGHTS
    if not path.is_file():
        raise ModelError(f"{path}: missing; this model runs on ONNX Runtime only")
    config = read_config(folder)
    try:
        model = build(ClipConfig.from_dict(config.architecture))
        with safe_open(path, "pt") as file:
            weights = {k.removeprefix(part): file.get_tensor(k) for k in file.keys() if k.startswith(part)}  # noqa: SIM118
        model.load_state_dict(restored(weights))
    except SafetensorError as error:
        raise ModelError(f"{path}: damaged ({error}); put the model there again") from error
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: does not fit 'architecture' in config.json ({reason})") from error
    return model.eval().requires_grad_(False)
