"""Tokenizers rebuilt as tokenizer.json, against OpenCLIP's own in Python."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import open_clip
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from bahumukha.errors import ModelError
from bahumukha.zoo.tokenizer import TextTokenizer
from bahumukha.zoo.vocabulary import SIZE, clip_tokenizer, plain, siglip_tokenizer

TEXTS = [
    "", " ", "a photo of a cat", "A Photo  of\ta CAT.\n", "it's the dog's; they'll've won't, I'M 'S 'T",
    "“curly” ‘quotes’ it’s", "naïve café résumé", "e\u0301 combining", "ﬁne ﬂower oﬃce", "ＦＵＬＬ　ｗｉｄｔｈ １２３",
    "fish &amp; chips &lt;b&gt; &quot;x&quot; &amp;amp;", "&eacute; &copy; 2020 &mdash; x", "<p>html</p>",
    "日本語のテキスト", "తెలుగు పిల్లి", "हिन्दी", "مرحبا", "שלום", "Привет МИР", "한국어", "ΟΔΥΣΣΕΥΣ ΚΑΙ Σ",
    "İstanbul I ß ẞ",
    "emoji 🐱👍🏽 👨‍👩‍👧", "1234567890 3.14 ½ ² ⅷ ①", "a" * 300, "word " * 100, "!!!??? ...--- ###",
    "x\u00a0y\u2003z\u200bq\ufeff", "tab\x0bvt\x1cfs\x1b[31mred\x1b[0m", "user@example.com http://x.y/z?a=b&c=d",
    "under_score", "<|endoftext|> is text", "a photo of a cat" * 20,
]  # fmt: skip


@pytest.fixture(scope="module")
def clip_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "tokenizer.json"
    path.write_text(clip_tokenizer(), encoding="utf-8")
    return path


def padded(tokenizer: TextTokenizer, texts: list[str], length: int) -> np.ndarray:
    ids = np.zeros((len(texts), length), np.int64)
    for row, tokens in zip(ids, tokenizer(texts), strict=True):
        row[: len(tokens)] = tokens
    return ids


@pytest.mark.parametrize("length", [77, 16])
def test_clips_ids_are_open_clips(clip_json: Path, length: int) -> None:
    theirs = open_clip.SimpleTokenizer(context_length=length)
    ours = padded(TextTokenizer(clip_json, length), TEXTS, length)
    for text, row, expected in zip(TEXTS, ours, theirs(TEXTS).numpy(), strict=True):
        assert row.tolist() == expected.tolist(), text


def test_clips_ids_on_random_texts(clip_json: Path) -> None:
    """Without the letters that mojibake is made of, which ftfy would guess at."""
    letters = [chr(code) for code in range(32, 127)] + list("дяλπ中文字かなカナ한글أبجדהא‘’“”…—🐱👍ŝőů\u3000Ａｂ")
    choose = random.Random(0)
    texts = ["".join(choose.choices(letters, k=choose.randint(1, 60))) for _ in range(400)]
    theirs = open_clip.get_tokenizer("ViT-B-32")(texts).numpy()
    assert np.array_equal(padded(TextTokenizer(clip_json, 77), texts, 77), theirs)


def test_clip_keeps_the_end_of_a_long_text_and_pads_with_zeros(clip_json: Path) -> None:
    tokenizer = TextTokenizer(clip_json, 77)
    long, short = tokenizer(["word " * 100, "word"])
    assert len(long) == 77 and long[-1] == SIZE - 1 and short[-1] == SIZE - 1
    ids, mask = tokenizer.pad([long, short])
    assert ids.shape == (2, 77) and ids[1, 3:].sum() == 0 and mask[1].sum() == 3
    assert tokenizer.pad([short])[0].shape == (1, 3), "no tower that looks back only needs more"


def test_padding_to_a_length_stays_in_the_file(clip_json: Path, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(plain(clip_json.read_text("utf-8"), length=77), encoding="utf-8")
    tokenizer = TextTokenizer(path, 77)
    assert tokenizer.pad(tokenizer(["word"]))[0].shape == (1, 77)


# --- SigLIP


@pytest.fixture
def siglip_folder(tmp_path: Path) -> Path:
    """A unigram tokenizer of letters and a few words, as a folder of transformers."""
    pieces = ["<pad>", "</s>", "<unk>", "▁", "▁a", "▁cat", "▁photo", "ph", "at"]
    scored = [(piece, -1.0 - place / 10) for place, piece in enumerate(pieces)]
    scored += [(letter, -9.0) for letter in "abcdefghijklmnopqrstuvwxyzäöüß0123456789'’&"]
    tokenizer = Tokenizer(models.Unigram(scored, 2, False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    from tokenizers import processors

    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "</s>", "eos_token": "</s>",
                 "unk_token": "<unk>"}  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(described))
    return tmp_path


def test_siglips_ids_are_open_clips(siglip_folder: Path, tmp_path: Path) -> None:
    texts = [
        "A photo of a CAT!",
        "snake_case cats & dogs",
        "it’s (a) cat.",
        "  two   spaces ",
        "",
        "a " * 40,
        "&amp; ä",
    ]
    theirs = open_clip.tokenizer.HFTokenizer(str(siglip_folder), context_length=16, clean="canonicalize")
    path = tmp_path / "ours.json"
    path.write_text(
        siglip_tokenizer(
            siglip_folder / "tokenizer.json", length=16, clean="canonicalize", pad_token="</s>", end_token="</s>"
        ),
        encoding="utf-8",
    )
    tokenizer = TextTokenizer(path, 16)
    ids, _ = tokenizer.pad(tokenizer(texts))
    for text, row, expected in zip(texts, ids, theirs(texts).numpy(), strict=True):
        assert row.tolist() == expected.tolist(), text


@pytest.mark.parametrize(("clean", "same"), [("punctuation", "snakecase"), ("canonicalize", "snake case")])
def test_an_underscore_is_dropped_by_one_library_and_a_space_in_the_other(
    siglip_folder: Path, clean: str, same: str
) -> None:
    made = Tokenizer.from_str(
        siglip_tokenizer(siglip_folder / "tokenizer.json", length=16, clean=clean, pad_token=None, end_token=None)
    )
    assert made.encode("Snake_CASE!").ids == made.encode(same).ids


def test_siglips_sentencepiece_model(tmp_path: Path) -> None:
    from transformers.utils import sentencepiece_model_pb2_new as sentencepiece

    model = sentencepiece.ModelProto()
    for piece, score in [("<pad>", 0), ("</s>", 0), ("<unk>", 0), ("▁a", -1), ("▁cat", -2), ("▁", -3), ("s", -4)]:
        model.pieces.add(piece=piece, score=score)
    model.trainer_spec.model_type, model.trainer_spec.unk_id = 1, 2
    path = tmp_path / "spiece.model"
    path.write_bytes(model.SerializeToString())
    made = Tokenizer.from_str(siglip_tokenizer(path, length=8, clean="punctuation", pad_token=None, end_token=None))
    assert made.encode("A cats!").tokens == ["▁a", "▁cat", "s", "</s>", "</s>", "</s>", "</s>", "</s>"]
    assert made.encode("?").ids == [1] * 8


def test_files_that_are_no_tokenizers_are_named(tmp_path: Path) -> None:
    for name in ("tokenizer.json", "spiece.model"):
        (tmp_path / name).write_text("not this")
        with pytest.raises(ModelError, match=name):
            siglip_tokenizer(tmp_path / name, length=8, clean="lower", pad_token=None, end_token=None)


def test_a_token_that_is_not_there_is_named(siglip_folder: Path) -> None:
    with pytest.raises(ModelError, match="has no token '<eos>'"):
        siglip_tokenizer(
            siglip_folder / "tokenizer.json", length=8, clean="lower", pad_token="<pad>", end_token="<eos>"
        )
