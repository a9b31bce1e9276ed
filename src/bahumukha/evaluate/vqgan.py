"""How good a codec is: what it loses of pictures it never saw, how many bits it keeps, and how it uses its codes.

    scores = evaluate_codec(load_codec("starter/vqgan"), pictures, size=128, distance=trunk_distance())

Besides each picture's own scores, the distance between all originals and all reconstructions as two clouds of features:
`rfid` when the weights of Inception are there, with torch-fidelity's network, as papers report it; and
`frechet_efficientnet`, the same distance on the pooled features of an EfficientNet-Lite, whose numbers compare with no
one else's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.errors import ImageError, ModelError, UsageError
from bahumukha.evaluate.fidelity import RADIUS, CodeCounts, frechet_distance, psnr, ssim
from bahumukha.evaluate.pictures import Progress, quiet
from bahumukha.images import Preprocess, open_image
from bahumukha.models.perceptual import PerceptualDistance
from bahumukha.protocols import ImageCodec

Features = Callable[[Tensor], Tensor]
"""Pictures (B, 3, H, W) in [0, 1] -> features (B, dim)."""

FEATURE_SIZE = 160
"""Side of the pictures that the EfficientNet is fed for the distance between clouds."""
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
"""torch-fidelity's file, which it puts into the hub folder of PyTorch."""


@dataclass(frozen=True)
class Reconstruction:
    """What came back of some pictures, and what was kept of them."""

    pixels: Tensor
    """(B, 3, H, W) in [0, 1]."""
    ids: Tensor
    """int64 (B, h, w)."""
    psnr: Tensor
    """(B,) decibels."""


@dataclass(frozen=True)
class CodecScores:
    """Means over pictures, and what all pictures together say."""

    pictures: int
    size: int
    """Side of the pictures, in pixels."""
    tokens: int
    """Codes that a picture becomes."""
    bits: float
    """Of a picture: tokens times the binary logarithm of the number of codes."""
    psnr: float
    """Decibels; a picture that came back exactly counts as 100."""
    ssim: float
    perceptual: float | None
    """Mean of the perceptual distance given; None without one."""
    codes: int
    usage: float
    """Part of the codes that came up in these pictures."""
    perplexity: float
    """From 1 to `codes`; see `fidelity.CodeCounts`."""
    frechet: dict[str, float]
    """Squared Fréchet distance between originals and reconstructions, by the name of the features."""
    failed: list[tuple[str, str]]
    """(path, reason) of the pictures that could not be read."""


@torch.inference_mode()
def reconstruct(codec: ImageCodec, pixels: Tensor) -> Reconstruction:
    """Pictures (B, 3, H, W) in [0, 1] through the codes and back."""
    _, ids, _ = codec.quantize(codec.encode(2 * pixels - 1))
    back = codec.decode_ids(ids.flatten(1), (ids.shape[1], ids.shape[2])).float().add(1).div(2).clamp(0, 1)
    return Reconstruction(back, ids, psnr(pixels, back))


def bits(codec: ImageCodec, tokens: int) -> float:
    """Of so many codes, all equally likely: tokens times log2(codes)."""
    return tokens * math.log2(codec.codes)


def evaluate_codec(
    codec: ImageCodec,
    pictures: Sequence[Path | bytes],
    *,
    size: int = 128,
    batch: int = 8,
    distance: PerceptualDistance | None = None,
    features: Mapping[str, Features] | None = None,
    progress: Progress = quiet,
) -> CodecScores:
    """Send pictures through a codec and compare; broken ones are named in `failed`.

    size: the shortest side becomes this, and the middle square is taken; a multiple of `codec.downsampling`.
    distance: mean of it over the pictures is `perceptual`.
    features: name -> what originals and reconstructions are compared by, as `trunk_features`; takes two pictures.

    Raises UsageError when the size does not fit, or no picture can be read.
    """
    check_size(codec, size)
    sums = {"psnr": 0.0, "ssim": 0.0, "perceptual": 0.0}
    counts = CodeCounts(codec.codes)
    failed: list[tuple[str, str]] = []
    clouds: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {name: ([], []) for name in features or {}}
    seen = tokens = 0
    with progress(len(pictures), "reconstructing") as advance, torch.inference_mode():
        for x in _batches(pictures, size, batch, failed, advance):
            back = reconstruct(codec, x)
            counts.add(back.ids)
            seen, tokens = seen + len(x), back.ids[0].numel()
            sums["psnr"] += float(back.psnr.sum())
            sums["ssim"] += float(ssim(x, back.pixels).sum())
            if distance is not None:
                sums["perceptual"] += float(distance(2 * x - 1, 2 * back.pixels - 1).sum())
            for name, (originals, returned) in clouds.items():
                of = (features or {})[name]
                originals.append(of(x).cpu().numpy())
                returned.append(of(back.pixels).cpu().numpy())
    if not seen:
        raise UsageError(
            f"none of the {len(pictures)} pictures could be read" + (f": {failed[0][1]}" if failed else "")
        )
    if seen < 2:
        clouds = {}
    return CodecScores(
        pictures=seen,
        size=size,
        tokens=tokens,
        bits=bits(codec, tokens),
        psnr=sums["psnr"] / seen,
        ssim=sums["ssim"] / seen,
        perceptual=None if distance is None else sums["perceptual"] / seen,
        codes=codec.codes,
        usage=counts.usage,
        perplexity=counts.perplexity,
        frechet={name: frechet_distance(*map(np.concatenate, sides)) for name, sides in clouds.items()},
        failed=failed,
    )


def check_size(codec: ImageCodec, size: int) -> None:
    """Raises UsageError unless a codec takes squares of this side, and SSIM's window fits in."""
    step = codec.downsampling
    if size < max(step, 2 * RADIUS + 1) or size % step:
        near = max(size // step, -(-(2 * RADIUS + 1) // step), 1) * step
        raise UsageError(f"--size {size}: this codec takes multiples of {step}, as {near} or {near + step}")


def pixels_of(image: Image.Image, size: int) -> Tensor:
    """An RGB picture -> its middle square, (3, size, size) in [0, 1]."""
    return torch.from_numpy(Preprocess(size, size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))(image))


def _batches(
    pictures: Sequence[Path | bytes], size: int, batch: int, failed: list[tuple[str, str]], advance: Callable[..., None]
) -> Iterator[Tensor]:
    """(n <= batch, 3, size, size) in [0, 1]; those that cannot be read go to `failed`."""
    ready: list[Tensor] = []
    for number, picture in enumerate(pictures):
        advance()
        try:
            ready.append(pixels_of(open_image(picture, at_least=size), size))
        except ImageError as error:
            failed.append((str(picture) if isinstance(picture, Path) else f"picture {number}", str(error)))
        if len(ready) == batch:
            yield torch.stack(ready)
            ready = []
    if ready:
        yield torch.stack(ready)


# --- features that clouds are compared by -----------------------------------------------------------------


def trunk_features(trunk: nn.Module) -> Features:
    """Pooled features of a timm trunk that takes pixels in [-1, 1], at 160 px."""

    def features(x: Tensor) -> Tensor:
        side = (FEATURE_SIZE, FEATURE_SIZE)
        x = F.interpolate(x, side, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        return trunk(2 * x - 1)

    return features


def inception_weights() -> Path | None:
    """Inception's file where torch-fidelity keeps it on this machine, if it is there; nothing is downloaded."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION
    return path if path.is_file() else None


def inception_features(weights: Path) -> Features:
    """The 2048 pooled features that FID is defined on, by torch-fidelity's network. Raises ModelError."""
    network = _inception(weights)

    def features(x: Tensor) -> Tensor:
        return network((x * 255).round().to(torch.uint8))[0]

    return features


def _inception(weights: Path) -> Any:
    import tempfile

    from bahumukha.zoo.checkpoints import read_tensors

    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ModelError("rFID is computed with torch-fidelity; pip install torch-fidelity") from error
    state = read_tensors(weights)
    with tempfile.TemporaryDirectory() as folder:
        # It unpickles the file it is given, whatever that holds; so it is given one with nothing but these tensors.
        safe = Path(folder) / "inception.pth"
        torch.save(state, safe)
        try:
            return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=safe)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:160]
            raise ModelError(f"{weights}: not the weights of torch-fidelity's Inception ({reason})") from error
