"""Embeddings of captions: seeds, guidance, the better of several, both kinds of priors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bahumukha.errors import UsageError
from bahumukha.generate.priors import PriorSampling, rows_of, sample_embeddings
from tests.tiny_unclip import DIM, captions, pictures_of, tiny_prior, tiny_token_prior

TEXT = captions([5, 3, 2])
FAST = PriorSampling(steps=4)


def prior(kind: str) -> Any:
    model: Any = tiny_prior() if kind == "diffusion" else tiny_token_prior()
    text = captions([3] * 300)
    if kind == "diffusion":
        model.standard.fit(pictures_of(text))
    else:
        model.code.fit(pictures_of(text), text.embedding)
    return model


KINDS = pytest.mark.parametrize("kind", ["diffusion", "tokens"])


@KINDS
def test_each_picture_has_a_seed_of_its_own(kind: str) -> None:
    model = prior(kind)
    together = sample_embeddings(model, TEXT, count=3, sampling=FAST, seed=4)
    assert together.shape == (3, DIM) and torch.allclose(together.norm(dim=1), torch.ones(3))
    for k in range(3):
        text = rows_of(TEXT, torch.tensor([k]))
        alone = sample_embeddings(model, text, sampling=FAST, seed=4 + k)
        assert torch.allclose(alone[0], together[k], atol=1e-4)
    several = sample_embeddings(model, rows_of(TEXT, torch.tensor([0])), count=2, sampling=FAST, seed=4)
    assert torch.allclose(several[0], together[0], atol=1e-4) and not torch.allclose(several[0], several[1], atol=1e-3)


@KINDS
def test_of_more_tries_the_nearest_is_kept(kind: str) -> None:
    model, text = prior(kind), rows_of(TEXT, torch.zeros(12, dtype=torch.int64))
    near = []
    for tries in (1, 8):
        sampling = PriorSampling(steps=4, tries=tries, guidance=1.0)
        drawn = sample_embeddings(model, text, count=12, sampling=sampling)
        near.append(float((drawn * text.embedding).sum(1).mean()))
    assert near[1] > near[0] + 0.02


@KINDS
def test_guidance_and_captions_matter_and_nothing_global_does(kind: str) -> None:
    model = prior(kind)
    state = torch.get_rng_state()
    plain, strong = (
        sample_embeddings(model, TEXT, count=3, sampling=PriorSampling(steps=4, guidance=g)) for g in (1.0, 6.0)
    )
    other = sample_embeddings(
        model, captions([2, 4, 4], seed=3), count=3, sampling=PriorSampling(steps=4, guidance=1.0)
    )
    assert not torch.allclose(plain, strong, atol=1e-3) and not torch.allclose(plain, other, atol=1e-3)
    assert torch.equal(torch.get_rng_state(), state)


def test_wrong_ways_to_ask() -> None:
    model = tiny_prior()
    with pytest.raises(UsageError, match="captions: 3 were given for 2 pictures"):
        sample_embeddings(model, TEXT, count=2)
    with pytest.raises(UsageError, match="pictures: 0"):
        sample_embeddings(model, TEXT, count=0)
    for options, message in (
        ({"tries": 0}, "tries: 0"),
        ({"steps": 0}, "steps: 0"),
        ({"sampler": "plms"}, "sampler: 'plms'"),
        ({"guidance": -1.0}, "scale: -1.0"),
        ({"temperature": -1.0}, "temperature: -1.0"),
    ):
        with pytest.raises(UsageError, match=message):
            PriorSampling(**options)  # type: ignore[arg-type]
