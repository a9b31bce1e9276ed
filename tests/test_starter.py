"""Quality gates on the models that ship: a worse one cannot land by accident. Real photographs, the real encoder."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from bahumukha import zoo
from bahumukha.classify import label_embeddings
from bahumukha.evaluate.clip import evaluate_photos
from bahumukha.evaluate.composition import composition_scores, scene_questions
from bahumukha.evaluate.everyday import evaluate_everyday
from bahumukha.images import open_image
from bahumukha.zoo.folder import find, fingerprint, read_config

SHOWS = {
    "astronaut": "an astronaut",
    "bridge-at-night": "a bridge at night",
    "cat-ginger-tabby": "a cat",
    "charminar": "a mosque",
    "chickens": "hens",
    "citrus-fruits": "oranges and lemons",
    "coffee-cup": "a cup of coffee",
    "cow": "a cow",
    "crab": "a crab",
    "dandelions": "flowers",
    "dog-german-shepherd": "a dog",
    "duck": "a duck",
    "eiffel-tower": "a tower",
    "giant-panda": "a panda",
    "giraffe": "a giraffe",
    "hedgehog": "a hedgehog",
    "honey-bee-on-flower": "a bee",
    "horses": "horses",
    "kangaroo": "a kangaroo",
    "kingfisher": "a kingfisher",
    "machu-picchu": "mountains",
    "moose": "a moose",
    "owl": "an owl",
    "photographer": "a man with a camera",
    "polar-bear": "a polar bear",
    "rocket": "a rocket",
    "sheep": "a sheep",
}
STARTERS = ("starter/clip",)
VALIDATION = Path(__file__).parents[2] / "shared" / "photos"
"""300 photographs that stand beside the checkout where the project is developed; never part of the project."""


@pytest.fixture(scope="module")
def encoder():
    return zoo.load()


@pytest.fixture(scope="module")
def photos(encoder):
    folder = Path(str(files("bahumukha"))) / "demo_photos"
    images = {p.stem: open_image(p) for p in sorted(folder.glob("*.jpg"))}
    return dict(zip(images, encoder.encode_images(list(images.values())), strict=True)), images


def test_demo_photographs_are_named(encoder, photos):
    """27 kinds of things, half of them no class of ImageNet, compete for each photograph."""
    embeddings, _ = photos
    labels = list(SHOWS.values())
    scores = np.stack([embeddings[name] for name in SHOWS]) @ label_embeddings(encoder, labels, None).T
    right = [labels[i] == label for i, label in zip(scores.argmax(1), SHOWS.values(), strict=True)]
    assert np.mean(right) >= GATES["demo"], [n for n, ok in zip(SHOWS, right, strict=True) if not ok]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("a very fat gray cat", "cat"),
        ("an animal of the farm", ("cow", "chickens", "horses", "sheep", "duck")),
        ("a famous tower", ("eiffel-tower", "charminar", "bridge-at-night")),  # which is mostly one pylon, lit
        ("a bear", ("polar-bear", "giant-panda", "red-panda")),
    ],
)
def test_the_best_photograph_for_a_sentence(encoder, photos, query, wanted):
    embeddings, _ = photos
    names = list(embeddings)
    best = names[int(np.argmax(np.stack(list(embeddings.values())) @ encoder.encode_texts([query])[0]))]
    assert best.startswith(wanted)


SHOWS_ONE_THING = {
    "cat-ginger-tabby": ("cat", "పిల్లి", "बिल्ली", "chat", "猫", "кошка"),
    "dog-german-shepherd": ("dog", "కుక్క", "कुत्ता", "chien", "狗", "собака"),
    "owl": ("owl", "గుడ్లగూబ", "उल्लू", "hibou", "猫头鹰", "сова"),
    "giant-panda": ("panda", "పాండా", "पांडा", "panda", "熊猫", "панда"),
    "giraffe": ("giraffe", "జిరాఫీ", "जिराफ़", "girafe", "长颈鹿", "жираф"),
    "cow": ("cow", "ఆవు", "गाय", "vache", "奶牛", "корова"),
    "sheep": ("ewe", "గొర్రె", "भेड़", "mouton", "绵羊", "овца"),
    "crab": ("crab", "పీత", "केकड़ा", "crabe", "蟹", "краб"),
    "kangaroo": ("kangaroo", "కంగారు", "कंगारू", "kangourou", "袋鼠", "кенгуру"),
    "honey-bee-on-flower": ("honeybee", "తేనెటీగ", "मधुमक्खी", "abeille", "蜜蜂", "пчела"),
    "horses": ("horse", "గుర్రం", "घोड़ा", "cheval", "马", "лошадь"),
    "rocket": ("rocket", "రాకెట్", "रॉकेट", "fusée", "火箭", "ракета"),
}
"""Names in English, Telugu, Hindi, French, Chinese and Russian."""


@pytest.mark.parametrize("language", ["en", "te", "hi", "fr", "zh", "ru"])
def test_photographs_are_named_in_every_language(photos, encoder, language):
    found, _ = photos
    embeddings = np.stack([found[name] for name in SHOWS_ONE_THING])
    column = list(LANGUAGES).index(language)
    names = encoder.encode_texts([each[column] for each in SHOWS_ONE_THING.values()])
    right = (embeddings @ names.T).argmax(1) == np.arange(len(names))
    assert right.mean() >= LANGUAGES[language] - 0.01


def test_numbers_and_colours_of_composed_scenes(encoder):
    found = {s.kind: s for s in composition_scores(encoder, scene_questions(Path(__file__).parent / "scenes"))}
    assert found["colour"].items >= 50 and found["colour"].right >= GATES["colour"]
    assert found["count"].items >= 50 and found["count"].right >= GATES["count"]
    assert found["relation"].items >= 40 and found["relation"].right >= GATES["relation"]
    assert found["swapped colours"].right >= GATES["relation"]


@pytest.mark.parametrize("name", STARTERS)
def test_validation_photographs(name):
    if not VALIDATION.is_dir():
        pytest.skip("the validation photographs are not beside this checkout")
    scores, gates = evaluate_photos(zoo.load(name), VALIDATION), GATES
    assert scores.photos == 300 and not scores.failed
    assert scores.top1 >= gates["top1"] and scores.top5 >= gates["top5"] and scores.coarse is not None
    assert scores.coarse >= gates["coarse"], scores.coarse_words


def test_everyday_things_in_sixteen_languages(encoder):
    if not VALIDATION.is_dir():
        pytest.skip("the validation photographs are not beside this checkout")
    scores = evaluate_everyday(encoder, VALIDATION)
    by_language = {each.language: each.top1 for each in scores.languages}
    assert len(by_language) == 16 and scores.mean_top1 >= GATES["languages"], by_language
    assert by_language["en"] >= GATES["everyday"] and by_language["te"] >= GATES["telugu"], by_language


def test_onnx_and_pytorch_agree_on_photographs(encoder, photos):
    from bahumukha.zoo.pytorch import TorchClip

    twin = TorchClip()
    embeddings, images = photos
    names = list(images)[::6]
    assert (twin.encode_images([images[n] for n in names]) * [embeddings[n] for n in names]).sum(1).min() >= 0.999
    texts = ["a penguin", "a bear", "a cat", "ఒక పిల్లి", "a very fat gray cat sitting on a table"]
    assert (twin.encode_texts(texts) * encoder.encode_texts(texts)).sum(1).min() >= 0.99


def test_guidance_leaves_the_mixture_of_classes_out(photos):
    import torch

    from bahumukha.zoo.pytorch import TorchClip

    twin = TorchClip()
    _, images = photos
    owl = np.asarray(images["owl"].resize((128, 128)), np.float32) / 255
    x = torch.from_numpy(owl).permute(2, 0, 1)[None].requires_grad_()
    guide, whole = twin.guide_pixels(x, 128), twin.encode_pixels(x, 128, crop=False)
    assert 0.5 < float((guide * whole).detach().sum()) < 0.999, "the same place, but for the mixture"
    twin.model.image.mixture.vectors.weight.zero_()
    assert torch.allclose(twin.encode_pixels(x, 128, crop=False), guide, atol=1e-5)
    guide[0, 0].backward()
    assert float(x.grad.abs().amax()) > 0


@pytest.mark.parametrize("name", STARTERS)
def test_fingerprint_is_of_these_weights(name):
    folder = find(name)
    assert read_config(folder).fingerprint == fingerprint(folder)


@pytest.mark.parametrize("name", STARTERS)
def test_sizes(name):
    folder = find(name)
    assert sum(p.stat().st_size for p in (folder / "onnx").iterdir()) <= 30e6
    assert sum(p.stat().st_size for p in folder.parent.rglob("*") if p.is_file()) <= 140e6


@pytest.mark.parametrize("name", STARTERS)
def test_card_states_what_it_must(name):
    card = (find(name) / "card.md").read_text(encoding="utf-8")
    for word in ("## Data", "licence: ", "## Recipe", "## Scores", "## Limits", " hours"):
        assert word in card
    assert json.loads((find(name) / "config.json").read_text())["steps"] > 0


GATES = {
    "demo": 0.70,
    "top1": 0.81,
    "top5": 0.955,
    "coarse": 0.85,
    "everyday": 0.80,
    "telugu": 0.77,
    "languages": 0.79,
    "colour": 0.94,
    "count": 0.95,
    "relation": 0.95,
}
LANGUAGES = {"en": 0.75, "te": 0.75, "hi": 0.83, "fr": 0.75, "zh": 0.83, "ru": 0.75}
"""A little below what the cards state and what was measured, so that only a real loss fails."""
