"""Tokenizers of public models as `tokenizer.json`.

    CLIP      the byte pairs that OpenCLIP carries in its package (Radford et al. 2021)
    SigLIP    a tokenizer.json, or a sentencepiece model (Kudo and Richardson 2018), behind big_vision's cleaning

OpenCLIP cleans a text in Python before it tokenizes. Here the same is written as normalizers inside the file, so that
ONNX Runtime's half needs nothing but `tokenizers`. What they cannot do is repair text that was decoded with the wrong
encoding (ftfy's mojibake), and unescape HTML entities beyond the common ones.
"""

from __future__ import annotations

import gzip
import html
import re
import string
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from bahumukha.errors import ModelError

Clean = Literal["canonicalize", "punctuation", "lower"]
START, END = "<|startoftext|>", "<|endoftext|>"
SIZE = 49408
MERGES = SIZE - 2 * 256 - 2
"""The rest of CLIP's vocabulary is 256 bytes, 256 bytes that end a word, and two special tokens."""
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

# What ftfy.fix_text does to whole texts, character by character.
_TERMINAL = r"\x1b\[[0-9;]*[a-zA-Z]"
_CONTROLS = "[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]"
_QUOTES = {"[\u02bc\u2018-\u201b]": "'", "[\u201c-\u201f]": '"'}
_LIGATURES = {"Ĳ": "IJ", "ĳ": "ij", "ŉ": "ʼn", "Ǳ": "DZ", "ǲ": "Dz", "ǳ": "dz", "Ǆ": "DŽ", "ǅ": "Dž", "ǆ": "dž",
              "Ǉ": "LJ", "ǈ": "Lj", "ǉ": "lj", "Ǌ": "NJ", "ǋ": "Nj", "ǌ": "nj", "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl",
              "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "ſt", "ﬆ": "st"}  # fmt: skip
_ENTITIES = ("&amp;", "&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "&#39;", "&#x27;", "&nbsp;", "&hellip;", "&ndash;",
             "&mdash;", "&lsquo;", "&rsquo;", "&ldquo;", "&rdquo;", "&eacute;", "&copy;", "&reg;", "&deg;")  # fmt: skip


def clip_tokenizer(merges: Path | None = None) -> str:
    """CLIP's tokenizer as the JSON text of `tokenizer.json`; pads with 0, as OpenCLIP does.

    `merges`: `bpe_simple_vocab_16e6.txt.gz`, by default the one in OpenCLIP's package.
    """
    path = merges or _open_clip_merges()
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : MERGES + 1]
    pairs = [(first, second) for first, second in (line.split() for line in lines)]
    # OpenAI's order of the bytes: those that print, then the others.
    printing = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = [chr(byte) for byte in printing] + [chr(256 + place) for place in range(256 - len(printing))]
    tokens = [*letters, *(f"{each}</w>" for each in letters), *map("".join, pairs), START, END]
    vocabulary = {token: place for place, token in enumerate(tokens)}

    tokenizer = Tokenizer(models.BPE(vocabulary, pairs, unk_token=END, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(_basic_clean() + _lower())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])]
    )
    tokenizer.enable_padding(pad_id=0, pad_token=tokens[0])
    return tokenizer.to_str()


def _open_clip_merges() -> Path:
    package = find_spec("open_clip")  # found, not imported: that would take seconds
    if package is None or not package.submodule_search_locations:
        raise ModelError("CLIP's vocabulary comes with OpenCLIP: pip install 'bahumukha[create]'")
    return Path(package.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"


def _basic_clean() -> list[normalizers.Normalizer]:
    """OpenCLIP's `basic_clean`: ftfy.fix_text and html.unescape."""
    steps: list[normalizers.Normalizer] = [normalizers.Replace(entity, html.unescape(entity)) for entity in _ENTITIES]
    steps += [normalizers.Replace(each, plain) for each, plain in _LIGATURES.items()]
    # Wide Latin letters and narrow Japanese ones, to their usual width.
    steps += [normalizers.Replace(chr(wide), chr(wide - 0xFEE0)) for wide in range(0xFF01, 0xFF5F)]
    steps.append(normalizers.Replace("\u3000", " "))
    steps += [normalizers.Replace(Regex(each), plain) for each, plain in _QUOTES.items()]
    steps += [normalizers.Replace(Regex(each), "") for each in (_TERMINAL, _CONTROLS)]
    return [*steps, normalizers.NFC()]


def _lower() -> list[normalizers.Normalizer]:
    final_sigma = normalizers.Replace(Regex(r"(?<=\p{L})Σ(?!\p{L})"), "ς")  # as Python lowers it
    return [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), final_sigma, normalizers.Lowercase()]


# --- SigLIP -----------------------------------------------------------------------------------------------


def siglip_tokenizer(path: Path, *, length: int, clean: Clean, pad_token: str | None, end_token: str | None) -> str:
    """`tokenizer.json`, or a unigram `spiece.model`, as SigLIP is fed: cleaned, ended, padded to `length`.

    `pad_token` and `end_token`: of the model's `tokenizer_config.json`; SigLIP's own `</s>` for both when None.
    Raises ModelError when the file is not one of the two, or lacks a token.
    """
    tokenizer = _sentencepiece(path) if path.suffix == ".model" else _parse(path.read_text("utf-8"), path)
    end, pad = end_token or "</s>", pad_token or end_token or "</s>"
    for token in (end, pad):
        if tokenizer.token_to_id(token) is None:
            raise ModelError(f"{path}: has no token {token!r}, with which SigLIP's texts end or are padded")
    inner = [tokenizer.normalizer] if tokenizer.normalizer else []
    tokenizer.normalizer = normalizers.Sequence(_CLEANING[clean]() + inner)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if tokenizer.encode("a").tokens[-1] != end:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"$A {end}", special_tokens=[(end, tokenizer.token_to_id(end))]
        )
    tokenizer.enable_padding(length=length, pad_id=tokenizer.token_to_id(pad), pad_token=pad)
    return tokenizer.to_str()


def plain(json_text: str, *, length: int | None = None, source: Path | None = None) -> str:
    """A `tokenizer.json` whose only padding is with token 0, as OpenCLIP pads: to `length`, or as the caller needs.

    Raises ModelError, naming `source`, when it is no tokenizer.
    """
    tokenizer = _parse(json_text, source)
    tokenizer.no_truncation()
    tokenizer.enable_padding(length=length, pad_id=0, pad_token=tokenizer.id_to_token(0))
    return tokenizer.to_str()


def _without_punctuation() -> list[normalizers.Normalizer]:
    marks = normalizers.Replace(Regex("[" + re.escape(string.punctuation) + "]"), "")
    return [marks, normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]


_CLEANING: Mapping[Clean, Callable[[], list[normalizers.Normalizer]]] = {
    # OpenCLIP's `canonicalize`: an underscore stands for a space. transformers' SiglipTokenizer drops it.
    "canonicalize": lambda: [*_basic_clean(), normalizers.Replace("_", " "), *_without_punctuation()],
    "punctuation": _without_punctuation,
    "lower": lambda: [normalizers.Lowercase()],
}


def _parse(json_text: str, source: Path | None) -> Tokenizer:
    try:
        return Tokenizer.from_str(json_text)
    except Exception as error:  # tokenizers raises bare Exception
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"{source}: not a tokenizer.json ({reason})") from error


def _sentencepiece(path: Path) -> Tokenizer:
    """A unigram model of sentencepiece, as `tokenizers` has it."""
    from transformers.utils import sentencepiece_model_pb2_new as sentencepiece

    model: Any = sentencepiece.ModelProto()  # type: ignore[attr-defined]  # protobuf makes it at run time
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's DecodeError
        raise ModelError(f"{path}: not a sentencepiece model ({error})") from error
    if model.trainer_spec.model_type != 1:
        raise ModelError(f"{path}: not a unigram model; give the tokenizer.json of this model instead")
    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    tokenizer = Tokenizer(models.Unigram(pieces, model.trainer_spec.unk_id, model.trainer_spec.byte_fallback))
    steps: list[normalizers.Normalizer] = []
    if model.normalizer_spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap))
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    return tokenizer
