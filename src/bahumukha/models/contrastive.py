"""The losses of CLIP: which picture belongs to which sentence, asked of a whole batch at once.

With unit vectors u_i of N pictures and v_j of M sentences, and z_ij = s <u_i, v_j> (+ b):

    softmax    -1/2 mean_i log softmax_j(z)_ii  -  1/2 mean_j log softmax_i(z)_jj
               (Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021, figure 3)
    sigmoid    -1/N sum_ij log sigmoid(y_ij z_ij),   y_ij = 1 for a true pair, -1 else
               (Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023, algorithm 1)

A batch that is spread over W processes: each gathers the vectors of all (`train.processes.gather`) and computes the
rows of its own part, which are those from `first` on. The mean over the processes is the loss of the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def contrastive_loss(images: Tensor, texts: Tensor, logit_scale: Tensor, positives: Tensor | None = None) -> Tensor:
    """Symmetric cross-entropy over cosine similarities (the paper's figure 3), several positives allowed.

    images (N, dim) and texts (M, dim) of norm 1; positives (N, M), True where picture and sentence belong together
    (the diagonal when None). A row or column with several positives shares its probability among them
    (Khosla et al., "Supervised Contrastive Learning", 2020); one with none is left out.
    """
    logits = logit_scale * images @ texts.T
    if positives is None:
        target = torch.arange(len(images), device=images.device)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    return (_soft_cross_entropy(logits, positives) + _soft_cross_entropy(logits.T, positives.T)) / 2


def contrastive_loss_of_part(
    images: Tensor,
    texts: Tensor,
    all_images: Tensor,
    all_texts: Tensor,
    logit_scale: Tensor,
    first: int,
    positives: Tensor | None = None,
) -> Tensor:
    """`contrastive_loss` of one process: n pictures and their n sentences against all N of the batch.

    images, texts (n, dim) are rows `first` to `first + n` of all_images, all_texts (N, dim); positives (n, N) must
    belong to a symmetric matrix, as "the same sentence" does.
    """
    to_texts, to_images = logit_scale * images @ all_texts.T, logit_scale * texts @ all_images.T  # (n, N)
    if positives is None:
        target = first + torch.arange(len(images), device=images.device)
        return (F.cross_entropy(to_texts, target) + F.cross_entropy(to_images, target)) / 2
    return (_soft_cross_entropy(to_texts, positives) + _soft_cross_entropy(to_images, positives)) / 2


def sigmoid_loss(
    images: Tensor,
    texts: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    positives: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """SigLIP's loss: every pair of a picture and a sentence is a yes-or-no question of its own.

    images (N, dim) and texts (M, dim) of norm 1, M >= first + N; positives (N, M), by default picture i belongs to
    sentence first + i. The sum over all pairs is divided by N, as in the paper.
    """
    logits = logit_scale * images @ texts.T + logit_bias
    # -log sigmoid(z) = softplus(z) - z and -log sigmoid(-z) = softplus(z): no matrix of signs is needed.
    own = logits.diagonal(first).sum() if positives is None else logits[positives].sum()
    return (F.softplus(logits).sum() - own) / len(images)


def _soft_cross_entropy(logits: Tensor, positives: Tensor) -> Tensor:
    weights = positives.to(logits.dtype)
    count = weights.sum(1)
    rows = count > 0
    losses = -(weights * logits.log_softmax(1)).sum(1)[rows] / count[rows]
    return losses.mean()
