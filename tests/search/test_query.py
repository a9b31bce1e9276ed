"""Terms with weights, and their sum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bahumukha.errors import ImageError, UsageError
from bahumukha.search.query import Term, embed_picture, embed_query, parse_query, parse_term
from bahumukha.zoo.fake import ColourEncoder
from tests.search.pictures import draw


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("snow", Term(1.0, "snow")),
        ("0.5:snow", Term(0.5, "snow")),
        (".5:snow", Term(0.5, "snow")),
        ("2: deep snow ", Term(2.0, "deep snow")),
        ("1e-1:snow", Term(0.1, "snow")),
        ("1:10:30 train", Term(1.0, "10:30 train")),
        ("note: snow", Term(1.0, "note: snow")),
        ("half:snow", Term(1.0, "half:snow")),
        ("a 3:2 picture", Term(1.0, "a 3:2 picture")),
        ("C:\\no such\\pic.jpg", Term(1.0, "C:\\no such\\pic.jpg")),
        ("మంచు", Term(1.0, "మంచు")),
        ("caf\udce9", Term(1.0, "caf\ufffd")),
        ("nul\0byte", Term(1.0, "nul\0byte")),
        ("x" * 5000, Term(1.0, "x" * 5000)),
    ],
)
def test_sentences(text: str, expected: Term) -> None:
    assert parse_term(text) == expected


def test_pictures_with_and_without_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pic.jpg", "C:\\pic.jpg"):
        draw("red").save(name, "JPEG")
        assert parse_term(name) == Term(1.0, picture=Path(name))
        assert parse_term(f"0.5:{name}", sign=-1) == Term(-0.5, picture=Path(name))


@pytest.mark.parametrize(
    "text", ["", "  ", "0.5:", "0:snow", "0.0:snow", "1e999:snow", "missing.jpg", "2:missing.HEIC"]
)
def test_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--plus"):
        parse_term(text)


@given(st.text(max_size=50))
def test_any_text_is_a_term_or_a_usage_error(text: str) -> None:
    try:
        term = parse_term(text)
    except UsageError:
        return
    assert term.weight > 0 and (term.sentence or term.picture)


@given(st.floats(1e-6, 1e6), st.text("abc :", min_size=1).filter(str.strip))
def test_weight_is_read_back(weight: float, text: str) -> None:
    term = parse_term(f"{weight:.6f}:{text}" if weight >= 1e-6 else text)
    assert term == Term(float(f"{weight:.6f}"), text.strip())


def test_whole_query(tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    draw("red").save(picture)
    terms = parse_query("sun", image=picture, plus=["2:sea"], minus=["0.5:people"])
    assert terms == [Term(1, "sun"), Term(1, picture=picture), Term(2, "sea"), Term(-0.5, "people")]
    for nothing in ({}, {"minus": ["people"]}, {"query": "  "}):
        with pytest.raises(UsageError, match="nothing to search for"):
            parse_query(**{"query": None, **nothing})
    with pytest.raises(UsageError, match="--image"):
        parse_query("sun", image=tmp_path / "missing.png")


words = st.sampled_from(["red", "green", "blue", "yellow", "white"])


@given(st.lists(st.tuples(st.floats(0.1, 3), words), min_size=1, max_size=4), words, st.booleans())
def test_score_is_the_weighted_sum_of_the_terms_cosines(parts: list, subtracted: str, subtract: bool) -> None:
    encoder = ColourEncoder()
    terms = [Term(weight, word) for weight, word in parts] + [Term(-0.5, subtracted)] * subtract
    vectors = encoder.encode_texts([str(term.sentence) for term in terms])
    total = np.array([term.weight for term in terms]) @ vectors
    assume(np.linalg.norm(total) > 0.05)
    query = embed_query(encoder, terms)
    assert query.dtype == np.float32 and np.linalg.norm(query) == pytest.approx(1, abs=1e-5)
    pictures = encoder.encode_images([draw(word, seed) for seed, word in enumerate(["red", "blue", "cyan"])])
    by_terms = sum(term.weight * (pictures @ vector) for term, vector in zip(terms, vectors, strict=True))
    np.testing.assert_allclose(pictures @ query, by_terms / np.linalg.norm(total), atol=1e-4)


def test_sentences_and_pictures_add_up(tmp_path: Path) -> None:
    encoder, path = ColourEncoder(), tmp_path / "blue.png"
    draw("blue").save(path)
    query = embed_query(encoder, [Term(1, "red"), Term(1, picture=path)])
    expected = encoder.encode_texts(["red"])[0] + embed_picture(encoder, path)
    np.testing.assert_allclose(query, expected / np.linalg.norm(expected), atol=1e-6)


def test_terms_that_cancel_out() -> None:
    with pytest.raises(UsageError, match="cancel"):
        embed_query(ColourEncoder(), [Term(1, "red"), Term(-1, "red")])


def test_unreadable_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no")
    with pytest.raises(ImageError, match="bad.png"):
        embed_picture(ColourEncoder(), tmp_path / "bad.png")
