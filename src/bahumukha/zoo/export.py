"""A trained CLIP -> a model folder: safetensors, two ONNX graphs, tokenizer, config.

`export_clip` writes it; `check` compares its graphs with the network they were made from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from torch import nn

from bahumukha.errors import ModelError
from bahumukha.images import Preprocess
from bahumukha.models.clip import Clip
from bahumukha.zoo.folder import CONFIG, IMAGE_TOWER, TEXT_TOWER, TOKENIZER, WEIGHTS, fingerprint
from bahumukha.zoo.small_tensors import restored, with_int8_rows
from bahumukha.zoo.storage import Storage, fold, store_small

Precision = Literal["float32", "float16", "int8"]
GRAPHS: Mapping[Precision, Storage] = {"float32": "float32", "float16": "float16", "int8": "int8-dynamic"}
LEAST_COSINE: Mapping[Precision, float] = {"float32": 0.9999, "float16": 0.999, "int8": 0.99}
"""Between an exported graph's embeddings and the network's own."""
LARGEST_GRAPH = 2_000_000_000
"""Bytes; a file of ONNX is one protobuf message, which ends at 2 GiB."""
WORDS = "text.token.weight"
"""The embeddings of tokens."""
SENTENCES = (
    "a photo of a cat",
    "two red apples on a wooden table, seen from above",
    "the sea",
    "a black and white drawing of a man who rides a bicycle down a narrow street in the rain at night",
    "ఒక పిల్లి",
    "3 birds & 1 dog",
)
"""What `check` asks the text tower."""


class _ImageGraph(nn.Module):
    def __init__(self, model: Clip):
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.encode_image(pixels)


class _TextGraph(nn.Module):
    def __init__(self, model: Clip):
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.model.encode_text(ids, mask)


def export_clip(
    model: Clip,
    folder: Path,
    *,
    name: str,
    tokenizer: str,
    preprocess: Preprocess,
    templates: Sequence[str],
    steps: int,
    image_storage: Storage = "float16",
    text_storage: Storage = "int8",
    weights: Literal["float32", "float16"] = "float16",
    words: Literal["as weights", "int8"] = "as weights",
    twin: bool = True,
) -> None:
    """Write everything of a model folder but its card. `tokenizer` is the JSON text of a `tokenizers.Tokenizer`.

    With `weights` float16 the model itself is rounded too, so that it stays the twin of what was written; so are its
    embeddings of tokens with `words` int8, half the size of float16 (`zoo.small_tensors`).
    Without `twin` there is no `model.safetensors`. Raises ModelError when a graph is too large for its file.
    """
    from safetensors.torch import save_file

    model = model.eval()
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    (folder / TOKENIZER).write_text(tokenizer, encoding="utf-8")
    state = model.state_dict()
    if weights == "float16":
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    if words == "int8":
        state = with_int8_rows(state, [WORDS])
    model.load_state_dict(restored(state))
    if twin:
        save_file({k: v.contiguous() for k, v in state.items()}, folder / WEIGHTS)
    _save(store_small(image_graph(model, preprocess.size), image_storage), folder / IMAGE_TOWER)
    _save(store_small(text_graph(model), text_storage), folder / TEXT_TOWER)
    config: dict[str, Any] = {
        "format": 1,
        "kind": "clip",
        "name": name,
        "dim": model.config.dim,
        "logit_scale": round(float(model.logit_scale.detach()), 4),
        "context_length": model.config.text.context_length,
        "preprocess": preprocess.to_dict(),
        "templates": list(templates),
        "steps": steps,
        "architecture": model.config.to_dict(),
    }
    _write_config(folder, config)
    _write_config(folder, {**config, "fingerprint": fingerprint(folder)})


def check(folder: Path, model: Clip, least: float) -> tuple[float, float]:
    """The smallest cosine between the graphs in `folder` and `model`, over random pictures and over `SENTENCES`.

    Raises ModelError when one is below `least`.
    """
    from bahumukha.zoo.onnx import OnnxClip
    from bahumukha.zoo.tokenizer import TextTokenizer

    encoder = OnnxClip(folder)
    size = encoder.preprocess.size
    pixels = np.random.default_rng(0).normal(size=(4, 3, size, size)).astype(np.float32)
    tokenizer = TextTokenizer(folder / TOKENIZER, encoder.context_length)
    ids, mask = (torch.from_numpy(array) for array in tokenizer.pad(tokenizer(SENTENCES)))
    with torch.inference_mode():
        images = model.encode_image(torch.from_numpy(pixels), normalize=True).numpy()
        texts = model.encode_text(ids, mask, normalize=True).numpy()
    cosines = []
    for tower, ours, theirs in (
        ("image", encoder.encode_pixels(pixels), images),
        ("text", encoder.encode_texts(SENTENCES), texts),
    ):
        cosine = float((ours * theirs).sum(1).min())
        if not cosine >= least:
            raise ModelError(
                f"the exported {tower} tower agrees with the original only to a cosine of {cosine:.4f}, and {least} is "
                "asked for; nothing was kept; take a higher --precision"
            )
        cosines.append(cosine)
    return cosines[0], cosines[1]


def image_graph(model: Clip, size: int) -> onnx.ModelProto:
    """The image tower as a graph: pixels (B, 3, size, size) -> embeddings (B, dim), not normalised."""
    pixels = torch.zeros(2, 3, size, size)
    return _trace(_ImageGraph(model), {"pixels": pixels}, {"pixels": {0: torch.export.Dim.DYNAMIC}})


def text_graph(model: Clip) -> onnx.ModelProto:
    """The text tower as a graph: ids, mask (B, L) -> embeddings (B, dim), not normalised."""
    free = torch.export.Dim.DYNAMIC
    text = model.config.text
    whole = text.attention == "all"  # such texts are always padded to the context length
    ids = torch.full((2, text.context_length if whole else min(8, text.context_length)), 3)
    mask = torch.ones_like(ids)  # another tensor: for one object passed twice, the exporter makes one input
    axes = {0: free} if whole else {0: free, 1: free}
    return _trace(_TextGraph(model), {"ids": ids, "mask": mask}, {"ids": axes, "mask": axes})


def _save(graph: onnx.ModelProto, path: Path) -> None:
    size = sum(len(tensor.raw_data) for tensor in graph.graph.initializer)
    if size > LARGEST_GRAPH:
        raise ModelError(
            f"{path.name} would take {size / 1e9:.1f} GB, and a file of ONNX ends at 2; take float16 or int8"
        )
    onnx.save(graph, path)


def _write_config(folder: Path, config: Mapping[str, Any]) -> None:
    (folder / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _trace(graph: nn.Module, inputs: dict[str, torch.Tensor], shapes: dict[str, Any]) -> onnx.ModelProto:
    program = torch.onnx.export(
        graph.eval(),
        kwargs=inputs,
        dynamo=True,
        dynamic_shapes=shapes,
        input_names=list(inputs),
        output_names=["embeddings"],
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:  # notes on the Python source: half the file, and paths of the machine in it
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    fold(model)
    return model
