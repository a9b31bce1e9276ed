"""Karlo on disk: `kakaobrain/karlo-v1-alpha` as its repository lays it out, an unCLIP of 64, then 256 pixels.

    FOLDER/model_index.json
      tokenizer/  text_encoder/                  transformers: CLIPTokenizer, CLIPTextModelWithProjection
      prior/  decoder/                           diffusers: PriorTransformer, UNet2DConditionModel
      super_res_first/  super_res_last/          diffusers: UNet2DModel
      text_proj/                                 `models.karlo.TextProjection`
      prior_scheduler/  decoder_scheduler/  super_res_scheduler/

Memory: the networks have about 0.1, 1.0, 0.9, 0.7 and 0.7 thousand million weights, which in float32 are 14 GB
together. So each is read when its turn comes and let go after it: the largest alone takes 4 GB. Nothing is downloaded,
and nothing is unpickled: weights are safetensors, or a `.bin` that holds tensors alone.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bahumukha.errors import ModelError
from bahumukha.models.karlo import TextProjection
from bahumukha.models.text import TextFeatures
from bahumukha.zoo.checkpoints import read_tensors
from bahumukha.zoo.folder import CARD, CONFIG, FORMAT, available
from bahumukha.zoo.small_tensors import restored

INDEX = "model_index.json"
KARLO = "karlo"
NETWORKS = ("text_encoder", "prior", "text_proj", "decoder", "super_res_first", "super_res_last")
SCHEDULERS = ("prior_scheduler", "decoder_scheduler", "super_res_scheduler")
Network = Literal["prior", "text_proj", "decoder", "super_res_first", "super_res_last"]
WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
    "diffusion_pytorch_model.fp16.safetensors",
    "model.fp16.safetensors",
)
"""Names of weights; the first that is there is read."""
NOT_NEEDED = ("position_ids",)
"""Endings of entries that older files hold beside the weights."""


@dataclass(frozen=True)
class Process:
    """How a network was trained: on which of so many steps of the cosine table (Nichol and Dhariwal 2021)."""

    steps: int
    predicts: Literal["clean", "noise"]
    limit: float | None
    """Estimates are clipped to this; None for not at all."""


class Karlo:
    """A folder that has been looked at, of which nothing is in memory yet."""

    def __init__(self, folder: str | Path):
        """Raises ModelError where a part is missing."""
        self.folder = Path(folder).expanduser()
        if not (self.folder / INDEX).is_file():
            raise ModelError(f"{self.folder}: not a folder of Karlo, it has no {INDEX}")
        missing = [part for part in (*NETWORKS, "tokenizer", *SCHEDULERS) if not (self.folder / part).is_dir()]
        if missing:
            raise ModelError(f"{self.folder}: {missing[0]} is missing; copy all of kakaobrain/karlo-v1-alpha")
        self.name = self.folder.name
        self.prior_process, self.decoder_process, self.large_process = (self._process(part) for part in SCHEDULERS)

    def memory(self) -> dict[str, int]:
        """Bytes that each network takes in float32, by the size of its file."""
        found = {}
        for part in NETWORKS:
            path = self._weights(part)
            found[part] = path.stat().st_size * (2 if ".fp16." in path.name else 1)
        return found

    def settings(self, part: Network) -> dict[str, Any]:
        """`config.json` of a network. Raises ModelError."""
        return self._json(self.folder / part / "config.json")

    def network(self, part: Network) -> Any:
        """A network: float32, in eval mode, frozen. Raises ModelError."""
        import diffusers

        settings = self.settings(part)
        if part == "text_proj":
            wanted = ("clip_embeddings_dim", "time_embed_dim", "cross_attention_dim")
            sizes = {name: settings[name] for name in wanted if name in settings}
            return self._filled(part, lambda: TextProjection(**sizes, tokens=settings["clip_extra_context_tokens"]))
        kinds = {"prior": "PriorTransformer", "decoder": "UNet2DConditionModel"}
        kind = getattr(diffusers, kinds.get(part, "UNet2DModel"))
        return self._filled(part, lambda: kind.from_config(settings))

    @torch.no_grad()
    def read_texts(self, texts: Sequence[str]) -> tuple[TextFeatures, TextFeatures]:
        """Sentences, and as many empty ones, as the text tower has them: embeddings as they are, not of norm 1."""
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

        try:
            tokenizer = CLIPTokenizer.from_pretrained(str(self.folder / "tokenizer"), local_files_only=True)
        except Exception as error:  # the library raises several kinds
            raise ModelError(f"{self.folder / 'tokenizer'}: not a tokenizer ({_first_line(error)})") from error
        settings = self._json(self.folder / "text_encoder" / "config.json")
        network = self._filled("text_encoder", lambda: CLIPTextModelWithProjection(CLIPTextConfig(**settings)))

        def read(texts: Sequence[str]) -> TextFeatures:
            length = network.config.max_position_embeddings
            told = tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
            said = network(told.input_ids)
            return TextFeatures(said.text_embeds, said.last_hidden_state, told.attention_mask.bool())

        return read(texts), read([""] * len(texts))

    def _process(self, part: str) -> Process:
        path = self.folder / part / "scheduler_config.json"
        settings = self._json(path)
        table, predicts = settings.get("beta_schedule", "squaredcos_cap_v2"), settings.get("prediction_type", "epsilon")
        if table != "squaredcos_cap_v2" or predicts not in ("epsilon", "sample"):
            raise ModelError(f"{path}: a process of {table!r} that predicts {predicts!r} is not known of Karlo")
        limit = float(settings.get("clip_sample_range", 1.0)) if settings.get("clip_sample", True) else None
        steps = int(settings.get("num_train_timesteps", 1000))
        return Process(steps, "clean" if predicts == "sample" else "noise", limit)

    def _filled(self, part: str, build: Any) -> Any:
        """The network with the weights of its folder; each must be there and fit."""
        path = self._weights(part)
        state = restored(read_tensors(path))
        try:
            network: nn.Module = build()
        except (TypeError, ValueError, KeyError) as error:
            raise ModelError(f"{path.parent / 'config.json'}: does not fit ({_first_line(error)})") from error
        check_fits(network, state, path)
        return network.eval().requires_grad_(False)

    def _weights(self, part: str) -> Path:
        for name in WEIGHTS:
            if (self.folder / part / name).is_file():
                return self.folder / part / name
        raise ModelError(f"{self.folder / part}: no weights; expected {WEIGHTS[0]} or {WEIGHTS[2]}")

    def _json(self, path: Path) -> dict[str, Any]:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error
        except ValueError as error:
            raise ModelError(f"{path}: not JSON ({error})") from error
        if not isinstance(values, dict):
            raise ModelError(f"{path}: must hold one JSON object")
        return values


def folder_of(model: str) -> Path | None:
    """The folder of the Karlo that is called `model` or that this is a path to; None where it is none, or nothing."""
    folder = available().get(model) or Path(model).expanduser()
    return folder if model and (folder / INDEX).is_file() else None


def import_karlo(source: Path, *, name: str | None = None, replace: bool = False) -> Path:
    """Bring a folder of this layout in as a model called `name` -> its folder. Raises ModelError or UsageError.

    On the same disk its files are linked and take no more room; on another one they are copied.
    """
    from bahumukha.zoo.importing import aside, import_target  # brings graphs and public formats with it

    name = name or source.resolve().name
    target = import_target(name, replace)
    sizes = Karlo(source).memory()
    with aside(target) as folder:
        for part in (*NETWORKS, *SCHEDULERS, "tokenizer"):
            shutil.copytree(source / part, folder / part, copy_function=_linked)
        _linked(str(source / INDEX), str(folder / INDEX))
        config = {"format": FORMAT, "kind": KARLO, "name": name}
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        (folder / CARD).write_text(_card(name, sizes), encoding="utf-8")
    return target


def _linked(source: str, to: str) -> None:
    try:
        os.link(os.path.realpath(source), to)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, to)


def _card(name: str, sizes: Mapping[str, int]) -> str:
    largest = max(sizes, key=lambda part: sizes[part])
    lines = "\n".join(f"- {part}: {size / 1e9:.1f} GB" for part, size in sizes.items())
    return f"""---
licence: that of its source
summary: An unCLIP of other makers, in the layout of Karlo.
---
# {name}

Sentences to pictures, with `bahu generate --with unclip --set model={name}`. It has no network that looks at pictures,
so it cannot vary, blend or edit them.

## Memory

In float32, one network at a time, of which {largest} is the largest:

{lines}
"""


def check_fits(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Give a network its weights. Raises ModelError where one is missing, too much, or of another shape."""
    try:
        missing, others = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ModelError(
            f"{path}: the weights do not fit config.json ({' '.join(str(error).split())[:200]})"
        ) from error
    others = [name for name in others if not name.endswith(NOT_NEEDED)]
    missing = [name for name in missing if not name.endswith(NOT_NEEDED)]
    if missing or others:
        first = f"{missing[0]} is missing" if missing else f"{others[0]} is not known"
        raise ModelError(f"{path}: the weights do not fit config.json ({first})")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
