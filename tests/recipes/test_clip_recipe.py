"""The parts of the starter CLIP's recipe that have an answer one can check."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from bahumukha.data.scene_captions import plain_caption
from bahumukha.data.scenes import Ground, Scene, SceneObject
from bahumukha.data.tokens import blank_tokenizer
from recipes.clip.captions import coarse_targets
from recipes.clip.guess import guess_prototypes
from recipes.clip.pictures import PictureSet, on_ground, squared
from recipes.clip.shown import CaptionedPictures, ComposedScenes
from recipes.clip.texts import by_length
from recipes.clip.train import Objective, same
from recipes.clip.trunk import mean_feature
from recipes.clip.wordnet import Synset, WordNet


def test_coarse_target_ranks_its_members_first():
    torch.manual_seed(0)
    classes = F.normalize(torch.randn(60, 32), dim=1)
    members = torch.zeros(2, 60, dtype=torch.bool)
    members[0, :5] = True
    members[1, [7, 21, 40]] = True
    targets = coarse_targets(members, classes)
    assert torch.allclose(targets.norm(dim=1), torch.ones(2), atol=1e-5)
    for target, row in zip(targets, members, strict=True):
        best = (classes @ target).topk(int(row.sum())).indices
        assert row[best].all()


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


def test_pictures_are_drawn_with_captions_of_their_own_in_every_language():
    captions = [{"en": [f"thing {i}", f"object {i}"], "te": [f"te {i}"], "xx": ["no"]} for i in range(6)]
    shown = CaptionedPictures(picture_set(captions)).draw(400, np.random.default_rng(0))
    for row, text, key in zip(shown.rows, shown.texts, shown.keys, strict=True):
        assert text in (f"thing {row}", f"object {row}", f"te {row}") and key == f"thing {row}"
    foreign = sum(text.startswith("te") for text in shown.texts) / 400
    assert 0.35 < foreign < 0.55


def test_wrong_captions_of_scenes_are_never_true():
    size = "medium"
    blue = SceneObject("1", "fish", "fish", "noto", "blue", "blue", 1, size, ((0.25, 0.5, 0.3),), {})
    red = SceneObject("2", "car", "cars", "noto", "red", "red", 1, size, ((0.75, 0.5, 0.3),), {})
    scene = Scene((blue, red), Ground(("white",), ((255, 255, 255),), 0.0), "left of")
    scenes = picture_set([{"en": ["a blue fish left of a red car"]}])
    scenes.records[0]["scene"] = scene.as_record()
    drawn = ComposedScenes(scenes)
    assert drawn.parsed == [scene]
    for seed in range(20):
        wrong = drawn.wrong(0, np.random.default_rng(seed), 3)
        assert len(wrong) == 3 and plain_caption(scene) not in wrong


def test_the_same_captions_are_the_same():
    assert same(["a", "b", "a"]).tolist() == [[True, False, True], [False, True, False], [True, False, True]]


def test_a_slip_costs_more_the_nearer_it_is_taken_for_the_truth():
    scenes = F.normalize(torch.tensor([[1.0, 0.0]]), dim=1)
    true, near, far = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.8, 0.6]]), torch.tensor([[0.0, 1.0]])
    of = torch.tensor([0])
    scale = torch.tensor(10.0)
    slips = [Objective._slip(scenes, torch.cat([true, wrong]), of, scale) for wrong in (near, far)]
    assert slips[0] > slips[1] > 0


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
