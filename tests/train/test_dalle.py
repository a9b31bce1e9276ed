"""What begins a DALL-E and what judges it: words cut down and taken over, bits a code, sheets."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from bahumukha.data.encoded import Encoded, Encoder, encoded_pictures
from bahumukha.data.pairs import SourceConfig
from bahumukha.data.tokens import learn_tokenizer
from bahumukha.data.views import ViewConfig
from bahumukha.models.dalle import Dalle, DalleConfig, dalle_loss
from bahumukha.models.quantize import FiniteScalarQuantizer
from bahumukha.nn.draws import Draws
from bahumukha.nn.sampling import Sampling
from bahumukha.train.dalle import spoiled
from bahumukha.train.dalle_config import BatchConfig, DalleTraining, NetworkConfig, SamplesConfig, TextConfig
from bahumukha.train.dalle_validation import DalleValidation, plain_pictures
from bahumukha.train.dalle_words import alike, begin_with, captions_of, token_shares, words_of
from tests.train.drawings import tiny_codec, write_drawings


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    folder = tmp_path_factory.mktemp("drawings")
    encoder = Encoder(tiny_codec(), 16, ViewConfig(count=1))
    return encoded_pictures(SourceConfig(write_drawings(folder / "data")), encoder, folder / "cache")


# --- words


def test_a_tokenizer_is_learned_from_captions_and_styles(drawings: Encoded) -> None:
    words = words_of(TextConfig(model="", vocabulary=330), [drawings], {})
    assert (words.pad, words.vectors) == (0, None)
    assert len(words.tokenizer.encode("red circle, fluent emoji style").ids) < 10
    assert len(words.tokenizer.encode("circle rojo").ids) < 6
    only = set(captions_of([drawings], {"en": 1.0}))
    assert ("en", "red circle, noto style") in only and not any(text == "circle rojo" for _, text in only)


def test_tokens_count_as_much_as_their_language(drawings: Encoded) -> None:
    tokenizer = learn_tokenizer((text for _, text in captions_of([drawings], {})), 400)
    shares = token_shares(tokenizer, [drawings], {"en": 0.9, "es": 0.1})
    rojo, yellow = (tokenizer.encode(word).ids[1] for word in ("rojo", "yellow"))
    assert sum(shares.values()) == pytest.approx(1) and shares[yellow] > 3 * shares[rojo] > 0


@pytest.mark.slow
def test_words_of_the_starter_keep_their_vectors(drawings: Encoded) -> None:
    from bahumukha.zoo.folder import TOKENIZER, find
    from bahumukha.zoo.pytorch import load_clip
    from bahumukha.zoo.tokenizer import TextTokenizer

    words = words_of(TextConfig(vocabulary=400), [drawings], {})
    whole = TextTokenizer(find("starter/clip") / TOKENIZER, 32)
    table = load_clip(find("starter/clip")).text.token.weight
    assert words.vectors is not None and len(words.vectors) == words.tokenizer.get_vocab_size() <= 400
    for text in ("red circle, fluent emoji style", "square amarillo"):
        before, after = whole([text])[0], words.tokenizer.encode(text).ids
        assert torch.equal(words.vectors[torch.tensor(after)], table[torch.tensor(before)])


@pytest.mark.parametrize("width", [4, 8, 12])
def test_vectors_of_any_width_keep_what_they_can(width: int) -> None:
    torch.manual_seed(0)
    vectors = torch.randn(50, 3) @ torch.randn(3, 8)  # of rank 3: four numbers hold all of it
    words = 0.02 * torch.randn(50, width)
    random = words.clone()
    begin_with(words, vectors)
    taken = words[:, : min(8, width)]
    gram, before = taken @ taken.T, vectors @ vectors.T
    assert torch.allclose(gram / gram.norm(), before / before.norm(), atol=1e-5)
    assert torch.equal(words[:, 8:], random[:, 8:])
    assert 0.01 < float(words.std()) < 0.04


def test_codes_that_look_alike_begin_alike() -> None:
    """Inner products of the vectors are a Gaussian kernel of the codes' distances."""
    codebook = FiniteScalarQuantizer((5, 5, 5)).codebook() + 3
    vectors = alike(codebook, 4096)
    distance = torch.cdist(codebook, codebook)
    spread = (codebook - codebook.mean(0)).square().sum(1).mean().sqrt()
    kernel = (-0.5 * (distance / (0.5 * spread)).square()).exp()
    assert (2 * vectors @ vectors.T / 4096 - kernel).abs().max() < 0.15


# --- validation


def test_bits_a_code_and_what_captions_tell(drawings: Encoded, tmp_path: Path) -> None:
    """A model of random weights pays log2(25); one that has learned the pictures by their captions pays less with
    them."""
    torch.manual_seed(0)
    pictures = plain_pictures(drawings, drawings.readable, {}, 12)
    again = plain_pictures(drawings, drawings.readable, {}, 12)
    assert len(pictures) == 12 and [text for text, _ in pictures] == [text for text, _ in again]
    assert all(text.endswith(" style") for text, _ in pictures)
    sizes = {"grid": (2, 2), "text_length": 40, "padded_to": 40, "width": 32, "layers": 1, "heads": 2}
    model = Dalle(DalleConfig(vocabulary=128, codes=25, **sizes)).eval()  # type: ignore[arg-type]

    def letters(texts: list[str]) -> list[list[int]]:
        return [[ord(letter) for letter in text] for text in texts]

    samples = SamplesConfig(("a red circle", "blue"), each=3, sampling=Sampling(guidance=2.0))
    judge = DalleValidation({"": pictures, "_pairs": []}, samples, tiny_codec(), letters, tmp_path, lambda: 7)  # type: ignore[arg-type]
    scores = judge(model)
    assert set(scores) == {"bits", "told"}
    assert scores["bits"] == pytest.approx(math.log2(25), abs=0.2) and abs(scores["told"]) < 0.1
    with Image.open(tmp_path / "samples/0000007.png") as sheet:
        assert sheet.width > 3 * 96 and sheet.height > 2 * 96

    texts = torch.tensor([row + [0] * (40 - len(row)) for row in letters([text for text, _ in pictures])])
    ids = torch.stack([codes for _, codes in pictures])
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for step in range(60):
        optimizer.zero_grad()
        dalle_loss(model, texts * (step % 4 > 0), ids)["loss"].backward()
        optimizer.step()
    learned = judge(model.eval())
    assert learned["bits"] < scores["bits"] - 1 and learned["told"] > 0.3


def test_a_part_of_the_codes_is_read_as_others() -> None:
    torch.manual_seed(0)
    ids = torch.randint(1000, (64, 100))
    assert spoiled(ids, 0.0, 1000, Draws()) is ids
    read = spoiled(ids, 0.8, 1000, Draws.of(0, 3, ids.device))
    parts = (read != ids).float().mean(1)  # of each picture
    assert 0.3 < parts.mean() < 0.5 and parts.min() < 0.1 and 0.65 < parts.max() <= 0.9
    assert 0 <= read.min() and read.max() < 1000
    halves = [spoiled(half, 0.8, 1000, Draws.of(0, 3, ids.device, i, 2)) for i, half in enumerate(ids.chunk(2))]
    assert torch.equal(torch.cat(halves), read), "two processes read what one does"


def test_what_is_read_is_not_what_is_to_be_told() -> None:
    torch.manual_seed(0)
    model = Dalle(
        DalleConfig(vocabulary=9, codes=7, grid=(2, 2), text_length=4, padded_to=4, width=16, layers=1, heads=2)
    )
    texts, ids = torch.tensor([[1, 2, 0, 0]]), torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        same, other = (float(dalle_loss(model, texts, ids, 0.0, read=read)["loss"]) for read in (ids, ids + 1))
        told = model.head(model.hidden(texts, ids + 1)[1])
    expected = torch.nn.functional.cross_entropy(told.flatten(0, 1), ids.flatten())
    assert other == pytest.approx(float(expected)) and other != pytest.approx(same)


# --- settings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NetworkConfig(width=90), "width is 90; it must be a multiple of 4 x heads"),
        (lambda: NetworkConfig(text_length=4, padded_to=8), "padded_to is 8"),
        (lambda: BatchConfig(drop_codes=1.5), "drop_codes is 1.5; it must be from 0 to 1"),
        (lambda: TextConfig(vocabulary=100), "vocabulary is 100"),
        (lambda: SamplesConfig(each=0), "each must be at least 1"),
        (lambda: DalleTraining(data=()), "data is empty"),
    ],
)
def test_settings_out_of_range(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()
