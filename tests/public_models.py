"""Tiny random models of OpenCLIP and transformers, as their own libraries build them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

WORDS = 49408
"""Entries of CLIP's own vocabulary, which a model has to have when real texts are tokenized for it."""
SIGLIP_TRUNK = "vit_tiny_patch8_siglip_32"
TIMM_TRUNK = "test_convnext"


def open_clip_config(*, quick_gelu: bool = False, vocabulary: int = 60, context: int = 16) -> dict[str, Any]:
    return {
        "embed_dim": 24,
        "quick_gelu": quick_gelu,
        "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": context, "vocab_size": vocabulary, "width": 32, "heads": 4, "layers": 2},
    }


def open_clip_siglip_config(*, tanh: bool = False, vocabulary: int = 60) -> dict[str, Any]:
    """Of OpenCLIP's ViT-*-SigLIP, whose image tower is timm's; call `register_siglip_trunk` first."""
    text = {
        "context_length": 16,
        "vocab_size": vocabulary,
        "hf_tokenizer_name": "tests/siglip",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 64,
        "heads": 4,
        "layers": 2,
        "mlp_ratio": 3.7362,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    }
    if tanh:
        text["act_kwargs"] = {"approximate": "tanh"}
    vision = {"image_size": 32, "timm_model_name": SIGLIP_TRUNK, "timm_pool": "map", "timm_proj": "none"}
    return {"embed_dim": 64, "init_logit_bias": -10, "custom_text": True, "vision_cfg": vision, "text_cfg": text}


def open_clip_timm_config() -> dict[str, Any]:
    """A timm trunk with a linear head, as OpenCLIP's ConvNeXt models are."""
    vision = {"image_size": 64, "timm_model_name": TIMM_TRUNK, "timm_pool": "", "timm_proj": "linear"}
    return open_clip_config() | {"vision_cfg": vision}


def register_siglip_trunk() -> None:
    """Make timm know a SigLIP tower of 64 x 2 layers."""
    if timm.is_model(SIGLIP_TRUNK):
        return

    def build(pretrained: bool = False, **options: Any) -> VisionTransformer:
        sizes = {"patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 4, "class_token": False}
        options = {"img_size": 32, "global_pool": "map"} | {
            key: value for key, value in options.items() if not key.startswith("pretrained") and key != "cache_dir"
        }
        return VisionTransformer(**sizes, **options)

    build.__name__, build.__module__ = SIGLIP_TRUNK, "timm.models.vision_transformer"
    timm.models.register_model(build)


def build_open_clip(config: dict[str, Any]) -> Any:
    """OpenCLIP's model, shaken."""
    options = {key: value for key, value in config.items() if key != "custom_text"}
    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    return shaken(kind(**options))


def shaken(model: nn.Module) -> Any:
    """The model with noise on every weight, so that no bias is zero and no norm is one; in eval mode."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "logit" not in name:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def transformers_clip(*, activation: str = "quick_gelu", vocabulary: int = 60, end: int = 59) -> Any:
    """A `CLIPModel`, shaken."""
    from transformers import CLIPConfig, CLIPModel

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "hidden_act": activation}  # fmt: skip
    text = sizes | {"vocab_size": vocabulary, "max_position_embeddings": 16, "eos_token_id": end, "bos_token_id": 58,
                    "pad_token_id": end}  # fmt: skip
    vision = sizes | {"hidden_size": 64, "image_size": 32, "patch_size": 8}
    return shaken(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)))


def transformers_siglip(*, vocabulary: int = 60) -> Any:
    """A `SiglipModel`, shaken."""
    from transformers import SiglipConfig, SiglipModel

    sizes = {"hidden_size": 32, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = sizes | {"vocab_size": vocabulary, "max_position_embeddings": 16, "projection_size": 32}
    vision = sizes | {"image_size": 32, "patch_size": 8}
    return shaken(SiglipModel(SiglipConfig(text_config=text, vision_config=vision)))


def save_weights(model: nn.Module, path: Path) -> Path:
    """The state dict as a checkpoint of PyTorch, or as safetensors."""
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path
