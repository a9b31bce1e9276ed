"""Priors: what they see, what they keep apart, that they learn; and embeddings as tokens and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from bahumukha.models.embedding_tokens import TokenPriorConfig, token_prior_loss
from bahumukha.models.prior import PriorConfig, Standard, prior_loss
from bahumukha.models.text import TextFeatures
from tests.tiny_unclip import DIM, captions, pictures_of, tiny_prior, tiny_token_prior


def test_standardised_embeddings_are_as_large_as_noise_and_come_back() -> None:
    embeddings = pictures_of(captions([3] * 500))
    standard = Standard(DIM)
    standard.fit(embeddings)
    z = standard(embeddings)
    assert float(z.square().mean()) == pytest.approx(1, rel=1e-4) and float(z.mean(0).abs().max()) < 1e-5
    assert torch.allclose(standard.back(z), embeddings, atol=1e-5)
    along = z @ standard.axes.T
    assert torch.allclose(along.std(0), standard.spread, rtol=1e-2, atol=1e-4)
    assert torch.equal(standard.spread, standard.spread.sort(descending=True).values)
    assert torch.allclose(along @ standard.axes, z, atol=1e-4)


def test_the_diffusion_prior_sees_everything_and_no_padding() -> None:
    model, text = tiny_prior().eval(), captions([5, 3, 2])
    z, t = torch.randn(3, DIM), torch.tensor([0.1, 0.5, 0.9])
    told = model(z, t, text)
    assert told.shape == (3, DIM)
    alone = TextFeatures(text.embedding[1:2], text.tokens[1:2, :3], text.seen[1:2, :3])
    assert torch.allclose(model(z[1:2], t[1:2], alone), told[1:2], atol=1e-5)
    others: list[dict[str, Any]] = [{"z": z + 1}, {"t": t / 2}, {"text": text._replace(tokens=text.tokens + 1)}]
    others.append({"text": text._replace(embedding=-text.embedding)})
    for other in others:
        assert ((model(**{"z": z, "t": t, "text": text} | other) - told).abs().amax(1) > 1e-3).all()
    long = captions([9, 9])
    assert torch.equal(model(z[:2], t[:2], long), model(z[:2], t[:2], long._replace(tokens=long.tokens[:, :7])))


def test_of_a_dropped_caption_nothing_is_seen() -> None:
    text, other, t = captions([5, 3]), captions([4, 6], seed=1), torch.tensor([0.5, 0.5])
    dropped = torch.tensor([True, False])
    diffusion, z = tiny_prior().eval(), torch.randn(2, DIM)
    tokens, ids = tiny_token_prior().eval(), torch.arange(12).view(2, 6) % 9
    match = torch.tensor([1, 2])
    pairs = [
        (diffusion(z, t, text, dropped), diffusion(z, t, other, dropped)),
        (tokens(text, match, ids, dropped), tokens(other, match, ids, dropped)),
    ]
    for one, two in pairs:
        assert torch.allclose(one[0], two[0], atol=1e-5) and (one[1] - two[1]).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["diffusion", "tokens"])
def test_they_learn_what_captions_say(kind: str) -> None:
    model = tiny_prior() if kind == "diffusion" else tiny_token_prior()
    text = captions([4] * 256)
    embeddings = pictures_of(text, spread=0.0)
    if kind == "diffusion":
        model.standard.fit(embeddings)
    else:
        model.code.fit(embeddings, text.embedding)
    lose: Any = prior_loss if kind == "diffusion" else token_prior_loss
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    losses = []
    for step in range(60):
        rows = torch.arange(64) + 64 * (step % 4)
        part = TextFeatures(*(each[rows] for each in text))
        loss = lose(model, embeddings[rows], part, torch.arange(64) < 6)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-8:]) < 0.75 * sum(losses[:8])
    unused = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert all(name == "text.places" for name in unused)  # whose last rows no caption reaches


# --- embeddings as tokens


def test_tokens_keep_an_embedding_nearly_as_it_was() -> None:
    text = captions([3] * 2000)
    embeddings = pictures_of(text)
    coarse, fine = tiny_token_prior(axes=8, buckets=4).code, tiny_token_prior(axes=8, buckets=64).code
    nearness = []
    for code in (coarse, fine):
        code.fit(embeddings, text.embedding)
        ids = code.ids(embeddings)
        assert ids.shape == (2000, 8) and int(ids.min()) == 0
        counts = torch.bincount(ids[:, 0])
        assert counts.max() < 1.3 * counts.min() + 2, "buckets hold equally many"
        nearness.append(float(F.cosine_similarity(code.embeddings(ids), embeddings).mean()))
    assert nearness[0] < nearness[1] and nearness[1] > 0.995


def test_axes_come_by_falling_variance_and_matches_in_equal_parts() -> None:
    text = captions([3] * 1000)
    embeddings = pictures_of(text)
    code = tiny_token_prior().code
    code.fit(embeddings, text.embedding)
    spread = ((embeddings - code.mean) @ code.basis.T).std(0)
    assert torch.equal(spread, spread.sort(descending=True).values)
    assert torch.allclose(code.basis @ code.basis.T, torch.eye(6), atol=1e-5)
    assert torch.bincount(code.match(embeddings, text.embedding)).tolist() == [250] * 4


def test_extended_is_as_forward() -> None:
    model, text = tiny_token_prior().eval(), captions([5, 3, 2])
    ids, match = torch.randint(9, (3, 6), generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 3])
    for dropped in (None, torch.tensor([False, True, False])):
        whole = model(text, match, ids, dropped)
        cache, seen, logits = model.begin(text, match, dropped)
        assert torch.allclose(logits, whole[:, 0], atol=1e-5)
        for axis in range(5):
            logits = model.extend(cache, seen, ids[:, axis], axis)
            assert torch.allclose(logits, whole[:, axis + 1], atol=1e-5)
    assert (model(text, match + 0, ids) - model(text, (match + 1) % 4, ids)).abs().amax((1, 2)).min() > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PriorConfig(8, 6, layers=0), "layers is 0"),
        (lambda: PriorConfig(8, 6, width=31), "width is 31; it must be a multiple of heads 5"),
        (lambda: PriorConfig(8, 6, dropout=1.0), "dropout is 1.0"),
        (lambda: PriorConfig(8, 6, mlp_ratio=0), "mlp_ratio is 0"),
        (lambda: TokenPriorConfig(8, 6, axes=9), "axes is 9; it must be from 1 to dim 8"),
        (lambda: TokenPriorConfig(8, 6, axes=8, buckets=1), "buckets is 1"),
    ],
)
def test_sizes_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
