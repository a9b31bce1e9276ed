"""Karlo's folder with tiny random networks, written by the libraries that read it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import PriorTransformer, UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.schedulers import UnCLIPScheduler
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

DIM, LENGTH, SMALL, LARGE = 16, 20, 16, 32
INDEX = {
    "_class_name": "UnCLIPPipeline",
    "_diffusers_version": "0.15.0.dev0",
    "decoder": ["diffusers", "UNet2DConditionModel"],
    "decoder_scheduler": ["diffusers", "UnCLIPScheduler"],
    "prior": ["diffusers", "PriorTransformer"],
    "prior_scheduler": ["diffusers", "UnCLIPScheduler"],
    "super_res_first": ["diffusers", "UNet2DModel"],
    "super_res_last": ["diffusers", "UNet2DModel"],
    "super_res_scheduler": ["diffusers", "UnCLIPScheduler"],
    "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
    "text_proj": ["unclip", "UnCLIPTextProjModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
}


def schedulers() -> dict[str, UnCLIPScheduler]:
    """As karlo-v1-alpha has them."""
    return {
        "prior_scheduler": UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", num_train_timesteps=1000, clip_sample_range=5.0
        ),
        "decoder_scheduler": UnCLIPScheduler(
            variance_type="learned_range", prediction_type="epsilon", num_train_timesteps=1000
        ),
        "super_res_scheduler": UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="epsilon", num_train_timesteps=1000
        ),
    }


def networks() -> dict[str, nn.Module]:
    """The kinds of blocks that karlo-v1-alpha has, few and narrow."""
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=514,
        hidden_size=DIM,
        projection_dim=DIM,
        intermediate_size=24,
        num_attention_heads=2,
        num_hidden_layers=2,
        max_position_embeddings=LENGTH,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    prior = PriorTransformer(
        num_attention_heads=2, attention_head_dim=8, num_layers=1, embedding_dim=DIM, num_embeddings=LENGTH
    )
    nn.init.normal_(prior.positional_embedding, std=0.3)
    nn.init.constant_(prior.clip_std, 0.5)
    nn.init.normal_(prior.clip_mean, std=0.3)
    projection = UnCLIPTextProjModel(clip_embeddings_dim=DIM, time_embed_dim=32, cross_attention_dim=12)
    nn.init.normal_(projection.learned_classifier_free_guidance_embeddings)
    decoder = UNet2DConditionModel(
        sample_size=SMALL,
        in_channels=3,
        out_channels=6,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=12,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="identity",
        norm_num_groups=4,
    )
    return {
        "text_encoder": CLIPTextModelWithProjection(text),
        "prior": prior,
        "text_proj": projection,
        "decoder": decoder,
        "super_res_first": _large(),
        "super_res_last": _large(),
    }


def _large() -> UNet2DModel:
    return UNet2DModel(
        sample_size=LARGE,
        in_channels=6,
        out_channels=3,
        down_block_types=("ResnetDownsampleBlock2D",) * 2,
        up_block_types=("ResnetUpsampleBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        add_attention=False,
        resnet_time_scale_shift="scale_shift",
    )


def make_karlo(folder: Path, *, safe: bool = True) -> dict[str, nn.Module]:
    """Write all of it; returns the networks. safe: safetensors, else the `.bin` of older files."""
    folder.mkdir(parents=True)
    made = networks()
    for name, network in made.items():
        network.eval().requires_grad_(False).save_pretrained(folder / name)  # type: ignore[operator]
        if not safe:
            for file in (folder / name).glob("*.safetensors"):
                file.unlink()
                old = "pytorch_model.bin" if name == "text_encoder" else "diffusion_pytorch_model.bin"
                torch.save(network.state_dict(), folder / name / old)
    for name, scheduler in schedulers().items():
        scheduler.save_pretrained(folder / name)
    (folder / "model_index.json").write_text(json.dumps(INDEX))
    _write_tokenizer(folder / "tokenizer")
    return made


def _write_tokenizer(folder: Path) -> None:
    """CLIP's bytes, without a merge: 256 that begin or continue a word and 256 that end one."""
    folder.mkdir()
    letters = sorted(ByteLevel.alphabet())
    words = letters + [letter + "</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    special["unk_token"] = "<|endoftext|>"
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    settings = {**special, "model_max_length": LENGTH, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
