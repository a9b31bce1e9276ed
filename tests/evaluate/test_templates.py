"""The shipped sets are OpenAI's, and a file of one's own is checked."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest

from bahumukha.errors import UsageError
from bahumukha.evaluate.templates import read_templates


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("openai80", open_clip.OPENAI_IMAGENET_TEMPLATES), ("openai7", open_clip.SIMPLE_IMAGENET_TEMPLATES)],
)
def test_shipped_sets_are_open_clips(name: str, theirs) -> None:
    ours = read_templates(name)
    assert ours is not None and len(ours) == int(name.removeprefix("openai"))
    assert [template.replace("{}", "tabby cat") for template in ours] == [template("tabby cat") for template in theirs]


def test_model_means_its_own() -> None:
    assert read_templates("model") is None


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("\ufeff# mine\n\n a drawing of a {}. \n{}\n", encoding="utf-8")
    assert read_templates(str(file)) == ["a drawing of a {}.", "{}"]


@pytest.mark.parametrize(
    ("content", "message"),
    [("# nothing\n", "holds no template"), ("a photo\n", "'a photo' has no {}"), (b"\xff\xfe\x00", "not UTF-8 text")],
)
def test_mistakes_name_the_option(tmp_path: Path, content: str | bytes, message: str) -> None:
    file = tmp_path / "bad.txt"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UsageError, match="--templates") as error:
        read_templates(str(file))
    assert message in str(error.value)


def test_neither_a_set_nor_a_file() -> None:
    with pytest.raises(UsageError, match="--templates openai800: neither openai80, openai7, model nor a file"):
        read_templates("openai800")
