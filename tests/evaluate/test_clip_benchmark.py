"""The package clip-benchmark takes our encoder on PyTorch as it is, and its figures are ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval
from torch.utils.data import DataLoader, Dataset

from bahumukha.classify import label_embeddings
from bahumukha.demo import shipped_photos
from bahumukha.evaluate.captions import Captioned
from bahumukha.evaluate.clip import top_k_accuracy
from bahumukha.evaluate.retrieval import both_ways, concepts
from bahumukha.images import open_image
from bahumukha.zoo.pytorch import TorchClip

SHOWN = {
    "cat-ginger-tabby": ("a cat", ["a ginger cat", "a pet", "an animal indoors"]),
    "dog-german-shepherd": ("a dog", ["a german shepherd"]),
    "horses": ("a cow", ["horses on a meadow", "several animals"]),  # the first label is wrong on purpose
    "eiffel-tower": ("a tower", ["the Eiffel tower", "a sight of Paris"]),
    "crab": ("a dog", ["a crab on the sand"]),  # and this one
    "rocket": ("a rocket", ["a rocket that takes off"]),
}
TEMPLATES = ["a photo of {c}.", "{c}"]


class Photos(Dataset):
    """Preprocessed pixels with a target each, and the names of the classes as clip-benchmark looks for them."""

    def __init__(self, pixels: torch.Tensor, targets: list, classes: list[str] | None = None) -> None:
        self.pixels, self.targets, self.classes = pixels, targets, classes

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple:
        return self.pixels[row], self.targets[row]


def together(items: list[tuple]) -> tuple[torch.Tensor, list]:
    """A batch whose targets stay a list: the captions of pictures are not equally many."""
    return torch.stack([pixels for pixels, _ in items]), [target for _, target in items]


@pytest.fixture(scope="module")
def clip() -> TorchClip:
    return TorchClip()


@pytest.fixture(scope="module")
def pixels(clip: TorchClip) -> torch.Tensor:
    by_name = {photo.path.stem: photo.path for photo in shipped_photos()}
    return torch.stack([clip.preprocess(open_image(by_name[name], at_least=300)) for name in SHOWN])


@pytest.fixture(scope="module")
def rows(clip: TorchClip) -> np.ndarray:
    """Our embeddings of the photographs, float32 (6, dim)."""
    by_name = {photo.path.stem: photo.path for photo in shipped_photos()}
    return clip.encode_images([open_image(by_name[name], at_least=300) for name in SHOWN])


def test_zero_shot_classification(clip: TorchClip, pixels: torch.Tensor, rows: np.ndarray) -> None:
    labels = sorted({label for label, _ in SHOWN.values()})
    truth = [labels.index(label) for label, _ in SHOWN.values()]
    loader = DataLoader(Photos(pixels, truth, labels), batch_size=3)
    # The two steps of its evaluate(); the third, its accuracy(), fails with NumPy 2.4 whatever the model (1.6.2).
    classifier = zeroshot_classification.zero_shot_classifier(clip, clip.tokenizer, labels, TEMPLATES, "cpu", amp=False)
    theirs, targets = zeroshot_classification.run_classification(clip, classifier, loader, "cpu", amp=False)
    ours = label_embeddings(clip, labels, [template.replace("{c}", "{}") for template in TEMPLATES])
    scores = rows @ ours.T
    assert targets.tolist() == truth
    assert theirs.numpy() == pytest.approx(100 * scores, abs=0.05)
    (top1,) = top_k_accuracy(scores, np.array(truth), (1,))
    assert float((theirs.argmax(1) == targets).float().mean()) == pytest.approx(top1)
    assert top1 > 0.4


def test_zero_shot_retrieval(clip: TorchClip, pixels: torch.Tensor, rows: np.ndarray) -> None:
    captions = [texts for _, texts in SHOWN.values()]
    loader = DataLoader(Photos(pixels, captions), batch_size=4, collate_fn=together)
    theirs = zeroshot_retrieval.evaluate(clip, loader, clip.tokenizer, "cpu", amp=False, recall_k_list=[1, 5])
    texts, fits = concepts([Captioned(Path(name), tuple(own), name) for name, own in zip(SHOWN, captions, strict=True)])
    to_image, to_text = both_ways(rows, clip.encode_texts(texts), fits)
    for k in (1, 5):
        assert theirs[f"image_retrieval_recall@{k}"] == pytest.approx(to_image.at[k])
        assert theirs[f"text_retrieval_recall@{k}"] == pytest.approx(to_text.at[k])
    assert 0.3 < to_image.at[1] < 1.0
