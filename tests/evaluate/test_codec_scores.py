"""Scores of a codec over many pictures, and the features that clouds of pictures are compared by."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bahumukha.errors import ModelError, UsageError
from bahumukha.evaluate.fidelity import CodeCounts, frechet_distance, psnr, ssim
from bahumukha.evaluate.vqgan import (
    INCEPTION,
    bits,
    evaluate_codec,
    inception_features,
    inception_weights,
    pixels_of,
    reconstruct,
    trunk_features,
)
from bahumukha.models.perceptual import PerceptualDistance
from tests.fake_codec import BlockCodec, block_pictures

pytestmark = pytest.mark.usefixtures("one_thread")


def png(seed: int, size: tuple[int, int] = (24, 32)) -> bytes:
    """A smooth picture with a little noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 3, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    coarse.save(file, "PNG")
    return file.getvalue()


class MeanColour(PerceptualDistance):
    """A distance one can compute: between the pictures' mean colours."""

    def features(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x]

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x.mean((1, 2, 3)) - y.mean((1, 2, 3))).abs()


def colours(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3))


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_scores_are_means_over_the_pictures_whatever_the_batch(batch: int) -> None:
    codec, files = BlockCodec(), [png(seed) for seed in range(5)]
    scores = evaluate_codec(
        codec, files, size=16, batch=batch, distance=MeanColour(), features={"colours": colours, "again": colours}
    )
    x = torch.stack([pixels_of(Image.open(io.BytesIO(file)), 16) for file in files])
    back = (codec.decode(codec.quantize(codec.encode(2 * x - 1))[0]) + 1) / 2
    counts = CodeCounts(27)
    counts.add(codec.quantize(codec.encode(2 * x - 1))[1])
    assert (scores.pictures, scores.size, scores.tokens, scores.codes) == (5, 16, 4, 27)
    assert scores.bits == bits(codec, 4) == pytest.approx(4 * np.log2(27))
    assert scores.psnr == pytest.approx(float(psnr(x, back).mean()))
    assert scores.ssim == pytest.approx(float(ssim(x, back).mean()))
    assert scores.perceptual == pytest.approx(float(MeanColour()(2 * x - 1, 2 * back - 1).mean()), abs=1e-6)
    assert (scores.usage, scores.perplexity) == (counts.usage, counts.perplexity)
    distance = frechet_distance(colours(x).numpy(), colours(back).numpy())
    assert scores.frechet == {"colours": pytest.approx(distance), "again": pytest.approx(distance)}


def test_broken_pictures_are_named(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"no")
    scores = evaluate_codec(BlockCodec(), [tmp_path / "torn.png", png(0), b"no"], size=16, features={"c": colours})
    assert scores.pictures == 1 and scores.frechet == {} and scores.perceptual is None
    assert [path for path, _ in scores.failed] == [str(tmp_path / "torn.png"), "picture 2"]
    with pytest.raises(UsageError, match="none of the 1 pictures could be read: "):
        evaluate_codec(BlockCodec(), [b"no"], size=16)
    with pytest.raises(UsageError, match="--size 20: this codec takes multiples of 8, as 16 or 24"):
        evaluate_codec(BlockCodec(), [png(0)], size=20)


def test_reconstruction_is_in_range_and_of_the_same_shape() -> None:
    ids = torch.randint(27, (2, 2, 3), generator=torch.Generator().manual_seed(0))
    pixels = (block_pictures(ids) + 1) / 2
    result = reconstruct(BlockCodec(), pixels)
    assert torch.equal(result.ids, ids) and torch.equal(result.pixels, pixels) and result.psnr.tolist() == [100, 100]


def test_trunk_features_are_what_the_trunk_says_at_its_size() -> None:
    seen: list[torch.Tensor] = []

    class Trunk(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x.mean((2, 3))

    features = trunk_features(Trunk())(torch.full((2, 3, 64, 64), 0.75))
    assert seen[0].shape == (2, 3, 160, 160) and torch.allclose(features, torch.tensor(0.5))


# --- Inception


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the layout of torch-fidelity's, with random weights."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Inception

    file = tmp_path_factory.mktemp("inception") / INCEPTION
    torch.save({}, file)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Inception, "load_state_dict", lambda *_: None)
        network = Inception("inception-v3-compat", ["2048"], feature_extractor_weights_path=file)
    torch.save(network.state_dict(), file)
    return file


def test_features_of_rfid_are_torch_fidelitys(weights: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Inception

    network = Inception("theirs", ["2048"], feature_extractor_weights_path=weights)
    x = pixels_of(Image.open(io.BytesIO(png(0))), 16)[None]
    (theirs,) = network((255 * x).round().byte())
    ours = inception_features(weights)(x)
    assert ours.shape == (1, 2048) and torch.equal(ours, theirs) and ours.std() > 0


def test_the_distance_is_torch_fidelitys() -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    random = np.random.default_rng(0)
    x, y = random.normal(size=(50, 16)), random.normal(size=(40, 16)) @ random.normal(size=(16, 16)) + 0.5
    statistics = [fid_features_to_statistics(torch.from_numpy(each)) for each in (x, y)]
    theirs = fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert frechet_distance(x, y) == pytest.approx(theirs)


def test_weights_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none.pth: no such file"):
        inception_features(tmp_path / "none.pth")
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"other.pth: not the weights of torch-fidelity's Inception"):
        inception_features(tmp_path / "other.pth")


class Trap:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, (str(Trap.folder),)

    folder: Path


def test_nothing_in_a_weights_file_is_run(tmp_path: Path) -> None:
    Trap.folder = tmp_path / "sprung"
    torch.save({"a": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(ModelError, match="holds more than tensors"):
        inception_features(tmp_path / "trap.pth")
    assert not Trap.folder.exists()


def test_weights_are_found_where_torch_fidelity_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert inception_weights() is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / INCEPTION).touch()
    assert inception_weights() == tmp_path / "checkpoints" / INCEPTION
