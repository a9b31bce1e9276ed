"""The one network of Karlo that no library keeps: what its decoder is told, out of embeddings and caption
(Ramesh et al. 2022, section 2.1; kakaobrain/karlo, 2022). Names of weights are those of its files."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TextProjection(nn.Module):
    """Embeddings of picture and caption, and the caption's tokens -> the decoder's sequence, and what is added to its
    time."""

    def __init__(self, *, clip_embeddings_dim: int, time_embed_dim: int, cross_attention_dim: int, tokens: int = 4):
        """tokens: that the picture's embedding is said in."""
        super().__init__()
        self.tokens = tokens
        self.learned_classifier_free_guidance_embeddings = nn.Parameter(torch.zeros(clip_embeddings_dim))
        self.embedding_proj = nn.Linear(clip_embeddings_dim, time_embed_dim)
        self.clip_image_embeddings_project_to_time_embeddings = nn.Linear(clip_embeddings_dim, time_embed_dim)
        self.clip_extra_context_tokens_proj = nn.Linear(clip_embeddings_dim, tokens * cross_attention_dim)
        self.encoder_hidden_states_proj = nn.Linear(clip_embeddings_dim, cross_attention_dim)
        self.text_encoder_hidden_states_norm = nn.LayerNorm(cross_attention_dim)

    def forward(self, picture: Tensor | None, caption: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """picture, caption (B, dim), hidden (B, L, dim) -> (B, tokens + L, width), (B, time).

        picture None: the learned embedding that stands for none.
        """
        if picture is None:
            picture = self.learned_classifier_free_guidance_embeddings.expand(len(caption), -1)
        time = self.clip_image_embeddings_project_to_time_embeddings(picture) + self.embedding_proj(caption)
        # The files have the tokens as the faster axis.
        extra = self.clip_extra_context_tokens_proj(picture).unflatten(1, (-1, self.tokens)).transpose(1, 2)
        words = self.text_encoder_hidden_states_norm(self.encoder_hidden_states_proj(hidden))
        return torch.cat([extra, words], dim=1), time
