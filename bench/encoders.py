"""Pictures a second of a tower alone: ours on ONNX Runtime beside eager PyTorch, same weights, same pixels."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

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
    """ViT-B/32 with random weights: open_clip in eager PyTorch, then the same exported, float32 and int8."""
    import open_clip
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from bahumukha import runtime
    from bahumukha.zoo.onnx import OnnxClip

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", pretrained=None).visual.eval()
    pixels = np.random.default_rng(0).normal(size=(BATCH, 3, 224, 224)).astype(np.float32)
    tensor = torch.from_numpy(pixels)
    torch.set_num_threads(runtime.thread_count(None))

    def eager() -> np.ndarray:
        with torch.inference_mode():
            return torch.nn.functional.normalize(model(tensor), dim=1).numpy()

    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / kind / "onnx" for kind in ("float32", "int8")]
        for folder in folders:
            folder.mkdir(parents=True)
            _write_config(folder.parent)
        batch = {"x": {0: torch.export.Dim("batch")}}
        names = {"input_names": ["pixels"], "output_names": ["embeddings"]}
        torch.onnx.export(
            model, (tensor[:2],), folders[0] / "image.onnx", dynamo=True, dynamic_shapes=batch, verbose=False, **names
        )
        quantize_dynamic(
            folders[0] / "image.onnx",
            folders[1] / "image.onnx",
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
        )
        whole, small = (OnnxClip(folder.parent) for folder in folders)
        slow, fast, faster = seconds(eager, lambda: whole.encode_pixels(pixels), lambda: small.encode_pixels(pixels))
        cosine = (small.encode_pixels(pixels) * whole.encode_pixels(pixels)).sum(1).min()
    line(f"open_clip ViT-B/32, PyTorch eager, batch {BATCH}", BATCH / slow, "pictures/s")
    line("exported, ONNX Runtime, float32", BATCH / fast, "pictures/s", BATCH / slow)
    line("exported, ONNX Runtime, int8", BATCH / faster, "pictures/s", BATCH / slow)
    print(f"  smallest cosine of int8 to float32: {cosine:.5f}")


def _write_config(folder: Path) -> None:
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
    }
    (folder / "config.json").write_text(json.dumps(config))
