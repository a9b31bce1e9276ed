"""The second stage: pictures to codes, batches by number, a loss that falls, a run that goes on, models on disk."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from bahumukha.errors import ImageError, ModelError, UsageError
from bahumukha.generate.tokens import sample_ids
from bahumukha.images import to_uint8
from bahumukha.models.tokens import TokenTransformer, TokenTransformerConfig
from bahumukha.nn.sampling import Sampling
from bahumukha.train.loop import Addressable, LoopConfig, Report
from bahumukha.train.tokens import Codes, TokenBatches, bits_per_token, encode_pictures, train_tokens
from bahumukha.zoo.tokens import load_tokens, save_tokens
from tests.fake_codec import BlockCodec, block_pictures


def tiny(**changes: Any) -> TokenTransformer:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"codes": 27, "grid": (2, 3), "classes": 2, "width": 32, "layers": 2, "heads": 2}
    return TokenTransformer(TokenTransformerConfig(**sizes | changes))


def stripes(count: int = 32) -> Codes:
    """Class 0 is a row of one code over a row of the next one; class 1 the other way round."""
    code = torch.arange(count) % 8
    labels = torch.arange(count) // 8 % 2
    top, bottom = torch.where(labels == 0, code, code + 1), torch.where(labels == 0, code + 1, code)
    return Codes(torch.stack([top, bottom], 1)[:, :, None].expand(count, 2, 3).clone(), labels)


def png(ids: torch.Tensor) -> bytes:
    """The file of a picture that the codec of blocks reads as `ids` (h, w)."""
    file = io.BytesIO()
    pixels = block_pictures(ids[None])[0].permute(1, 2, 0).numpy()
    Image.fromarray(to_uint8(pixels, low=-1.0)).save(file, "PNG")
    return file.getvalue()


# --- pictures to codes


def test_pictures_become_codes() -> None:
    ids = torch.randint(27, (19, 2, 2), generator=torch.Generator().manual_seed(0))
    files: list[Path | bytes] = [png(each) for each in ids]
    broken: list[ImageError] = []
    files.insert(3, b"no")
    labels = list(range(20))
    codes = encode_pictures(BlockCodec(), files, size=16, labels=labels, failed=broken.append)
    assert torch.equal(codes.ids, ids) and len(broken) == 1 and not codes.ids.is_inference()
    assert codes.labels is not None and codes.labels.tolist() == [k for k in range(20) if k != 3]
    with pytest.raises(ImageError):
        encode_pictures(BlockCodec(), files, size=16)
    with pytest.raises(UsageError, match="no pictures to encode"):
        encode_pictures(BlockCodec(), [], size=16)
    with pytest.raises(UsageError, match="labels: 2 were given for 20 pictures"):
        encode_pictures(BlockCodec(), files, size=16, labels=[0, 1])
    with pytest.raises(UsageError, match="--size 20: this codec takes multiples of 8"):
        encode_pictures(BlockCodec(), files, size=20)


def test_split_keeps_every_picture_with_its_label() -> None:
    held, seen = stripes().split(0.25)
    assert (len(held), len(seen)) == (8, 24)
    for part in (held, seen):
        assert part.labels is not None
        assert torch.equal((part.ids[:, 0, 0] > part.ids[:, 1, 0]).long(), part.labels)
    both = torch.cat([held.ids, seen.ids]).flatten(1)
    assert sorted(both.tolist()) == sorted(stripes().ids.flatten(1).tolist())
    with pytest.raises(UsageError, match="leaves a part empty"):
        stripes(4).split(0.01)


# --- batches


def test_batches_are_functions_of_their_number() -> None:
    batches = TokenBatches(stripes(), 5, no_label=2, drop_label=0.3, seed=4)
    assert isinstance(batches, Addressable)
    stream = batches.starting_at(0)
    first = [next(stream) for _ in range(9)]
    later = next(batches.starting_at(7))
    assert torch.equal(later.ids, first[7].ids) and torch.equal(later.labels, first[7].labels)  # type: ignore[arg-type]
    seen = torch.cat([batch.ids for batch in first])[:32]
    assert sorted(seen.tolist()) == sorted(stripes().ids.flatten(1).tolist()), "a round holds each picture once"


def test_labels_are_left_out_as_often_as_asked() -> None:
    def dropped(share: float) -> float:
        stream = TokenBatches(stripes(), 50, no_label=2, drop_label=share).starting_at(0)
        labels = torch.cat([next(stream).labels for _ in range(40)])  # type: ignore[misc]
        return float((labels == 2).float().mean())

    assert dropped(0) == 0 and dropped(1) == 1 and dropped(0.25) == pytest.approx(0.25, abs=0.04)
    free = TokenBatches(Codes(stripes().ids), 5, no_label=2)
    assert next(free.starting_at(0)).labels is None


# --- training


def test_it_learns_what_follows_from_the_class(tmp_path: Path) -> None:
    model, codes = tiny(), stripes()
    config = LoopConfig(steps=100, learning_rate=1e-2, warmup_steps=5, log_every=20)
    reports = list(train_tokens(model, codes, config, tmp_path, batch=16, validation=codes))
    bits = reports[-1].scores["bits_per_token"]
    assert bits == pytest.approx(bits_per_token(model, codes), rel=1e-3)
    # The first code of a picture is one of eight, so three bits, which six tokens share; the rest follows.
    assert 0.45 < bits < 0.65 < reports[0].losses["loss"]
    for label in (0, 1):
        *_, ids = sample_ids(model, count=16, labels=label, sampling=Sampling(guidance=1.5))
        right = ((ids[:, 1] - ids[:, 0]) == (1 if label == 0 else -1)).all(1)
        assert right.float().mean() > 0.8


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    config = LoopConfig(steps=6, warmup_steps=1, log_every=1, checkpoint_minutes=0)  # one before each step

    def begun(out: str) -> tuple[TokenTransformer, Iterator[Report]]:
        model = tiny(dropout=0.1)
        torch.manual_seed(1)
        return model, train_tokens(model, stripes(), config, tmp_path / out, batch=4)

    whole, reports = begun("whole")
    assert len(list(reports)) == 6
    _, reports = begun("halves")
    for _ in range(3):
        next(reports)
    reports.close()  # type: ignore[attr-defined]
    again = tiny(dropout=0.1)
    list(train_tokens(again, stripes(), config, tmp_path / "halves", batch=4, resume=True))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": (3, 2)}, "the pictures are grids of 2 x 3 codes and the transformer's grid is 3 x 2"),
        ({"codes": 5}, "the pictures have the code 8; the transformer knows 0 to 4"),
        ({"classes": 1}, "the labels go from 0 to 1; the transformer has 1 classes"),
        ({"classes": 0}, "the transformer has 0 classes"),
    ],
)
def test_mistakes_come_before_the_first_step(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        train_tokens(tiny(**changes), stripes(), LoopConfig(steps=1), tmp_path)
    with pytest.raises(UsageError, match=message):
        few = Codes(torch.zeros(4, *tiny(**changes).config.grid, dtype=torch.long))
        train_tokens(tiny(**changes), few, LoopConfig(steps=1), tmp_path, validation=stripes())


def test_other_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch: 0 pictures were given"):
        train_tokens(tiny(), stripes(), LoopConfig(steps=1), tmp_path, batch=0)
    with pytest.raises(UsageError, match="drop_label: 2 was given; it takes a share from 0 to 1"):
        train_tokens(tiny(), stripes(), LoopConfig(steps=1), tmp_path, drop_label=2)


def test_bits_of_a_model_that_knows_nothing() -> None:
    model = tiny()
    torch.nn.init.zeros_(model.head.weight)
    assert bits_per_token(model.eval(), stripes(), batch=7) == pytest.approx(math.log2(27), rel=1e-5)


# --- on disk


def test_a_folder_rebuilds_its_model(tmp_path: Path) -> None:
    model = tiny().eval()
    save_tokens(model, tmp_path / "whole", name="mine", codec="starter/vqgan", steps=7, weights="float32")
    loaded = load_tokens(tmp_path / "whole")
    ids = stripes().ids.flatten(1)
    assert torch.equal(loaded.model(ids), model(ids))
    assert (loaded.codec, loaded.steps, loaded.model.config) == ("starter/vqgan", 7, model.config)
    assert not loaded.model.training and not any(p.requires_grad for p in loaded.model.parameters())
    save_tokens(model, tmp_path / "half", name="mine", codec="starter/vqgan", steps=7)
    assert (load_tokens(tmp_path / "half").model(ids) - model(ids)).abs().max() < 0.01
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "clip"}, "'kind' is 'clip'; codes are drawn with a 'tokens' model"),
        ({"codec": None}, "'codec' is None; it must name the codec"),
        ({"steps": -1}, "'steps' is -1"),
        ({"architecture": None}, "'architecture' does not fit"),
        ({"architecture": {"codes": 27, "colour": 3}}, "'architecture' does not fit"),
        ({"architecture": {"codes": 9}}, "model.safetensors: the weights do not fit 'architecture'"),
    ],
)
def test_folders_that_do_not_fit(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_tokens(tiny(), tmp_path, name="mine", codec="starter/vqgan", steps=7)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError) as error:
        load_tokens(tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)
