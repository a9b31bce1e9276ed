"""Batches by number: what is held out never comes, captions of one length stand together, nothing hangs on the past."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from bahumukha.data.code_batches import CodeBatches, filled, seen_and_held_out
from bahumukha.data.encoded import Encoded, Encoder, encoded_pictures
from bahumukha.data.pairs import SourceConfig
from bahumukha.data.styles import is_held_out
from bahumukha.data.views import ViewConfig
from bahumukha.data.wording import WordingConfig
from bahumukha.errors import UsageError
from tests.train.drawings import STYLES, tiny_codec, write_drawings

HELD = "data.code_batches.is_held_out"


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    folder = tmp_path_factory.mktemp("drawings")
    encoder = Encoder(tiny_codec(), 16, ViewConfig(count=2, white=0.0))
    return encoded_pictures(SourceConfig(write_drawings(folder / "data")), encoder, folder / "cache")


@pytest.fixture
def no_red_noto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"bahumukha.{HELD}", lambda style, key: (style, key) == ("noto", "red-circle"))


def letters(texts: list[str]) -> list[list[int]]:
    return [[ord(letter) for letter in text] for text in texts]


def batches(sources: list[Encoded], **changes: object) -> CodeBatches:
    settings = {"wording": WordingConfig({"en": 1.0}), "group": 4, "padded_to": 4, "seed": 3} | changes
    return CodeBatches(sources, [1.0] * len(sources), letters, 6, **settings)  # type: ignore[arg-type]


def text_of(row: torch.Tensor) -> str:
    return "".join(chr(code) for code in row.tolist() if code)


def test_every_picture_once_a_round_but_what_is_held_out(drawings: Encoded, no_red_noto: None) -> None:
    seen, held = seen_and_held_out(drawings)
    assert len(seen) == 23 and len(held) == 1
    assert drawings.about(int(held[0])).things == (("noto", "red-circle"),)
    made = batches([drawings])
    assert Counter(made.sample(t).picture for t in range(46)) == {int(i): 2 for i in seen}


def test_batches_hold_the_samples_of_their_group_whatever_the_order(drawings: Encoded, no_red_noto: None) -> None:
    made = batches([drawings], drop=0.3)
    for group in range(2):
        rows = [each for n in range(4) for each in zip(*made.batch(4 * group + n)[1:], strict=True)]
        samples = [made.sample(24 * group + t) for t in range(24)]
        wanted = Counter((s.text or "", tuple(drawings.ids(s.picture, s.view).tolist())) for s in samples)
        assert Counter((text_of(text), tuple(ids.tolist())) for text, ids in rows) == wanted
    assert sum(s.text is None for s in map(made.sample, range(300))) / 300 == pytest.approx(0.3, abs=0.1)


def test_a_batch_has_captions_of_one_length(drawings: Encoded) -> None:
    def places(group: int) -> int:
        made = batches([drawings], group=group)
        return sum(-(-made.batch(n).texts.shape[1] // 4) for n in range(24))

    assert places(12) < 0.8 * places(1)


def test_a_batch_is_a_function_of_its_number(drawings: Encoded) -> None:
    first = list(zip(range(9), batches([drawings]).starting_at(0), strict=False))
    again = next(batches([drawings]).starting_at(7))
    assert torch.equal(again.texts, first[7][1].texts) and torch.equal(again.ids, first[7][1].ids)
    assert again.number == 7
    other = next(batches([drawings], seed=4).starting_at(7))
    assert not torch.equal(other.ids, again.ids)


def test_processes_share_a_batch(drawings: Encoded) -> None:
    whole = batches([drawings]).batch(5)
    parts = [batches([drawings], rank=rank, parts=2).batch(5) for rank in range(2)]
    assert torch.equal(torch.cat([part.ids for part in parts]), whole.ids)
    assert [text_of(row) for part in parts for row in part.texts] == [text_of(row) for row in whole.texts]
    with pytest.raises(UsageError, match="cannot be shared by 4 processes"):
        batches([drawings], parts=4)


def test_the_ground_that_is_said_is_the_view_s(drawings: Encoded) -> None:
    made = batches([drawings], wording=WordingConfig({"en": 1.0}, ground=1.0, style=0.0), drop=0.0)
    told = 0
    for t in range(48):
        sample = made.sample(t)
        ground = drawings.ground(sample.picture, sample.view)
        assert sample.text is not None and (ground is None) == (" background" not in sample.text)
        told += ground is not None and ground in sample.text
    assert told > 5


def test_a_source_with_nothing_left(drawings: Encoded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"bahumukha.{HELD}", lambda style, key: True)
    with pytest.raises(UsageError, match="only things in styles that are held out"):
        batches([drawings])


def test_texts_without_tokens() -> None:
    assert filled([[], [5, 6]], 0).tolist() == [[0, 0], [5, 6]]
    assert filled([[], []], 9).tolist() == [[9], [9]]


def test_a_twentieth_of_all_pairs_is_held_out_for_ever() -> None:
    held = [(style, f"1f{i:03x}") for style in STYLES for i in range(1500) if is_held_out(style, f"1f{i:03x}")]
    assert 0.04 < len(held) / 4500 < 0.06
    assert {style for style, _ in held} == set(STYLES)
    assert np.mean([is_held_out("noto", f"1f{i:03x}") == is_held_out("openmoji", f"1f{i:03x}") for i in range(99)]) < 1
    known = {"1f3a9": True, "1f402": True, "1f40a": True, "1f34e": False, "1f697": False}  # nobody changes it unseen
    assert {key: is_held_out("noto", key) for key in known} == known


def test_listings_tell_what_scenes_show(tmp_path: Path) -> None:
    from bahumukha.data.pairs import Listed, open_source

    folder = write_drawings(tmp_path / "data")
    objects = [{"key": "1f34e", "style": "noto"}, {"key": "1f697", "style": "noto"}]
    (folder / "scenes.jsonl").write_text(
        '{"file": "noto-red-circle.png", "captions": {"en": ["an apple and a car"]}, "scene": {"objects": '
        + str(objects).replace("'", '"')
        + "}}"
    )
    source = open_source(SourceConfig(folder / "scenes.jsonl"))
    assert isinstance(source, Listed)
    assert source.about[0].style == "" and source.about[0].things == (("noto", "1f34e"), ("noto", "1f697"))
