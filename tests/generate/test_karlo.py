"""Karlo from its own layout, with tiny random weights: read as it was written, and drawn as its schedulers draw."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.errors import ModelError, UsageError
from bahumukha.generate.diffusion import PictureNoise, TableProcess
from bahumukha.generate.karlo import KarloSampling, decoded, enlarged, generate, imagined
from bahumukha.zoo.karlo import Karlo
from tests.tiny_karlo import DIM, LARGE, SMALL, make_karlo, schedulers

pytestmark = pytest.mark.usefixtures("one_thread")

FAST = KarloSampling(prior_steps=4, decoder_steps=3, large_steps=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, nn.Module]]:
    folder = tmp_path_factory.mktemp("models") / "karlo"
    return folder, make_karlo(folder)


def test_every_network_is_read_as_it_was_written(made: tuple[Path, dict[str, nn.Module]], tmp_path: Path) -> None:
    folder, networks = made
    make_karlo(tmp_path / "old", safe=False)
    for each in (folder, tmp_path / "old"):
        karlo = Karlo(each)
        for part in ("prior", "text_proj", "decoder", "super_res_first", "super_res_last"):
            state, wanted = karlo.network(part).state_dict(), networks[part].state_dict()  # type: ignore[arg-type]
            assert state.keys() == wanted.keys() and all(torch.equal(state[name], wanted[name]) for name in wanted)
        sizes = karlo.memory()
        weights = sum(p.numel() for p in networks["decoder"].parameters())
        assert 4 * weights <= sizes["decoder"] < 6 * weights and len(sizes) == 6  # names take a part of tiny files


def test_text_is_read_as_the_pipeline_reads_it(made: tuple[Path, dict[str, nn.Module]]) -> None:
    folder, networks = made
    text, null = Karlo(folder).read_texts(["a red fish", "sea"])
    encoder: Any = networks["text_encoder"]
    vocabulary = json.loads((folder / "tokenizer/vocab.json").read_text())
    ids = [512, *(vocabulary[letter] for letter in ("s", "e", "a</w>")), 513]
    said = encoder(torch.tensor([ids + [513] * (20 - len(ids))]))
    assert torch.allclose(text.embedding[1], said.text_embeds[0], atol=1e-5)
    assert torch.allclose(text.tokens[1], said.last_hidden_state[0], atol=1e-5)
    assert text.seen.sum(1).tolist()[1] == 5 and null.seen.sum(1).tolist() == [2, 2]


def test_what_the_decoder_is_told_is_the_librarys(made: tuple[Path, dict[str, nn.Module]]) -> None:
    folder, networks = made
    ours, theirs = Karlo(folder).network("text_proj"), networks["text_proj"]
    picture, caption, hidden = torch.randn(2, DIM), torch.randn(4, DIM), torch.randn(4, 5, DIM)
    tokens, time = theirs(
        image_embeddings=picture,
        prompt_embeds=caption,
        text_encoder_hidden_states=hidden,
        do_classifier_free_guidance=True,
    )
    for rows, which in ((slice(0, 2), None), (slice(2, 4), picture)):
        said = ours(which, caption[rows], hidden[rows])
        assert torch.allclose(said[0], tokens[rows], atol=1e-5) and torch.allclose(said[1], time[rows], atol=1e-5)


class Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def stepped(name: str, told: Any, noise: PictureNoise, steps: int) -> Tensor:
    """As UnCLIPPipeline does it: told(x, k), and the scheduler's own steps with our noise."""
    scheduler = schedulers()[name]
    scheduler.set_timesteps(steps)
    x, numbers = noise(), [int(k) for k in scheduler.timesteps]
    for at, k in enumerate(numbers):
        before = numbers[at + 1] if at + 1 < steps else None
        with pytest.MonkeyPatch.context() as patched:
            module = "diffusers.schedulers.scheduling_unclip.randn_tensor"
            patched.setattr(module, lambda *_, **__: noise())
            x = scheduler.step(told(x, k), k, x, prev_timestep=before).prev_sample
    return x


def test_the_table_is_the_schedulers() -> None:
    theirs = schedulers()["prior_scheduler"].alphas_cumprod
    ours = TableProcess.cosine(1000)
    assert torch.allclose(ours.signal.square().float(), theirs, atol=1e-5)


def test_the_prior_draws_as_its_scheduler_does(made: tuple[Path, dict[str, nn.Module]]) -> None:
    folder, networks = made
    karlo, prior = Karlo(folder), networks["prior"]
    text, null = karlo.read_texts(["a red fish", "sea"])

    def told(z: Tensor, k: int) -> Tensor:
        each = [
            prior(
                z,
                timestep=k,
                proj_embedding=said.embedding,
                encoder_hidden_states=said.tokens,
                attention_mask=said.seen,
            ).predicted_image_embedding
            for said in (null, text)
        ]
        return each[0] + 4.0 * (each[1] - each[0])

    theirs = stepped("prior_scheduler", told, PictureNoise(3, 2, (DIM,)), 4)
    ours = imagined(karlo, text, null, FAST, seed=3)
    assert torch.allclose(ours, prior.post_process_latents(theirs), atol=1e-3)  # type: ignore[operator]


def test_the_large_networks_draw_as_their_scheduler_does(made: tuple[Path, dict[str, nn.Module]]) -> None:
    folder, networks = made
    small = torch.rand(2, 3, SMALL, SMALL, generator=torch.Generator().manual_seed(0)) * 2 - 1
    given = F.interpolate(small, (LARGE, LARGE), mode="bicubic", antialias=True)

    def told(x: Tensor, k: int) -> Tensor:
        return networks["super_res_last" if k == 0 else "super_res_first"](torch.cat([x, given], 1), k).sample

    theirs = stepped("super_res_scheduler", told, PictureNoise(5, 2, (3, LARGE, LARGE), part=2), 3)
    *_, ours = enlarged(Karlo(folder), small, FAST, seed=5)
    assert torch.allclose(ours, theirs.clamp(-1, 1), atol=1e-3)


def test_the_decoder_follows_embedding_caption_and_guidance(made: tuple[Path, dict[str, nn.Module]]) -> None:
    karlo = Karlo(made[0])
    text, null = karlo.read_texts(["a red fish"])
    embeddings = torch.randn(1, DIM, generator=torch.Generator().manual_seed(0))
    *_, plain = decoded(karlo, embeddings, text, null, FAST, 0)
    assert plain.shape == (1, 3, SMALL, SMALL) and float(plain.abs().max()) <= 1
    weak = KarloSampling(4, 4.0, 3, 1.0, 3)
    for other in (
        decoded(karlo, -embeddings, text, null, FAST, 0),
        decoded(karlo, embeddings, null, null, FAST, 0),
        decoded(karlo, embeddings, text, null, weak, 0),
        decoded(karlo, embeddings, text, null, FAST, 1),
    ):
        *_, drawn = other
        assert not torch.allclose(drawn, plain, atol=1e-4)


@pytest.mark.parametrize("sampler", ["ddpm", "dpm++"])
def test_whole_pictures(made: tuple[Path, dict[str, nn.Module]], sampler: Any) -> None:
    karlo, sampling = Karlo(made[0]), KarloSampling(4, 4.0, 3, 2.0, 3, sampler)
    steps = list(generate(karlo, "a red fish", count=2, sampling=sampling, seed=7, every=2))
    assert [(step.index, step.total) for step in steps] == [(0, 3), (1, 3), (2, 3)]
    assert {step.images.shape for step in steps} == {(2, LARGE, LARGE, 3)}
    *_, alone = generate(karlo, "a red fish", sampling=sampling, seed=8)
    assert np.allclose(alone.images[0], steps[-1].images[1], atol=1e-3)
    assert not np.allclose(steps[-1].images[0], steps[-1].images[1], atol=1e-2)


def test_what_is_wrong_is_one_line(made: tuple[Path, dict[str, nn.Module]], tmp_path: Path) -> None:
    folder = tmp_path / "karlo"
    shutil.copytree(made[0], folder)
    karlo = Karlo(folder)
    with pytest.raises(UsageError, match="prompt: an empty one"):
        generate(karlo, " ")
    with pytest.raises(UsageError, match="large_steps: 1"):
        KarloSampling(large_steps=1)
    settings = folder / "prior/config.json"
    whole = settings.read_text()
    settings.write_text(json.dumps(json.loads(whole) | {"num_layers": 2}))
    with pytest.raises(ModelError, match=r"prior.*do not fit config.json \(transformer_blocks.1.* is missing\)"):
        karlo.network("prior")
    settings.write_text(json.dumps(json.loads(whole) | {"embedding_dim": 8}))
    with pytest.raises(ModelError, match="prior.*do not fit config.json"):
        karlo.network("prior")
    (folder / "prior/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match="prior: no weights"):
        karlo.network("prior")
    harm = pickle.dumps({"a": Harm(tmp_path / "harm")}, protocol=2)
    (folder / "prior/diffusion_pytorch_model.bin").write_bytes(harm)
    with pytest.raises(ModelError, match="holds more than tensors"):
        karlo.network("prior")
    assert not (tmp_path / "harm").exists()
    (folder / "decoder_scheduler/scheduler_config.json").write_text('{"beta_schedule": "linear"}')
    with pytest.raises(ModelError, match="decoder_scheduler.*'linear'"):
        Karlo(folder)
    shutil.rmtree(folder / "text_proj")
    with pytest.raises(ModelError, match="text_proj is missing"):
        Karlo(folder)
    with pytest.raises(ModelError, match="not a folder of Karlo"):
        Karlo(tmp_path)
