"""The parts of the starter CLIP's recipe that have an answer one can check."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from bahumukha.data.scene_captions import Statement, plainly, stated
from bahumukha.data.scenes import Ground, Scene, SceneObject
from bahumukha.data.tokens import blank_tokenizer
from recipes.clip.concepts import ANIMAL, Concepts, meanings
from recipes.clip.guess import guess_prototypes
from recipes.clip.names import Names
from recipes.clip.pictures import PictureSet, on_ground, squared
from recipes.clip.statements import StatementEncoder, StatementPlaces, falsified, held_out, mirrored, statement_ids
from recipes.clip.targets import SHARE, learn_targets
from recipes.clip.texts import by_length
from recipes.clip.train import distil
from recipes.clip.trunk import mean_feature
from recipes.clip.wordnet import Synset, WordNet


def test_targets_rank_pictures_for_a_word_and_words_for_a_picture():
    torch.manual_seed(0)
    prototypes = F.normalize(torch.randn(60, 48), dim=1)  # kinds of one thing share nothing, as breeds do not
    members = torch.cat([torch.zeros(2, 60), torch.eye(60)]).bool()
    members[0, :12] = True
    members[1, [17, 21, 40]] = True
    vectors, targets = learn_targets(prototypes, members, steps=120)
    assert torch.allclose(targets.norm(dim=1), torch.ones(62), atol=1e-5)
    assert torch.allclose(vectors.norm(dim=1), torch.full((60,), SHARE), atol=1e-5)
    pictures = F.normalize(prototypes + vectors, dim=1)
    for kind in (0, 1):
        best = (pictures @ targets[kind]).topk(int(members[kind].sum())).indices
        assert members[kind][best].all()
    assert (pictures @ targets[2:].T).argmax(1).tolist() == list(range(60))
    own, other = targets[0] @ pictures[:12].T, targets[[5 + 40, 2 + 50]] @ pictures[:12].T
    assert (own > other).all()  # "dog" beats "whale" on every breed


def test_mean_feature_is_the_mean_of_clipped_normals():
    class Trunk(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bn2 = torch.nn.BatchNorm2d(3)
            self.bn2.bias.data = torch.tensor([-1.0, 0.5, 7.0])
            self.bn2.weight.data = torch.tensor([1.0, -2.0, 3.0])

    trunk = Trunk()
    normal = torch.randn(400_000, 3, generator=torch.Generator().manual_seed(0))
    sampled = (trunk.bn2.bias.detach() + trunk.bn2.weight.detach() * normal).clamp(0, 6).mean(0)
    assert torch.allclose(mean_feature(trunk), sampled, atol=0.02)


def test_by_length_is_only_faster():
    def tower(ids, mask):
        return (ids * mask).sum(1, keepdim=True).float()

    mask = (torch.arange(9)[None] < torch.randint(1, 10, (13, 1))).long()
    ids = torch.randint(1, 50, (13, 9)) * mask
    assert torch.equal(by_length(tower, ids, mask), tower(ids, mask))


def dictionary() -> tuple[WordNet, dict[str, np.ndarray]]:
    """thing > (animal > dog, wolf), (vehicle > car, van)"""
    tree = {1: (), 2: (1,), 3: (2,), 4: (2,), 5: (1,), 6: (5,), 7: (5,)}
    names = ["thing", "animal", "dog", "wolf", "vehicle", "car", "van"]
    synsets = {o: Synset(o, (names[o - 1],), "a gloss", up, 3) for o, up in tree.items()}
    vectors = np.eye(7)  # words that tell nothing of each other: only the tree does
    teacher = {
        "offsets": np.array(list(tree)),
        "names": np.array(names),
        "name": vectors.astype(np.float16),
        "definition": vectors.astype(np.float16),
    }
    return WordNet(synsets), teacher


def test_unlabelled_nouns_lean_to_their_kin():
    wordnet, teacher = dictionary()
    prototypes = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    guesses = guess_prototypes(wordnet, teacher, [3, 6], prototypes)
    assert np.allclose(guesses[[2, 5]], prototypes)
    assert np.allclose(np.linalg.norm(guesses, axis=1), 1, atol=1e-5)
    wolf, van = guesses[3], guesses[6]
    assert wolf[0] > wolf[1] and van[1] > van[0]


def picture_set(captions: list[dict[str, list[str]]]) -> PictureSet:
    records = [{"row": i, "captions": each, "style": "noto", "split": "train"} for i, each in enumerate(captions)]
    features = np.arange(len(records), dtype=np.float16)[:, None]
    return PictureSet(features, np.zeros((len(records), 1, 1, 2), np.float16), records)


def test_left_out_words_take_their_pictures_with_them():
    english = [["a dog"], ["two Dogs", "pets"], ["hotdog"], ["a cat"], ["the sea", "a red fox"]]
    pictures = picture_set([{"en": each} for each in english])
    left = pictures.without({"dog", "red fox"})
    assert [r["captions"]["en"] for r in left.records] == [["hotdog"], ["a cat"]] and len(left) == 2
    assert left.maps([1])[0].tolist() == [[3.0]]  # still the features of the cat
    assert pictures.without(set()) is pictures


def test_names_are_drawn_in_every_language():
    captions = [{"en": [f"Thing {i}", f"object {i}"], "te": [f"te {i}"], "xx": ["no"]} for i in range(6)]
    names = Names(picture_set(captions).records)
    rows, texts = names.draw(400, np.random.default_rng(0))
    for row, text in zip(rows, texts, strict=True):
        assert text in (f"Thing {row}", f"object {row}", f"te {row}") and names.names[row] == f"thing {row}"
    assert 0.35 < sum(text.startswith("te") for text in texts) / 400 < 0.65
    rows, texts = names.draw_english(60, np.random.default_rng(0))
    assert texts == [f"Thing {row}" for row in rows] and set(rows.tolist()) == set(range(6))


def thing(key: str, colour: str | None, **more) -> SceneObject:
    name = {"1": "fish", "2": "car", "3": "star"}[key]
    plural = {"1": "fish", "2": "cars", "3": "stars"}[key]
    given = {"style": "noto", "paint": colour, "count": 1, "size": "medium", "spots": ((0.25, 0.5, 0.3),), "names": {}}
    return SceneObject(key, name, plural, colour=colour, **given | more)


SCENE = Scene((thing("1", "green"), thing("2", "red")), Ground(("white",), ((255, 255, 255),), 0.0), "left of")


@given(st.integers(0, 10_000))
def test_false_statements_differ_from_the_true_one(seed: int):
    rng = np.random.default_rng(seed)
    said = stated(SCENE, rng)
    kinds, styles = {"1": 0, "2": 1, "3": 2}, ["noto"]
    false = falsified(said, rng, 6, [thing("3", None)])
    assert not any(held_out(each) for each in false)  # it would only ever be seen to be false
    true, *wrong = statement_ids([said, *false], kinds, styles)
    for each in wrong:
        changed = (each != true).nonzero()
        assert len(changed) > 0
        fields = set(changed[:, 1].tolist())
        assert len(fields) == 1 or len(set(changed[:, 0].tolist())) == 1  # one thing, or one property of two


def test_colour_relation_number_and_thing_are_falsified():
    said, rng = plainly(SCENE), np.random.default_rng(0)
    false = [each for _ in range(30) for each in falsified(said, rng, 6, [thing("3", None)])]
    changes = {
        (a.key != b.key, a.colour != b.colour, a.count != b.count, each.arrangement != said.arrangement)
        for each in false
        for a, b in zip(said.objects, each.objects, strict=True)
    }
    assert changes >= {tuple(i == j for j in range(4)) for i in range(4)}


def test_a_mirror_exchanges_sides_and_nothing_else():
    said = plainly(SCENE)
    assert mirrored(said) == replace(said, arrangement="right of") and mirrored(mirrored(said)) == said
    above = replace(said, arrangement="above")
    assert mirrored(above) == above
    row = Statement((*said.objects, thing("3", None)), "row")
    assert [each.key for each in mirrored(row).objects] == ["3", "2", "1"]


def test_a_statement_means_the_same_from_either_side():
    kinds = {"1": 0, "2": 1}
    places = StatementPlaces(StatementEncoder(2, 1, 16).eval(), kinds, ["noto"])
    first, second = thing("1", "blue"), thing("2", "red")
    said = [
        Statement((first, second), "left of"),
        Statement((second, first), "right of"),
        Statement((first, second), "right of"),
    ]
    a, b, c = places.encode(said)
    assert torch.allclose(a, b, atol=1e-5) and not torch.allclose(a, c, atol=1e-2)


def test_distilling_wants_the_same_neighbours():
    among = F.normalize(torch.randn(30, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    targets, others = among[:5], among[5:10]
    assert distil(targets, targets, among, 20.0) < 1e-6
    assert distil(others, targets, among, 20.0) > 1


def test_a_rarer_meaning_is_taken_when_only_it_is_pictured():
    synsets = {
        1: Synset(1, ("whale", "giant"), "a very large person", (), 18),
        2: Synset(2, ("whale",), "a cetacean", (), ANIMAL),
        3: Synset(3, ("mouse",), "a rodent", (), ANIMAL),
        4: Synset(4, ("mouse", "computer mouse"), "a device", (), 6),
    }
    ranks = {("whale", 1): 0, ("whale", 2): 1, ("mouse", 3): 0, ("mouse", 4): 1, ("giant", 1): 0}
    found = meanings(WordNet(synsets), ranks, list(synsets), shown={2, 4})
    assert found == {"whale": 2, "giant": 1, "mouse": 3, "computer mouse": 4}


def test_names_start_where_they_are_known_or_like_what_is_known():
    def encode(texts):
        return np.stack([np.eye(4)[{"dog": 0, "dog face": 0, "car": 1, "taxi": 1, "sea": 2}[t]] for t in texts])

    known = {"dog": np.array([1.0, 0.0]), "car": np.array([0.0, 1.0])}
    concepts = Concepts.place(["dog", "dog face", "taxi", "sea"], known, {"sea": np.array([0.6, 0.8])}, encode)
    assert concepts.names == ["dog", "dog face", "sea", "taxi"] and concepts.fixed.tolist() == [True, *[False] * 3]
    assert np.allclose(concepts.start[0], [1, 0]) and np.allclose(concepts.start[2], [0.6, 0.8])
    assert concepts.start[1, 0] > 0.9 and concepts.start[3, 1] > 0.9


def test_pictures_are_laid_in_the_middle_of_a_ground():
    red = Image.new("RGBA", (40, 20), (255, 0, 0, 255))
    picture = on_ground(squared(red, 0.25), np.random.default_rng(0), plain_white=True)
    assert picture.size == (60, 60) and picture.mode == "RGB"
    assert picture.getpixel((30, 30)) == (255, 0, 0) and picture.getpixel((30, 5)) == (255, 255, 255)


def test_vowel_signs_do_not_cut_words():
    split = blank_tokenizer().pre_tokenizer.pre_tokenize_str
    assert len(split(" పిల్లి")) == 1 and len(split(" मछली")) == 1
    assert len(split(" a cat's")) == 4
    assert blank_tokenizer().normalizer.normalize_str("  A  CAT ") == " a cat"
