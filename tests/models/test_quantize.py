"""Quantisers: ids and latents, the straight-through gradient, losses on the right side, codebooks that stay in use."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.models import quantize
from bahumukha.models.quantize import (
    FiniteScalarQuantizer,
    GumbelQuantizer,
    ProjectedQuantizer,
    Quantizer,
    QuantizerConfig,
    VectorQuantizer,
    build_quantizer,
    code_counts,
    perplexity,
    usage,
)

LEVELS = st.lists(st.integers(2, 9), min_size=1, max_size=4)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def vector_quantizer(codes: int = 16, dim: int = 3, **options: Any) -> VectorQuantizer:
    torch.manual_seed(0)
    return VectorQuantizer(codes, dim, **options).eval()


KINDS = {
    "vq": QuantizerConfig("vq", codes=20),
    "cosine": QuantizerConfig("vq", codes=20, cosine=True),
    "fsq": QuantizerConfig("fsq", levels=(4, 3, 5)),
    "gumbel": QuantizerConfig("gumbel", codes=20),
    "vq, projected": QuantizerConfig("vq", codes=20, code_dim=2, cosine=True),
    "fsq, projected": QuantizerConfig("fsq", levels=(4, 5)),
}


@pytest.fixture(params=KINDS)
def quantizer(request: pytest.FixtureRequest) -> Quantizer:
    """One of each kind, for latents of three channels."""
    torch.manual_seed(0)
    return build_quantizer(KINDS[request.param], 3).eval()


# --- what all of them promise


@pytest.mark.parametrize("training", [False, True])
def test_shapes_and_values(quantizer: Quantizer, training: bool) -> None:
    quantizer.train(training)
    latents = quantizer.prepare(random(2, 3, 4, 5))
    found = quantizer(latents)
    assert found.latents.shape == (2, 3, 4, 5)
    assert found.ids.shape == (2, 4, 5) and found.ids.dtype == torch.int64
    assert 0 <= found.ids.min() and found.ids.max() < quantizer.codes
    assert torch.equal(found.latents, quantizer.lookup(found.ids)), "the codes' own values, to the last bit"
    assert all(loss.shape == () and loss >= 0 for loss in found.losses.values())


def test_half_precision_comes_back_as_float32(quantizer: Quantizer) -> None:
    if isinstance(quantizer, (VectorQuantizer, FiniteScalarQuantizer)):  # the others begin with a convolution
        assert quantizer(quantizer.prepare(random(1, 3, 2, 2).half())).latents.dtype == torch.float32


def test_a_gradient_reaches_the_latents(quantizer: Quantizer) -> None:
    features = random(2, 3, 4, 5).requires_grad_()
    quantizer(quantizer.prepare(features)).latents.square().sum().backward()
    assert features.grad is not None and features.grad.isfinite().all() and features.grad.abs().sum() > 0


def test_codebook_and_range(quantizer: Quantizer) -> None:
    codebook = quantizer.codebook().detach()
    assert codebook.shape == (quantizer.codes, quantizer.dim)
    ids = torch.tensor([[[0, quantizer.codes - 1]]])
    assert torch.allclose(codebook[[0, -1]], quantizer.lookup(ids)[0, :, 0].T, atol=1e-6)
    assert quantizer.latent_range == (float(codebook.min()), float(codebook.max()))


@pytest.mark.parametrize("kind", ["vq", "cosine", "fsq"])
def test_codes_are_quantised_to_themselves(kind: str) -> None:
    torch.manual_seed(0)
    quantizer = build_quantizer(KINDS[kind], 3).eval()
    ids = torch.arange(quantizer.codes).view(1, 1, -1)
    found = quantizer(quantizer.lookup(ids))
    assert torch.equal(found.ids, ids) and torch.equal(found.latents, quantizer.lookup(ids))


@pytest.mark.parametrize("kind", ["vq", "cosine", "fsq"])
def test_the_straight_through_gradient_is_the_identity(kind: str) -> None:
    torch.manual_seed(0)
    quantizer = build_quantizer(KINDS[kind], 3)
    latents = quantizer.prepare(random(2, 3, 4, 5)).requires_grad_()
    upstream = random(2, 3, 4, 5, seed=1)
    quantizer(latents).latents.backward(upstream)
    assert latents.grad is not None and torch.equal(latents.grad, upstream)


def test_saved_and_loaded(quantizer: Quantizer) -> None:
    quantizer.train()
    quantizer(quantizer.prepare(random(2, 3, 4, 5)))
    quantizer.eval()
    other = copy.deepcopy(quantizer)
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    other.load_state_dict(quantizer.state_dict())
    features = random(2, 3, 6, 6, seed=3)
    ours, theirs = quantizer(quantizer.prepare(features)), other(other.prepare(features))
    assert torch.equal(ours.ids, theirs.ids) and torch.equal(ours.latents, theirs.latents)


# --- VQ


@settings(max_examples=30, deadline=None)
@given(codes=st.integers(2, 40), dim=st.integers(1, 6), seed=st.integers(0, 10**6), far=st.sampled_from([1.0, 100.0]))
def test_ids_are_the_nearest_codes(codes: int, dim: int, seed: int, far: float) -> None:
    quantizer = vector_quantizer(codes, dim)
    latents = far * random(2, dim, 3, 2, seed=seed)
    flat = latents.permute(0, 2, 3, 1).reshape(-1, 1, dim).double()
    distances = (flat - quantizer.embedding.weight.double()).square().sum(-1)
    chosen = distances.gather(1, quantizer(latents).ids.view(-1, 1))[:, 0]
    assert torch.allclose(chosen, distances.min(1).values, rtol=1e-5)


def test_large_tables_are_searched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer, latents = vector_quantizer(), random(2, 3, 5, 7)
    whole = quantizer(latents).ids
    monkeypatch.setattr(quantize, "LARGEST_TABLE", 3 * 16)
    assert torch.equal(quantizer(latents).ids, whole)


def test_under_autocast_the_same_codes_are_nearest() -> None:
    quantizer, latents = vector_quantizer(codes=300), random(2, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = quantizer(latents)
    assert torch.equal(found.ids, quantizer(latents).ids) and found.latents.dtype == torch.float32


def test_cosine_looks_at_directions_only() -> None:
    quantizer = vector_quantizer(cosine=True)
    features = random(2, 3, 4, 4)
    found = quantizer(quantizer.prepare(features))
    assert torch.equal(quantizer(quantizer.prepare(features * 7)).ids, found.ids)
    assert torch.allclose(found.latents.norm(dim=1), torch.ones(2, 4, 4))
    with torch.no_grad():
        quantizer.embedding.weight.mul_(torch.rand(16, 1) + 0.5)
    assert torch.equal(quantizer(quantizer.prepare(features)).ids, found.ids)


def test_losses_are_the_papers_and_commitment_is_the_encoders() -> None:
    quantizer = vector_quantizer(commitment=0.25)
    latents = random(2, 3, 4, 4).requires_grad_()
    found = quantizer(latents)
    codes = quantizer.lookup(found.ids).detach()

    (to_latents,) = torch.autograd.grad(found.losses["commitment"], latents, retain_graph=True)
    assert torch.allclose(to_latents, 0.25 * 2 * (latents - codes).detach() / latents.numel())
    to_codebook = torch.autograd.grad(
        found.losses["commitment"], quantizer.embedding.weight, retain_graph=True, allow_unused=True
    )
    assert to_codebook == (None,)

    (to_latents,) = torch.autograd.grad(found.losses["codebook"], latents, retain_graph=True, allow_unused=True)
    assert to_latents is None
    (to_codes,) = torch.autograd.grad(found.losses["codebook"], quantizer.embedding.weight)
    expected = torch.zeros_like(to_codes).index_add_(
        0, found.ids.flatten(), (2 * (codes - latents) / latents.numel()).permute(0, 2, 3, 1).flatten(0, 2).detach()
    )
    assert torch.allclose(to_codes, expected, atol=1e-6)


def test_the_sum_of_the_losses_is_diffusers_without_its_legacy() -> None:
    from diffusers.models.autoencoders.vae import VectorQuantizer as Theirs

    ours, theirs = vector_quantizer(commitment=0.4), Theirs(16, 3, beta=0.4, legacy=False)
    theirs.embedding.load_state_dict(ours.embedding.state_dict())
    latents = random(2, 3, 4, 4).requires_grad_()
    loss = theirs(latents)[1]
    mine = sum(ours(latents).losses.values())
    assert torch.allclose(mine, loss)
    (expected,) = torch.autograd.grad(loss, latents)
    (found,) = torch.autograd.grad(mine, latents)
    assert torch.allclose(found, expected), "with the legacy the factor would be on the codebook's side"


# --- dead codes


def test_the_first_batch_of_a_training_fills_the_codebook() -> None:
    quantizer = vector_quantizer(codes=16).train()
    latents = 5 + random(4, 3, 4, 4)
    found = quantizer(latents)
    rows = {tuple(row) for row in latents.permute(0, 2, 3, 1).reshape(-1, 3).tolist()}
    codes = [tuple(code) for code in quantizer.embedding.weight.tolist()]
    assert set(codes) <= rows and len(set(codes)) == 16
    assert usage(code_counts(found.ids, 16)) == 1.0


def test_dead_codes_come_back_and_living_ones_stay() -> None:
    quantizer = vector_quantizer(codes=6, dim=2, usage_decay=0.5).train()
    quantizer.mark_used()
    with torch.no_grad():  # four near the latents, two where none ever are
        quantizer.embedding.weight.copy_(torch.tensor([[1, 0], [0, 1], [-1, 0], [0, -1], [99, 0], [0, 99.0]]))
    centres = quantizer.embedding.weight[:4].detach().clone()
    for step in range(8):
        places = centres[torch.arange(64) % 4] + 0.1 * random(64, 2, seed=step)
        found = quantizer(places.T.view(1, 2, 8, 8))
        if step < 2:
            assert float(quantizer.embedding.weight.detach()[4, 0]) == 99.0, "it is given time"
    assert torch.equal(quantizer.embedding.weight[:4], centres)
    assert float(quantizer.embedding.weight.detach()[4:].abs().max()) < 2
    assert usage(code_counts(found.ids, 6)) == 1.0


def test_more_dead_codes_than_latents() -> None:
    quantizer = vector_quantizer(codes=50).train()
    before = quantizer.embedding.weight.detach().clone()
    changed = []
    for step in range(20):
        quantizer(random(1, 3, 2, 2, seed=step))
        changed.append(int((quantizer.embedding.weight != before).any(1).sum()))
    assert changed[0] == 4 and changed == sorted(changed) and changed[-1] == 50


def test_codes_come_back_where_they_are_missing_and_not_in_the_background() -> None:
    quantizer = vector_quantizer(codes=8, usage_decay=0.5).train()
    latents = torch.zeros(1, 3, 8, 8)  # seven places of eight are one and the same
    latents[:, :, :, 0] = random(1, 3, 8)
    for _ in range(20):
        found = quantizer(latents)
    assert usage(code_counts(found.ids, 8)) > 0.8


def test_latents_that_are_all_alike_are_no_error() -> None:
    quantizer = vector_quantizer(codes=4).train()
    for _ in range(2):
        quantizer.usage.zero_()
        assert torch.equal(quantizer(torch.ones(1, 3, 4, 4)).latents, torch.ones(1, 3, 4, 4))


@pytest.mark.parametrize(("training", "options"), [(False, {}), (True, {"dead_below": 0.0})])
def test_no_code_is_replaced_in_eval_or_where_that_is_off(training: bool, options: dict[str, float]) -> None:
    quantizer = vector_quantizer(**options).train(training)
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    quantizer(random(2, 3, 4, 4))
    assert torch.equal(quantizer.embedding.weight, before["embedding.weight"])
    assert torch.equal(quantizer.usage, before["usage"]) is not training


def test_replacing_between_forward_and_backward_does_no_harm() -> None:
    quantizer = vector_quantizer(cosine=True).train()
    latents = quantizer.prepare(random(2, 3, 4, 4)).requires_grad_()
    loss = sum(quantizer(latents).losses.values())
    quantizer.usage.zero_()
    quantizer(quantizer.prepare(random(2, 3, 4, 4, seed=1)))  # as for a critic's step
    loss.backward()
    assert latents.grad is not None


def test_usage_becomes_the_codes_shares() -> None:
    quantizer = vector_quantizer(codes=3, dim=1, usage_decay=0.8).train()
    quantizer.mark_used()
    with torch.no_grad():
        quantizer.embedding.weight.copy_(torch.tensor([[0.0], [1.0], [2.0]]))
    latents = torch.tensor([0.0, 0, 0, 0, 0, 1, 1, 1, 2, 2]).view(1, 1, 2, 5)
    for _ in range(60):
        quantizer(latents)
    assert torch.allclose(quantizer.usage, torch.tensor([0.5, 0.3, 0.2]), atol=1e-4)


def one_of_two(rank: int, folder: Path) -> None:
    """Runs in a process of its own, on other latents than its neighbour."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    quantizer = vector_quantizer(codes=30).train()
    torch.manual_seed(rank)
    for step in range(3):
        quantizer(random(1, 3, 4, 4, seed=10 * step + rank))
    torch.save(quantizer.state_dict(), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_processes_keep_one_codebook(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_of_two, (tmp_path,), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert torch.equal(one["embedding.weight"], two["embedding.weight"]) and torch.equal(one["usage"], two["usage"])
    assert not torch.equal(one["embedding.weight"], vector_quantizer(codes=30).embedding.weight)


# --- FSQ


@settings(max_examples=40, deadline=None)
@given(levels=LEVELS)
def test_every_id_of_fsq_has_its_own_code_and_back(levels: list[int]) -> None:
    quantizer = FiniteScalarQuantizer(levels)
    assert (quantizer.codes, quantizer.dim) == (math.prod(levels), len(levels))
    ids = torch.arange(quantizer.codes).view(1, 1, -1)
    codes = quantizer.lookup(ids)
    assert torch.equal(quantizer(codes).ids, ids)
    assert len(codes[0, :, 0].T.unique(dim=0)) == quantizer.codes
    assert codes.min() == -1 and codes.max() <= 1


@settings(max_examples=40, deadline=None)
@given(levels=LEVELS, seed=st.integers(0, 10**6), scale=st.sampled_from([0.1, 1.0, 10.0]))
def test_fsq_is_the_papers(levels: list[int], seed: int, scale: float) -> None:
    """Mentzer et al. 2023, appendix A.1, in its own order: bound, round, normalise, then ids."""
    z = scale * random(1, len(levels), 5, 5, seed=seed).double().permute(0, 2, 3, 1)
    sizes = torch.tensor(levels, dtype=torch.float64)
    half_l = (sizes - 1) * (1 + 1e-3) / 2
    offset = torch.where(sizes % 2 == 1, 0.0, 0.5).double()
    bounded = torch.tanh(z + torch.atanh(offset / half_l)) * half_l - offset
    clear = ((bounded - bounded.round()).abs() < 0.4999).all(-1)  # not on the edge, where float32 decides otherwise
    codes = bounded.round() / (sizes // 2)
    basis = torch.tensor([math.prod(levels[:i]) for i in range(len(levels))])
    ids = ((codes * (sizes // 2) + sizes // 2) * basis).sum(-1).long()

    quantizer = FiniteScalarQuantizer(levels)
    found = quantizer(quantizer.prepare(z.permute(0, 3, 1, 2).float()))
    assert torch.equal(found.ids[clear], ids[clear])
    assert torch.allclose(found.latents.permute(0, 2, 3, 1)[clear].double(), codes[clear])
    assert found.losses == {}


@settings(max_examples=20, deadline=None)
@given(levels=LEVELS)
def test_fsq_reaches_every_level_and_leaves_zero_where_it_is(levels: list[int]) -> None:
    quantizer = FiniteScalarQuantizer(levels)
    line = torch.linspace(-12, 12, 4001).expand(1, len(levels), 1, -1)
    values = quantizer(quantizer.prepare(line)).latents[0, :, 0]
    assert [len(row.unique()) for row in values] == levels
    zero = quantizer(quantizer.prepare(torch.zeros(1, len(levels), 1, 1))).latents
    assert torch.equal(zero, torch.zeros_like(zero))


def test_fsq_takes_what_is_beyond_for_the_end() -> None:
    quantizer = FiniteScalarQuantizer([5, 4])
    far = torch.tensor([[9.0, -9.0], [-9.0, 9.0]]).T.reshape(1, 2, 1, 2)
    assert quantizer(far).latents.flatten(1).tolist() == [[1.0, -1.0, -1.0, 0.5]]


def test_fsq_does_not_collapse_where_a_bad_start_uses_one_code() -> None:
    """An encoder that begins with all latents at one place: the reconstruction alone spreads them over the codes."""
    torch.manual_seed(0)
    quantizer = FiniteScalarQuantizer([5, 5])
    encoder, decoder = nn.Conv2d(2, 2, 1), nn.Sequential(nn.Conv2d(2, 32, 1), nn.GELU(), nn.Conv2d(32, 2, 1))
    with torch.no_grad():
        encoder.weight.mul_(0.01)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 0.02)
    used = []
    for step in range(200):
        x = random(1, 2, 16, 16, seed=step)
        found = quantizer(quantizer.prepare(encoder(x)))
        used.append(usage(code_counts(found.ids, quantizer.codes)))
        optimizer.zero_grad()
        F.mse_loss(decoder(found.latents), x).backward()
        optimizer.step()
    assert used[0] < 0.1 and min(used[-20:]) > 0.9


# --- Gumbel


def gumbel(codes: int = 7, dim: int = 3, **options: Any) -> GumbelQuantizer:
    torch.manual_seed(0)
    return GumbelQuantizer(codes, dim, **options).eval()


def test_gumbel_takes_the_likeliest_in_eval() -> None:
    quantizer, latents = gumbel(), random(2, 3, 4, 4)
    found = quantizer(latents)
    assert torch.equal(found.ids, quantizer.proj(latents).argmax(1))
    assert torch.equal(quantizer(latents).ids, found.ids)


def test_gumbel_draws_by_the_softmax_in_training() -> None:
    quantizer = gumbel(codes=4, temperature=0.3).train()
    latents = random(1, 3, 1, 1).expand(1, 3, 100, 100)
    expected = quantizer.proj(latents).softmax(1)[0, :, 0, 0]
    shares = code_counts(quantizer(latents).ids, 4) / 10_000
    assert torch.allclose(shares, expected, atol=0.03)  # six deviations: sqrt(0.25 / 10000) = 0.005


def test_gumbels_gradient_is_that_of_the_relaxed_choice() -> None:
    quantizer = gumbel(temperature=0.7)
    latents, upstream = random(1, 3, 2, 2), random(1, 3, 2, 2, seed=1)
    quantizer(latents).latents.backward(upstream)
    found = {name: parameter.grad.clone() for name, parameter in quantizer.named_parameters()}  # type: ignore[union-attr]

    table = quantizer.embed.weight.detach()
    soft = torch.einsum("bnhw,nd->bdhw", (quantizer.proj(latents) / 0.7).softmax(1), table)
    weight, bias = torch.autograd.grad(soft, [quantizer.proj.weight, quantizer.proj.bias], upstream)  # type: ignore[list-item]
    assert torch.allclose(found["proj.weight"], weight, atol=1e-6)
    assert torch.allclose(found["proj.bias"], bias, atol=1e-6)
    ids = quantizer(latents).ids.flatten()
    to_table = torch.zeros(7, 3).index_add_(0, ids, upstream.permute(0, 2, 3, 1).reshape(-1, 3))
    assert torch.allclose(found["embed.weight"], to_table, atol=1e-6), "only the codes that were chosen"


def test_gumbels_divergence() -> None:
    quantizer = gumbel(codes=8, kl_weight=2.0)
    nn.init.zeros_(quantizer.proj.weight)
    nn.init.zeros_(quantizer.proj.bias)  # type: ignore[arg-type]
    latents = random(1, 3, 2, 2)
    assert float(quantizer(latents).losses["kl"].detach()) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        quantizer.proj.bias[3] = 100  # type: ignore[index]
    assert float(quantizer(latents).losses["kl"].detach()) == pytest.approx(2 * math.log(8), rel=1e-5)


# --- projections and configurations


def test_codes_of_another_dimension_get_projections() -> None:
    assert isinstance(build_quantizer(QuantizerConfig("fsq", levels=(3, 3)), 2), FiniteScalarQuantizer)
    projected = build_quantizer(QuantizerConfig("fsq", levels=(3, 3)), 5)
    assert isinstance(projected, ProjectedQuantizer) and (projected.dim, projected.codes) == (5, 9)
    rank = torch.linalg.matrix_rank(projected.codebook() - projected.codebook().mean(0))
    assert int(rank) == 2, "codes of two numbers, whatever the latents have"


def test_a_projected_quantiser_learns_both_maps() -> None:
    torch.manual_seed(0)
    quantizer = build_quantizer(KINDS["vq, projected"], 3).train()
    found = quantizer(random(1, 3, 4, 4))
    (found.latents.square().sum() + sum(found.losses.values())).backward()
    for name, parameter in quantizer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "rvq"}, "quantizer.kind 'rvq' is not one of vq, fsq, gumbel"),
        ({"codes": 1}, "quantizer.codes is 1"),
        ({"levels": ()}, r"quantizer.levels is \[\]"),
        ({"levels": (8, 1)}, r"quantizer.levels is \[8, 1\]"),
        ({"code_dim": 0}, "quantizer.code_dim is 0"),
        ({"usage_decay": 1.0}, "quantizer.usage_decay is 1.0"),
        ({"dead_below": -0.1}, "quantizer.dead_below is -0.1"),
        ({"temperature": 0.0}, "quantizer.temperature is 0.0"),
        ({"commitment": -1.0}, "quantizer.commitment is -1.0"),
        ({"kl_weight": float("nan")}, "quantizer.kl_weight is nan"),
    ],
)
def test_options_out_of_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantizerConfig(**values)


def test_vocabulary_and_own_dimension() -> None:
    assert (QuantizerConfig("fsq", levels=(8, 5, 5, 5)).vocabulary, QuantizerConfig("vq", codes=7).vocabulary) == (
        1000,
        7,
    )
    assert QuantizerConfig("fsq").own_dim == 4
    assert QuantizerConfig("vq").own_dim is None and QuantizerConfig("vq", code_dim=8).own_dim == 8


# --- how well a codebook is used


def test_counts() -> None:
    ids = torch.tensor([[[0, 2], [2, 4]]])
    counts = code_counts(ids, 6)
    assert counts.tolist() == [1, 0, 2, 0, 1, 0]
    assert usage(counts) == pytest.approx(0.5)
    assert perplexity(counts) == pytest.approx(2**1.5)  # entropy of 1/4, 1/2, 1/4: 1.5 bits
    assert perplexity(torch.zeros(5, dtype=torch.int64)) == 0.0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=80))
def test_perplexity_is_between_one_and_the_codes_in_use(ids: list[int]) -> None:
    counts = code_counts(torch.tensor(ids), 10)
    used = len(set(ids))
    assert usage(counts) == pytest.approx(used / 10)
    assert 1 - 1e-9 <= perplexity(counts) <= used + 1e-9
    assert perplexity(counts * 3) == pytest.approx(perplexity(counts))
    if len(set(counts[counts > 0].tolist())) == 1:
        assert perplexity(counts) == pytest.approx(used)
