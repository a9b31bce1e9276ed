"""Checkpoints as taming-transformers publishes them, from random weights of diffusers' `VQModel`, which computes the
same numbers; and what PyTorch Lightning puts around them, of classes that cannot be imported afterwards."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import VQModel
from torch import Tensor

F16 = {"ch": 128, "ch_mult": [1, 1, 2, 2, 4], "num_res_blocks": 2, "attn_resolutions": [16], "resolution": 256}
"""vqgan_imagenet_f16_1024 and _16384; z_channels and embed_dim 256."""
F8 = {"ch": 128, "ch_mult": [1, 1, 2, 4], "num_res_blocks": 2, "attn_resolutions": [32], "resolution": 256}
"""vqgan_gumbel_f8."""
TINY_F16 = {"ch": 32, "ch_mult": [1, 1, 2, 1, 2], "num_res_blocks": 1, "attn_resolutions": [4], "resolution": 64}
TINY_F8 = {"ch": 32, "ch_mult": [1, 1, 2, 2], "num_res_blocks": 2, "attn_resolutions": [8], "resolution": 64}


def config(
    networks: Mapping[str, Any], *, z: int = 256, dim: int = 256, codes: int = 1024, kind: str = "VQModel"
) -> Any:
    """The YAML of a codec, as a dictionary."""
    described = {"double_z": False, "z_channels": z, "in_channels": 3, "out_ch": 3, "dropout": 0.0, **networks}
    loss = {"target": "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator", "params": {"disc_start": 0}}
    parameters = {"embed_dim": dim, "n_embed": codes, "ddconfig": described, "lossconfig": loss}
    if kind == "GumbelVQ":
        schedule = {"target": "taming.lr_scheduler.LambdaWarmUpCosineScheduler", "params": {"lr_start": 0.9}}
        parameters |= {"kl_weight": 1e-8, "temperature_scheduler_config": schedule, "monitor": "val/rec_loss"}
    return {"model": {"base_learning_rate": 4.5e-6, "target": f"taming.models.vqgan.{kind}", "params": parameters}}


def transformer_config(codec: Any) -> Any:
    """The YAML of a transformer around a codec."""
    parameters = {"first_stage_config": codec["model"], "transformer_config": {"params": {"vocab_size": 64}}}
    target = "taming.models.cond_transformer.Net2NetTransformer"
    return {"model": {"target": target, "params": parameters}, "data": {"params": {"batch_size": 2}}}


def write_config(values: Any, path: Path) -> Path:
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def build_diffusers(values: Any) -> VQModel:
    """diffusers' model of a config; codes of about the latents' size, so that none is nearest everywhere."""
    parameters = values["model"]["params"]
    networks = parameters["ddconfig"]
    levels = range(len(networks["ch_mult"]))
    has_attention = [networks["resolution"] // 2**level in networks["attn_resolutions"] for level in levels]
    model = VQModel(
        block_out_channels=[networks["ch"] * factor for factor in networks["ch_mult"]],
        down_block_types=[f"{'Attn' if each else ''}DownEncoderBlock2D" for each in has_attention],
        up_block_types=[f"{'Attn' if each else ''}UpDecoderBlock2D" for each in reversed(has_attention)],
        layers_per_block=networks["num_res_blocks"],
        latent_channels=networks["z_channels"],
        vq_embed_dim=parameters["embed_dim"],
        num_vq_embeddings=parameters["n_embed"],
        lookup_from_codebook=True,
    )
    torch.nn.init.normal_(model.quantize.embedding.weight, std=0.3)
    for name, parameter in model.named_parameters():  # norms and biases that are still 1 and 0 would hide a mistake
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.2)
    return model.eval()


def taming_state(model: VQModel, *, proj: torch.nn.Conv2d | None = None) -> dict[str, Tensor]:
    """The weights under taming's names; with `proj`, the map to logits, as those of a Gumbel model.

    Beside them what else lies in their checkpoints: the critic and LPIPS, under `loss.`.
    """
    levels = len(model.decoder.up_blocks)
    state = {_taming_name(name, levels): tensor for name, tensor in model.state_dict().items()}
    for name, tensor in state.items():
        if re.search(r"attn(\.\d+|_1)\.(q|k|v|proj_out)\.weight$", name):
            state[name] = tensor[:, :, None, None]  # 1 x 1 convolutions
    if proj is not None:
        state["quantize.embed.weight"] = state.pop("quantize.embedding.weight")
        state |= {f"quantize.proj.{name}": tensor for name, tensor in proj.state_dict().items()}
    state["loss.discriminator.main.0.weight"] = torch.randn(4, 3, 4, 4)
    state["loss.discriminator.main.3.num_batches_tracked"] = torch.tensor(7)
    state["loss.perceptual_loss.net.slice1.0.weight"] = torch.randn(4, 3, 3, 3)
    return state


def _taming_name(name: str, levels: int) -> str:
    for pattern, to in (
        (r"encoder\.down_blocks\.(\d+)\.resnets\.", r"encoder.down.\1.block."),
        (r"encoder\.down_blocks\.(\d+)\.attentions\.", r"encoder.down.\1.attn."),
        (r"encoder\.down_blocks\.(\d+)\.downsamplers\.0\.", r"encoder.down.\1.downsample."),
        (r"decoder\.up_blocks\.(\d+)\.resnets\.", r"decoder.up.\1.block."),
        (r"decoder\.up_blocks\.(\d+)\.attentions\.", r"decoder.up.\1.attn."),
        (r"decoder\.up_blocks\.(\d+)\.upsamplers\.0\.", r"decoder.up.\1.upsample."),
        (r"mid_block\.resnets\.0\.", "mid.block_1."),
        (r"mid_block\.resnets\.1\.", "mid.block_2."),
        (r"mid_block\.attentions\.0\.", "mid.attn_1."),
        (r"conv_shortcut\.", "nin_shortcut."),
        (r"conv_norm_out\.", "norm_out."),
        (r"group_norm\.", "norm."),
        (r"to_(q|k|v)\.", r"\1."),
        (r"to_out\.0\.", "proj_out."),
    ):
        name = re.sub(pattern, to, name)
    return re.sub(r"decoder\.up\.(\d+)", lambda found: f"decoder.up.{levels - 1 - int(found[1])}", name)


# --- Lightning


@contextmanager
def lightning() -> Iterator[dict[str, Any]]:
    """Classes of a pytorch_lightning that exists inside this block only."""

    def made(module: str, name: str, *bases: type) -> Any:
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            sys.modules.setdefault(".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
        kind = type(name, bases, {"__module__": module})
        setattr(sys.modules[module], name, kind)
        return kind

    before = set(sys.modules)
    try:
        yield {
            "callback": made("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
            "settings": made("pytorch_lightning.utilities.parsing", "AttributeDict", dict),
            "values": made("omegaconf.listconfig", "ListConfig", list),
            "names": made("omegaconf.base", "Names", set),
            "node": made("omegaconf.dictconfig", "DictConfig"),
        }
    finally:
        for name in set(sys.modules) - before:
            del sys.modules[name]


def save_lightning(state: Mapping[str, Tensor], path: Path, **more: Any) -> Path:
    """A checkpoint as Lightning 1 leaves it at the end of a training; `more` are further entries."""
    from collections import defaultdict
    from functools import partial

    import numpy as np

    with lightning() as classes:
        node = classes["node"]()
        node.content, node.flags = {"ch": 128}, defaultdict(list, {"readonly": [True]})
        checkpoint = {
            "epoch": 12,
            "global_step": 2**40,
            "pytorch-lightning_version": "1.0.8",
            "callbacks": {classes["callback"]: {"best_model_score": torch.tensor(0.5), "best": Path("a/b.ckpt")}},
            "optimizer_states": [
                {"state": {0: {"step": 3, "exp_avg": torch.zeros(5)}}, "param_groups": [{"lr": 1e-4}]}
            ],
            "lr_schedulers": [partial(max, 1), np.float64(0.5), frozenset([1]), {2, 3}, b"bytes", 1j],
            "hparams_name": "kwargs",
            "hyper_parameters": classes["settings"](
                ddconfig=node, sizes=classes["values"]([1, 1, 2]), names=classes["names"](["a"])
            ),
            "state_dict": dict(state),
            **more,
        }
        torch.save(checkpoint, path)
    return path
