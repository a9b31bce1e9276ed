"""What is said of drawn pictures: found again, varied, near to real ones, copied."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bahumukha.data.scene_captions import plain_caption
from bahumukha.data.scenes import Ground, Scene
from bahumukha.errors import UsageError
from bahumukha.evaluate import composed
from bahumukha.evaluate.composed import askable, composed_scenes, learned_judge
from bahumukha.evaluate.dalle import by_dalle
from bahumukha.evaluate.drawn import (
    Asked,
    Drawn,
    diversity,
    draw_all,
    embedded,
    embedded_files,
    frechet,
    kept_prompts,
    nearest,
    prompts_of,
    read_prompts,
    retrieval,
    scene_scores,
)
from bahumukha.generate.dalle import generate
from bahumukha.images import to_uint8
from bahumukha.nn.sampling import Sampling
from bahumukha.zoo.codecs import load_codec
from bahumukha.zoo.dalle import load_dalle
from bahumukha.zoo.fake import ColourEncoder
from tests.composed_pictures import painted, random_scene, thing, write_scenes
from tests.fake_codec import BlockCodec
from tests.tiny_dalle import make_codec_folder, make_dalle_folder

CAPTIONS = ("a red thing", "a green thing", "a blue thing")
RGB = {"red": (255, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 255), "gray": (128, 128, 128)}


def plain(*names: str) -> np.ndarray:
    return np.stack([np.full((16, 16, 3), RGB[name], np.uint8) for name in names])


def drawn_of(names: list[list[str]], captions: tuple[str, ...] = CAPTIONS) -> Drawn:
    encoder = ColourEncoder()
    pictures = np.stack([plain(*each) for each in names])
    rows = embedded(encoder, pictures.reshape(-1, 16, 16, 3)).reshape(len(names), len(names[0]), -1)
    return Drawn(pictures, rows, np.einsum("ped,pd->pe", rows, encoder.encode_texts(list(captions))))


def test_found_again() -> None:
    drawn = drawn_of([["gray", "red"], ["green", "green"], ["red", "green"]])
    scores = retrieval(ColourEncoder(), drawn, CAPTIONS)
    assert drawn.best[0] == 1
    assert scores.single == pytest.approx(3 / 6), "red, green and green: gray is level with all, which is no win"
    assert scores.best == pytest.approx(2 / 3) and scores.by_prompt[:2] == [1, 1] and scores.by_prompt[2] > 1
    assert (scores.prompts, scores.each) == (3, 2)


def test_diversity_is_between_pictures_of_one_prompt() -> None:
    alike = drawn_of([["red", "red"], ["green", "green"]], CAPTIONS[:2])
    assert diversity(alike.rows) == pytest.approx(0, abs=1e-6)
    rows = np.array([[[1, 0], [0, 1], [1, 0]], [[1, 0], [1, 0], [1, 0]]], np.float32)
    assert diversity(rows) == pytest.approx((2 / 3 + 0) / 2)
    with pytest.raises(ValueError, match="at least 2"):
        diversity(rows[:, :1])


def test_the_nearest_training_picture(coloured_pictures: Path) -> None:
    paths = sorted(coloured_pictures.iterdir())
    known = embedded_files(ColourEncoder(), paths, "--training", 16)
    drawn = drawn_of([["red", "gray"], ["blue", "blue"]], ("a red thing", "a blue thing"))
    found = nearest(drawn.best_rows, ["a", "b"], known)
    assert [(each.prompt, each.path.name) for each in found] == [("a", "red.png"), ("b", "blue.jpg")]
    assert all(each.cosine > 0.99 for each in found)


def test_the_distance_to_real_pictures(coloured_pictures: Path) -> None:
    paths = sorted(coloured_pictures.iterdir())  # blue, green, red

    def means(x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))

    same, count = frechet(means, drawn_of([["blue", "gray"], ["green", "gray"], ["red", "gray"]]), paths, 16)
    assert count == 3 and same < 0.01, "the first picture of every prompt, unranked"
    other, _ = frechet(means, drawn_of([["gray", "red"], ["gray", "green"], ["gray", "blue"]]), paths, 16)
    assert other > 10 * same + 0.1
    four = drawn_of([["blue", "red"], ["gray", "gray"], ["green", "gray"], ["gray", "gray"]], ("a", "b", "c", "d"))
    some, count = frechet(means, four, paths[:2], 16)
    assert count == 2 and some < 0.01, "of four prompts the first and the third, and not the first two"


# --- drawing


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("dalle")
    codec = make_codec_folder(root / "codec")
    return load_dalle(make_dalle_folder(root / "dalle", str(codec))), load_codec(codec)


def test_every_prompt_gets_its_pictures_and_each_its_seed(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from bahumukha.evaluate import drawn as module

    monkeypatch.setattr(module, "AT_ONCE", 4)
    asked = [Asked("a red fish", "red"), Asked("a cat", "green")]
    drawn = draw_all(by_dalle(*tiny, Sampling(guidance=2)), ColourEncoder(), asked, each=3, seed=7)
    assert drawn.pictures.shape == (2, 3, 32, 32, 3) and drawn.scores.shape == (2, 3)
    for prompt, one in enumerate(asked):
        for k in range(3):
            *_, alone = generate(*tiny, one.prompt, seed=7 + 3 * prompt + k, sampling=Sampling(guidance=2))
            assert np.abs(drawn.pictures[prompt, k].astype(int) - to_uint8(alone.images[0])).max() <= 1
    picture = Image.fromarray(drawn.best_pictures[1])
    encoder = ColourEncoder()
    score = encoder.encode_images([picture])[0] @ encoder.encode_texts(["green"])[0]
    assert score == pytest.approx(drawn.scores[1].max(), abs=1e-6)


def test_scenes_as_asked_and_the_ceiling_of_the_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composed, "AMONG", 1)
    random = np.random.default_rng(1)
    learn = composed_scenes(write_scenes(tmp_path / "learn", [random_scene(random) for _ in range(60)]))
    scenes = askable(composed_scenes(write_scenes(tmp_path / "judged", [random_scene(random) for _ in range(20)])))
    judge = learned_judge(learn, 64)
    right = np.stack([np.asarray(painted(each.scene)) for each in scenes])
    nothing = np.full_like(right, 255)
    pictures = np.stack([nothing, right], axis=1)
    scores = np.tile(np.array([0.1, 0.2], np.float32), (len(scenes), 1))
    found = scene_scores(Drawn(pictures, np.zeros((len(scenes), 2, 1)), scores), BlockCodec(), judge, scenes, 64)
    assert found.best.all >= 0.95 and found.single.all == pytest.approx(found.best.all / 2)
    assert found.judge.present >= 0.95 and found.judge.scenes == len(scenes)
    assert found.codec is not None and found.codec.all < found.best.all, "blocks of 8 pixels lose the shapes"
    of_pixels = scene_scores(Drawn(pictures, np.zeros((len(scenes), 2, 1)), scores), None, judge, scenes, 64)
    assert of_pixels.codec is None and of_pixels.best == found.best


# --- prompts


def test_prompts_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("# mine\na red fish\n\nఎర్ర చేప\ta red fish.\nపిల్లి\ta cat\n", encoding="utf-8")
    assert read_prompts(file) == [Asked("a red fish", "a red fish"), Asked("పిల్లి", "a cat")], "one concept once"
    file.write_text("a red fish\nA red fish.\n")
    with pytest.raises(UsageError, match="fewer than two different prompts"):
        read_prompts(file)
    with pytest.raises(UsageError, match="--prompts .*gone.txt: cannot be read"):
        read_prompts(tmp_path / "gone.txt")


def test_prompts_of_captioned_pictures_are_found_by_the_english_ones(tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text(
        '{"file": "a.png", "captions": {"en": ["a cat", "pet"], "te": ["పిల్లి"]}, "split": "train"}\n'
        '{"file": "b.png", "captions": {"en": ["a dog"], "te": ["కుక్క"]}, "split": "train"}\n'
        '{"file": "c.png", "captions": {"te": ["చేప"]}, "split": "train"}\n'
        '{"file": "d.png", "captions": {"en": ["a house"]}, "split": "validation"}\n',
        encoding="utf-8",
    )
    assert prompts_of(tmp_path, language="te") == [Asked("పిల్లి", "a cat"), Asked("కుక్క", "a dog")]
    assert [each.prompt for each in prompts_of(tmp_path, split="train")] == ["a cat", "a dog"]


def test_things_in_colours_that_were_kept_from_them(tmp_path: Path) -> None:
    names = [f"thing {k}" for k in range(40)]
    scenes = [
        Scene((replace(thing(name, colour, (0.5, 0.5)), key=name),), Ground(("white",), ((250,) * 3,)), "alone")
        for name in names
        for colour in ("red", "blue")
    ]
    lines = [json.dumps({"file": "a.png", "scene": each.as_record()}) + "\n" for each in scenes]
    (tmp_path / "scenes.jsonl").write_text("".join(lines), encoding="utf-8")
    kept = [each for each in scenes if each.held_out()]
    assert 2 <= len(kept) < 30
    assert [each.prompt for each in kept_prompts([tmp_path])] == [plain_caption(each) for each in kept]
    with pytest.raises(UsageError, match="--language te: the scenes of .* are asked for in English"):
        kept_prompts([tmp_path], "te")
