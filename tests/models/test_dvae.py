"""DALL-E's discrete VAE: layout, pictures and codes, loss and schedules; agreement with OpenAI's package."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.distributions import Laplace, SigmoidTransform, TransformedDistribution

from bahumukha.errors import UsageError
from bahumukha.models.dvae import Dvae, DvaeConfig, DvaeSchedule, dvae_losses, logit_laplace, squeezed
from bahumukha.models.vqgan import build_codec, codec_config
from bahumukha.protocols import ImageCodec
from bahumukha.zoo.convert import from_ours
from bahumukha.zoo.dvae import keys

CONFIG = DvaeConfig(codes=24, n_hid=8, n_init=4, n_blk_per_group=1, groups=3)


def tiny(**changes: Any) -> Dvae:
    torch.manual_seed(0)
    return Dvae(DvaeConfig(**{**vars(CONFIG), **changes})).eval().requires_grad_(False)


def pictures(count: int = 2, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_layout_of_openais_networks() -> None:
    """Names and shapes of the published model, as `dall_e` 0.1 has them."""
    with torch.device("meta"):
        model = Dvae(DvaeConfig())
    theirs = {key.theirs[0]: tuple(model.state_dict()[key.ours].shape) for key in keys(model.state_dict())}
    assert len(theirs) == 150
    expected = {
        "encoder.blocks.input.w": (256, 3, 7, 7),
        "encoder.blocks.input.b": (256,),
        "encoder.blocks.group_1.block_1.res_path.conv_1.w": (64, 256, 3, 3),
        "encoder.blocks.group_1.block_2.res_path.conv_4.w": (256, 64, 1, 1),
        "encoder.blocks.group_2.block_1.id_path.w": (512, 256, 1, 1),
        "encoder.blocks.group_4.block_1.res_path.conv_1.w": (512, 1024, 3, 3),
        "encoder.blocks.output.conv.w": (8192, 2048, 1, 1),
        "decoder.blocks.input.w": (128, 8192, 1, 1),
        "decoder.blocks.group_1.block_1.id_path.w": (2048, 128, 1, 1),
        "decoder.blocks.group_1.block_1.res_path.conv_1.w": (512, 128, 1, 1),
        "decoder.blocks.group_1.block_1.res_path.conv_4.w": (2048, 512, 3, 3),
        "decoder.blocks.group_4.block_2.res_path.conv_2.w": (64, 64, 3, 3),
        "decoder.blocks.output.conv.w": (6, 256, 1, 1),
    }
    assert {name: theirs.get(name) for name in expected} == expected
    assert "encoder.blocks.group_1.block_1.id_path.w" not in theirs and DvaeConfig().gain == 1 / 64
    assert sum(math.prod(shape) for name, shape in theirs.items() if name.startswith("encoder")) == 53_786_240
    assert model.downsampling == 8 and model.codes == model.latent_channels == 8192


def test_agreement_with_openais_package() -> None:
    dall_e = pytest.importorskip("dall_e", reason="needs the package dall-e (pip install --no-deps dall-e)")
    torch.manual_seed(0)
    sizes = {"n_hid": 64, "n_blk_per_group": 1, "vocab_size": 512}
    encoder, decoder = dall_e.Encoder(**sizes), dall_e.Decoder(**sizes, n_init=16)
    ours = Dvae(DvaeConfig(codes=512, n_hid=64, n_init=16, n_blk_per_group=1)).eval()
    theirs = from_ours(ours.state_dict(), list(keys(ours.state_dict())))
    for part, network in (("encoder.", encoder), ("decoder.", decoder)):
        state = {name.removeprefix(part): t for name, t in theirs.items() if name.startswith(part)}
        assert list(state) == list(network.state_dict())
        network.load_state_dict(state)
    x = pictures(2, 32)
    with torch.no_grad():
        logits = encoder(dall_e.map_pixels((x + 1) / 2))
        assert torch.allclose(ours.encoder(x), logits, atol=1e-4)
        ids = ours.quantize(ours.encode(x)).ids
        assert torch.equal(ids, logits.argmax(1))
        one_hot = torch.nn.functional.one_hot(ids, 512).permute(0, 3, 1, 2).float()
        expected = dall_e.unmap_pixels(torch.sigmoid(decoder(one_hot)[:, :3]))
        got = ours.decode_ids(ids.flatten(1), (4, 4)).add(1).div(2).clamp(0, 1)
    assert torch.allclose(got, expected, atol=1e-4)


def test_it_is_a_codec() -> None:
    model = tiny()
    assert isinstance(model, ImageCodec) and model.downsampling == 4 and model.latent_range == (0, 1)
    x = pictures()
    latents = model.encode(x)
    assert latents.shape == (2, 24, 4, 4) and torch.allclose(latents.sum(1), torch.ones(2, 4, 4))
    codes, ids, losses = model.quantize(latents)
    assert ids.shape == (2, 4, 4) and torch.equal(ids, latents.argmax(1)) and not losses
    assert torch.equal(codes.amax(1), torch.ones(2, 4, 4)) and torch.equal(codes.sum(1), torch.ones(2, 4, 4))
    assert torch.equal(model.quantize(model.quantizer.lookup(ids)).ids, ids)
    assert model.decode(codes).shape == x.shape
    assert torch.equal(model.decode_ids(ids.flatten(1), (4, 4)), model.decode(codes.detach()))
    with pytest.raises(UsageError, match="this codec takes multiples of 4"):
        model.encode(x[..., :15])


def test_pictures_can_be_changed_through_it() -> None:
    """For painting: a gradient reaches the latents straight through, and the pixels."""
    model = tiny()
    latents = model.encode(pictures()).detach().requires_grad_()
    model.decode(model.quantize(latents).latents).sum().backward()
    assert latents.grad is not None and latents.grad.abs().sum() > 0
    x = pictures().requires_grad_()
    model.encode(x).square().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_pixels_are_squeezed_and_back() -> None:
    assert torch.allclose(squeezed(torch.tensor([-1.0, 0.0, 1.0])), torch.tensor([0.1, 0.5, 0.9]))
    model = tiny()
    mu = squeezed(pictures()).logit()
    model.decoder.density = lambda shares: (mu, mu)  # type: ignore[method-assign]
    assert torch.allclose(model.decode(torch.zeros(0)), pictures(), atol=1e-5)


def test_its_configuration_rebuilds_it() -> None:
    config = codec_config(vars(CONFIG))
    assert config == CONFIG and isinstance(build_codec(config), Dvae)


# --- the loss


def test_logit_laplace_is_a_density() -> None:
    """That of a Laplace variable after a sigmoid."""
    x = torch.linspace(0.05, 0.95, 19)
    mu, spread = torch.tensor(0.7), torch.tensor(-0.4)
    reference = TransformedDistribution(Laplace(mu, spread.exp()), [SigmoidTransform()])
    assert torch.allclose(logit_laplace(x, mu, spread), -reference.log_prob(x), atol=1e-5)
    assert logit_laplace(torch.tensor(0.5), torch.tensor(0.0), torch.tensor(-100.0)) > -10, "flat areas have an end"


def test_the_loss_weighs_divergence_by_pixels_a_place() -> None:
    model = tiny()
    losses = {}
    for beta in (0.0, 6.6):
        torch.manual_seed(3)
        losses[beta] = dvae_losses(model, pictures(), temperature=0.5, kl_weight=beta)
    assert torch.equal(losses[0.0]["loss"], losses[0.0]["reconstruction"])
    added = losses[6.6]["loss"] - losses[0.0]["loss"]
    assert added == pytest.approx(float(6.6 / 48 * losses[6.6]["kl"]), abs=1e-6), "3 channels of 4 x 4 pixels"
    share = model.encode(pictures())
    expected = math.log(24) - torch.special.entr(share).sum(1).mean()
    assert losses[0.0]["kl"] == pytest.approx(float(expected), abs=1e-4)
    model.encoder.get_parameter("blocks.output.conv.weight").zero_()
    assert dvae_losses(model, pictures(), 1.0, 0.0)["kl"] == pytest.approx(0, abs=1e-5), "even use"


def test_a_cold_relaxation_is_a_choice() -> None:
    """At a low temperature the decoder sees one code a place; at a high one a mixture."""
    model, seen = tiny(), []
    inner = model.decoder.density
    model.decoder.density = lambda shares: (seen.append(shares), inner(shares))[1]  # type: ignore[method-assign]
    for temperature in (1e-3, 1.0):
        dvae_losses(model, pictures(), temperature, 0.0)
    assert seen[0].amax(1).min() > 0.9 and seen[1].amax(1).mean() < 0.6
    assert all(torch.allclose(shares.sum(1), torch.ones(2, 4, 4), atol=1e-5) for shares in seen)


def test_every_parameter_has_a_gradient() -> None:
    model = tiny().requires_grad_(True).train()
    x = torch.tensor([-0.9, 0.0, 0.9]).view(3, 1, 1, 1).expand(-1, 3, 8, 8)
    dvae_losses(model, x, temperature=1.0, kl_weight=0)["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def test_it_learns() -> None:
    model = tiny().requires_grad_(True).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    seen = []
    for _ in range(12):
        optimizer.zero_grad()
        losses = dvae_losses(model, torch.full((1, 3, 8, 8), 0.9), temperature=1.0, kl_weight=0.1)
        losses["loss"].backward()
        optimizer.step()
        seen.append(losses["loss"].item())
    assert seen[-1] < seen[0] - 0.3


# --- schedules and settings


def test_the_papers_schedules() -> None:
    schedule = DvaeSchedule()
    assert schedule.temperature_at(0) == 1 and schedule.temperature_at(150_000) == pytest.approx(1 / 16)
    assert schedule.temperature_at(75_000) == pytest.approx((1 + 1 / 16) / 2)
    assert schedule.temperature_at(900_000) == pytest.approx(1 / 16)
    assert schedule.kl_weight_at(0) == 0 and schedule.kl_weight_at(5000) == pytest.approx(6.6)
    assert schedule.kl_weight_at(2500) == pytest.approx(3.3) and schedule.kl_weight_at(10**9) == pytest.approx(6.6)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (DvaeConfig, {"codes": 1}, "codes is 1; it must be at least 2"),
        (DvaeConfig, {"n_hid": 6}, "n_hid is 6; it must be a multiple of 4"),
        (DvaeConfig, {"groups": 0}, "groups is 0; it must be at least 1"),
        (DvaeSchedule, {"temperature": 0.0}, "temperature is 0.0; it must be above 0 and at most 1"),
        (DvaeSchedule, {"kl_weight": -1.0}, "kl_weight is -1.0; it must be at least 0"),
        (DvaeSchedule, {"kl_steps": 0}, "kl_steps is 0; it must be at least 1"),
    ],
)
def test_settings_it_refuses(kind: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**change)
