"""Pictures a second of a tower alone: ours on ONNX Runtime beside eager PyTorch, same weights, same pixels."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.timing import line, seconds

BATCH = 32


def starter(photos: Path | None = None) -> None:
    """The starter's image tower on preprocessed pixels, batch 32."""
    import torch

    from bahumukha import runtime, zoo
    from bahumukha.zoo.pytorch import TorchClip

    ours, theirs = zoo.load(), TorchClip()
    size = theirs.model.config.image.size
    pixels = np.random.default_rng(0).uniform(-1, 1, (BATCH, 3, size, size)).astype(np.float32)
    tensor = torch.from_numpy(pixels)
    torch.set_num_threads(runtime.thread_count(None))

    def eager() -> np.ndarray:
        with torch.inference_mode():
            return theirs.encode_image(tensor, normalize=True).numpy()

    fast, slow = seconds(lambda: ours.encode_pixels(pixels), eager)
    line(f"PyTorch eager, {size} px, batch {BATCH}", BATCH / slow, "pictures/s")
    line(f"ONNX Runtime, {size} px, batch {BATCH}", BATCH / fast, "pictures/s", BATCH / slow)
    print(f"  smallest cosine between them: {(ours.encode_pixels(pixels) * eager()).sum(1).min():.6f}")


def vit_b_32(photos: Path | None = None) -> None:
    """ViT-B/32 with random weights: open_clip in eager PyTorch, then brought in and exported, float32 and int8."""
    import onnx
    import open_clip
    import torch

    from bahumukha import runtime
    from bahumukha.models.clip import Clip
    from bahumukha.zoo.architectures import from_open_clip
    from bahumukha.zoo.convert import keys, to_ours
    from bahumukha.zoo.export import GRAPHS, Precision, image_graph
    from bahumukha.zoo.onnx import OnnxClip
    from bahumukha.zoo.storage import store_small

    torch.manual_seed(0)
    name = "ViT-B-32"
    model = open_clip.create_model(name, pretrained=None).eval()
    config = from_open_clip(open_clip.get_model_config(name), name)
    ours = Clip(config).eval()
    ours.load_state_dict(to_ours(model.state_dict(), keys(config, "open_clip")))
    graph = image_graph(ours, 224)
    pixels = np.random.default_rng(0).normal(size=(BATCH, 3, 224, 224)).astype(np.float32)
    tensor = torch.from_numpy(pixels)
    torch.set_num_threads(runtime.thread_count(None))

    def eager() -> np.ndarray:
        with torch.inference_mode():
            return model.encode_image(tensor, normalize=True).numpy()

    with tempfile.TemporaryDirectory() as scratch:
        encoders = []
        precisions: tuple[Precision, ...] = ("float32", "int8")
        for precision in precisions:
            folder = Path(scratch) / precision
            (folder / "onnx").mkdir(parents=True)
            _write_config(folder, config.to_dict())
            onnx.save(store_small(graph, GRAPHS[precision]), folder / "onnx" / "image.onnx")
            encoders.append(OnnxClip(folder))
        whole, small = encoders
        slow, fast, faster = seconds(eager, lambda: whole.encode_pixels(pixels), lambda: small.encode_pixels(pixels))
        cosines = [(encoder.encode_pixels(pixels) * eager()).sum(1).min() for encoder in encoders]
    line(f"open_clip ViT-B/32, PyTorch eager, batch {BATCH}", BATCH / slow, "pictures/s")
    line("exported, ONNX Runtime, float32", BATCH / fast, "pictures/s", BATCH / slow)
    line("exported, ONNX Runtime, int8", BATCH / faster, "pictures/s", BATCH / slow)
    print(f"  smallest cosine to eager: float32 {cosines[0]:.6f}, int8 {cosines[1]:.5f}")


def _write_config(folder: Path, architecture: dict[str, Any]) -> None:
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    preprocess = {"size": 224, "resize": 224, "mode": "shortest", "interpolation": "bicubic", "mean": mean, "std": std}
    config = {
        "format": 1,
        "kind": "clip",
        "name": "random/ViT-B-32",
        "dim": 512,
        "logit_scale": 100.0,
        "fingerprint": "random",
        "preprocess": preprocess,
        "context_length": 77,
        "templates": ["a photo of a {}."],
        "architecture": architecture,
    }
    (folder / "config.json").write_text(json.dumps(config))
