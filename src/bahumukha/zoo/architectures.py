"""Configurations of OpenCLIP and transformers to and from ours.

Refuses what our two towers cannot hold, in one line that says what they can: image towers that are Vision Transformers
(OpenAI's, OpenCLIP's, SigLIP's) or timm trunks with a linear head; text towers that are OpenCLIP's transformer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bahumukha.errors import ModelError
from bahumukha.models.clip import ClipConfig, ImageTowerConfig
from bahumukha.models.text import TextTowerConfig
from bahumukha.models.vit import ViTConfig
from bahumukha.nn.attention import NORM_EPSILON, Activation
from bahumukha.zoo.convert import has_custom_text, is_siglip

CAN_IMPORT = (
    "what can be imported: ViT models of CLIP, OpenCLIP and SigLIP, timm image towers with a linear head, "
    "each with OpenCLIP's own text tower"
)
HEAD_WIDTH = 64
"""Of OpenCLIP's image towers, where their configuration does not say."""


def refuse(name: str, reason: str) -> ModelError:
    """The error for an architecture that does not map onto ours."""
    return ModelError(f"{name}: {reason}, which bahumukha does not have; {CAN_IMPORT}")


# --- OpenCLIP ---------------------------------------------------------------------------------------------


def from_open_clip(config: Mapping[str, Any], name: str) -> ClipConfig:
    """`model_cfg` of OpenCLIP (its `model_configs/NAME.json`) -> ours. Raises ModelError."""
    if "multimodal_cfg" in config:
        raise refuse(name, "it has a caption decoder (CoCa)")
    quick = bool(config.get("quick_gelu"))
    return ClipConfig(
        dim=config["embed_dim"],
        image=_open_clip_image(config["vision_cfg"], quick, name),
        text=_open_clip_text(config["text_cfg"], quick, name),
        logit_bias=config.get("init_logit_bias") is not None,
    )


def _open_clip_image(vision: Mapping[str, Any], quick: bool, name: str) -> ImageTowerConfig | ViTConfig:
    if vision.get("timm_model_name"):
        return _timm_image(vision, name)
    if isinstance(vision["layers"], list):
        raise refuse(name, "its image tower is CLIP's modified ResNet")
    _only(vision, {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size", "patch_dropout",
                   "no_ln_pre", "pos_embed_type", "act_kwargs", "norm_kwargs", "output_tokens"}, name)  # fmt: skip
    width = vision.get("width", 768)
    return ViTConfig(
        size=vision.get("image_size", 224),
        patch=vision.get("patch_size", 16),
        width=width,
        layers=vision.get("layers", 12),
        heads=width // vision.get("head_width", HEAD_WIDTH),
        mlp_ratio=_ratio(width, vision.get("mlp_ratio", 4.0)),
        activation=_activation(quick, vision.get("act_kwargs")),
        pre_norm=not vision.get("no_ln_pre", False),
        epsilon=(vision.get("norm_kwargs") or {}).get("eps", NORM_EPSILON),
    )


def _timm_image(vision: Mapping[str, Any], name: str) -> ImageTowerConfig | ViTConfig:
    import timm
    import torch

    trunk, pool, projection = vision["timm_model_name"], vision.get("timm_pool", "avg"), vision.get("timm_proj")
    if not timm.is_model(trunk):
        raise refuse(name, f"its image tower is {trunk}, which this version of timm does not know")
    size = vision.get("image_size", 224)
    if pool == "map" and projection == "none" and "siglip" in trunk:
        with torch.device("meta"):
            return _from_timm_vit(timm.create_model(trunk, num_classes=0, img_size=size), size)
    if projection == "linear" and pool == "" and not vision.get("timm_proj_bias"):
        return ImageTowerConfig(trunk, size)
    raise refuse(name, f"its image tower is {trunk} with pool {pool!r} and projection {projection!r}")


def _from_timm_vit(trunk: Any, size: int) -> ViTConfig:
    block = trunk.blocks[0]
    width = trunk.embed_dim
    return ViTConfig(
        size=size,
        patch=trunk.patch_embed.patch_size[0],
        width=width,
        layers=len(trunk.blocks),
        heads=block.attn.num_heads,
        mlp_ratio=block.mlp.fc1.out_features / width,
        activation="gelu_tanh" if "tanh" in repr(block.mlp.act).lower() else "gelu",
        pool="attention",
        class_token=False,
        pre_norm=False,
        patch_bias=True,
        projection=False,
        epsilon=trunk.norm.eps,
    )


def _open_clip_text(text: Mapping[str, Any], quick: bool, name: str) -> TextTowerConfig:
    if text.get("hf_model_name"):
        raise refuse(name, f"its text tower is {text['hf_model_name']} from transformers")
    _only(text, {"context_length", "vocab_size", "hf_tokenizer_name", "tokenizer_kwargs", "width", "heads", "layers",
                 "mlp_ratio", "no_causal_mask", "pad_id", "eos_id", "pool_type", "proj_bias", "act_kwargs",
                 "norm_kwargs", "output_tokens"}, name)  # fmt: skip
    vocabulary, pool = text.get("vocab_size", 49408), text.get("pool_type", "argmax")
    ends = {"argmax": vocabulary - 1, "eos": text.get("eos_id", 2), "last": None}
    if pool not in ends or (pool == "last") and not text.get("no_causal_mask"):
        raise refuse(name, f"its text tower pools by {pool!r}")
    width = text.get("width", 512)
    return TextTowerConfig(
        vocabulary=vocabulary,
        context_length=text.get("context_length", 77),
        width=width,
        layers=text.get("layers", 12),
        heads=text.get("heads", 8),
        mlp_ratio=_ratio(width, text.get("mlp_ratio", 4.0)),
        activation=_activation(quick, text.get("act_kwargs")),
        attention="all" if text.get("no_causal_mask") else "causal",
        pool="last" if pool == "last" else "end",
        end_token=ends[pool],
        projection_bias=bool(text.get("proj_bias")),
        epsilon=(text.get("norm_kwargs") or {}).get("eps", NORM_EPSILON),
    )


def _only(config: Mapping[str, Any], known: set[str], name: str) -> None:
    """Refuses a tower with an option that is set and that we do not know."""
    defaults = {"pool_type": "tok", "proj_type": "linear"}
    for key, value in config.items():
        if key not in known and value and value != defaults.get(key):
            raise refuse(name, f"its configuration has {key} = {value!r}")


def _activation(quick: bool, options: Mapping[str, Any] | None) -> Activation:
    if quick:
        return "quick_gelu"
    return "gelu_tanh" if (options or {}).get("approximate") == "tanh" else "gelu"


def _ratio(width: int, ratio: float) -> float:
    """The same hidden width, which they round down and we to the nearest."""
    return int(width * ratio) / width


def to_open_clip(config: ClipConfig, name: str) -> dict[str, Any]:
    """The inverse of `from_open_clip`, for `open_clip_config.json`. Raises ModelError where they have no such tower."""
    image, text = config.image, config.text
    activations = {text.activation} | ({image.activation} if isinstance(image, ViTConfig) else set())
    quick = "quick_gelu" in activations
    if text.pool == "mean" or text.projection_hidden or (quick and (len(activations) > 1)):
        raise ModelError(f"{name}: OpenCLIP has no such towers; export it as onnx")
    made: dict[str, Any] = {"embed_dim": config.dim, "quick_gelu": quick, "custom_text": has_custom_text(config)}
    if config.logit_bias:
        made["init_logit_bias"] = -10
    made["vision_cfg"] = _image_to_open_clip(image, name)
    made["text_cfg"] = {
        "context_length": text.context_length,
        "vocab_size": text.vocabulary,
        "width": text.width,
        "heads": text.heads,
        "layers": text.layers,
        "mlp_ratio": text.mlp_ratio,
        "no_causal_mask": text.attention == "all",
        "proj_bias": text.projection_bias,
        "pool_type": "last" if text.pool == "last" else "eos",
        "norm_kwargs": {"eps": text.epsilon},
        **({"eos_id": text.end_token} if text.pool == "end" else {}),
        **({"act_kwargs": {"approximate": "tanh"}} if text.activation == "gelu_tanh" else {}),
    }
    return made


def _image_to_open_clip(image: ImageTowerConfig | ViTConfig, name: str) -> dict[str, Any]:
    if isinstance(image, ImageTowerConfig):
        return {"timm_model_name": image.trunk, "timm_pool": "", "timm_proj": "linear", "image_size": image.size}
    if is_siglip(image):
        trunk = _timm_siglip(image, name)
        return {"timm_model_name": trunk, "timm_pool": "map", "timm_proj": "none", "image_size": image.size}
    if image.pool != "class" or image.patch_bias or not image.projection:
        raise ModelError(f"{name}: OpenCLIP has no such image tower; export it as onnx")
    return {
        "image_size": image.size,
        "patch_size": image.patch,
        "width": image.width,
        "layers": image.layers,
        "head_width": image.width // image.heads,
        "mlp_ratio": image.mlp_ratio,
        "no_ln_pre": not image.pre_norm,
        "norm_kwargs": {"eps": image.epsilon},
        **({"act_kwargs": {"approximate": "tanh"}} if image.activation == "gelu_tanh" else {}),
    }


def _timm_siglip(image: ViTConfig, name: str) -> str:
    """timm's name for a SigLIP tower of these sizes."""
    import timm
    import torch

    for trunk in timm.list_models("vit_*siglip*"):
        if "_gap_" in trunk or ("patch" in trunk and f"patch{image.patch}_" not in trunk):
            continue
        with torch.device("meta"):
            made = _from_timm_vit(timm.create_model(trunk, num_classes=0, img_size=image.size), image.size)
        if made == image:
            return trunk
    raise ModelError(f"{name}: timm, which OpenCLIP takes such image towers from, has none of these sizes")


# --- transformers -----------------------------------------------------------------------------------------


def from_transformers(config: Mapping[str, Any], name: str) -> ClipConfig:
    """`CLIPConfig.to_dict()` or `SiglipConfig.to_dict()` of transformers -> ours. Raises ModelError."""
    kind = config.get("model_type")
    if kind not in ("clip", "siglip"):
        raise ModelError(f"{name}: a model of type {kind!r}; a folder of CLIPModel or SiglipModel can be imported")
    vision, text = config["vision_config"], config["text_config"]
    siglip = kind == "siglip"
    if siglip and not vision.get("vision_use_head", True):
        raise refuse(name, "its image tower has no pooling head")
    end = text.get("eos_token_id")
    return ClipConfig(
        dim=text["projection_size"] if siglip else config["projection_dim"],
        image=ViTConfig(
            size=vision["image_size"],
            patch=vision["patch_size"],
            pool="attention" if siglip else "class",
            class_token=not siglip,
            pre_norm=not siglip,
            patch_bias=siglip,
            projection=not siglip,
            **_sizes(vision, name),
        ),
        text=TextTowerConfig(
            vocabulary=text["vocab_size"],
            context_length=text["max_position_embeddings"],
            attention="all" if siglip else "causal",
            pool="last" if siglip else "end",
            # Old configurations say 2, which was never true; the highest id of a vocabulary is what they mean.
            end_token=None if siglip else text["vocab_size"] - 1 if end in (2, None) else end,
            projection_bias=siglip,
            **_sizes(text, name),
        ),
        logit_bias=siglip,
    )


_FROM_TRANSFORMERS: Mapping[str, Activation] = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def _sizes(tower: Mapping[str, Any], name: str) -> dict[str, Any]:
    if tower["hidden_act"] not in _FROM_TRANSFORMERS:
        raise refuse(name, f"it has the activation {tower['hidden_act']}")
    return {
        "width": tower["hidden_size"],
        "layers": tower["num_hidden_layers"],
        "heads": tower["num_attention_heads"],
        "mlp_ratio": tower["intermediate_size"] / tower["hidden_size"],
        "activation": _FROM_TRANSFORMERS[tower["hidden_act"]],
        "epsilon": tower["layer_norm_eps"],
    }


def to_transformers(config: ClipConfig, name: str) -> dict[str, Any]:
    """The inverse of `from_transformers`, for `config.json`. Raises ModelError where they have no such towers."""
    image, text = config.image, config.text
    siglip = config.logit_bias
    fits = (
        isinstance(image, ViTConfig)
        and not text.projection_hidden
        and image.pool == ("attention" if siglip else "class")
        and image.pre_norm is image.class_token is image.projection is not siglip
        and image.patch_bias is text.projection_bias is siglip
        and (text.attention, text.pool) == (("all", "last") if siglip else ("causal", "end"))
    )
    if not fits:
        raise ModelError(f"{name}: neither CLIPModel nor SiglipModel has such towers; export it as onnx")
    assert isinstance(image, ViTConfig)
    vision = {"image_size": image.size, "patch_size": image.patch, **_sizes_to_transformers(image)}
    words = {
        "vocab_size": text.vocabulary,
        "max_position_embeddings": text.context_length,
        **_sizes_to_transformers(text),
    }
    if siglip:
        words["projection_size"] = config.dim
        return {"model_type": "siglip", "architectures": ["SiglipModel"], "vision_config": vision, "text_config": words}
    words |= {"eos_token_id": text.end_token, "projection_dim": config.dim}
    vision |= {"projection_dim": config.dim}
    return {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": config.dim,
        "vision_config": vision,
        "text_config": words,
    }


def _sizes_to_transformers(tower: ViTConfig | TextTowerConfig) -> dict[str, Any]:
    names = {ours: theirs for theirs, ours in _FROM_TRANSFORMERS.items()}
    return {
        "hidden_size": tower.width,
        "intermediate_size": round(tower.width * tower.mlp_ratio),
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "hidden_act": names[tower.activation],
        "layer_norm_eps": tower.epsilon,
    }
