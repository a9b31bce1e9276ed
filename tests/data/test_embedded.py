"""Pictures as small pixels and embeddings: what the file holds, and batches that are functions of their number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from bahumukha.data.embedded import Embedded, Embedder, PictureBatches, embedded_pictures
from bahumukha.data.pairs import SourceConfig
from bahumukha.data.views import ViewConfig
from bahumukha.data.wording import WordingConfig
from bahumukha.errors import UsageError
from bahumukha.zoo.fake import ColourEncoder
from tests.train.drawings import write_drawings


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Embedded:
    folder = tmp_path_factory.mktemp("drawings")
    embedder = Embedder(ColourEncoder(), 16, ViewConfig(count=2), sharp=2)
    return embedded_pictures(SourceConfig(write_drawings(folder / "data")), embedder, folder / "cache")


def test_pixels_and_embeddings_belong_to_the_same_view(drawings: Embedded) -> None:
    encoder = ColourEncoder()
    for index, view in ((0, 0), (5, 1), (23, 1)):
        pixels, embedding = drawings.pixels(index, view), drawings.embedding(index, view)
        assert pixels.shape == (16, 16, 3) and pixels.dtype == torch.uint8
        again = encoder.encode_images([Image.fromarray(pixels.numpy())])[0]
        assert float(embedding.norm()) == pytest.approx(1, abs=1e-3)
        assert float(embedding @ torch.from_numpy(again)) > 0.98, "the small picture looks like the one that CLIP saw"
    many = drawings.embeddings(np.array([3, 7]), view=1)
    assert torch.equal(many[1], drawings.embedding(7, 1)) and many.shape == (2, drawings.dim)
    assert not torch.equal(drawings.pixels(0, 0), drawings.pixels(0, 1))


def test_batches_are_functions_of_their_number(drawings: Embedded) -> None:
    def batches(**options: object) -> PictureBatches:
        return PictureBatches([drawings], [1.0], 8, WordingConfig(), **{"drop_text": 0.5, **options})  # type: ignore[arg-type]

    first, again = batches(), batches()
    stream = first.starting_at(2)
    two, three = next(stream), next(stream)
    assert two.number == 2 and three.texts == again.batch(3).texts
    assert two.pixels is not None and torch.equal(two.pixels, again.batch(2).pixels)  # type: ignore[arg-type]
    assert two.pixels.shape == (8, 16, 16, 3) and two.embeddings.shape == (8, drawings.dim)
    assert 0 < sum(int(first.batch(i).without_text.sum()) for i in range(8)) < 64
    assert not any(first.batch(i).without_embedding.any() for i in range(4))
    assert batches(with_pixels=False).batch(0).pixels is None
    halves = [batches(rank=rank, parts=2).batch(2).texts for rank in (0, 1)]
    assert halves[0] + halves[1] == two.texts
    assert batches(seed=1).batch(2).texts != two.texts
    with pytest.raises(UsageError, match="cannot be shared by 3"):
        batches(parts=3)


def test_sizes_out_of_range() -> None:
    for size, sharp in ((6, 1), (15, 1), (16, 0)):
        with pytest.raises(UsageError, match="size|sharp"):
            Embedder(ColourEncoder(), size, ViewConfig(), sharp)
