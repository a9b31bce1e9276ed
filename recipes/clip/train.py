"""Stage 3: the text tower learns to put every text where its meaning stands.

Stage 2 (`recipes.clip.look`) fixed where that is: a target for each noun of WordNet, for each name of a captioned
picture, and, by the statement encoder, for whatever can be said of a scene. A batch of texts holds

    class        a word, synonym or gloss of one of the 1,000 ImageNet classes
    coarse       a word of a hypernym ("dog", "vehicle")
    noun         any other physical noun of WordNet, whose target is guessed (no picture shows it)
    translation  a word or sentence of another language, with the target of the English that it means
    name         a caption of a stamp, clip-art picture or pictogram, in any language
    english      the English name of one
    scene        a true statement about a composed scene, and false ones

Each text aims at its target by cosine, and by its distances to all other targets (`distil`): what is near and what is
far matters more than the exact place. The text tower's last matrix is solved for before training and after it
(`solve_projection`).

    python -m recipes.clip.train --look runs/look --init runs/text --out runs/clip --minutes 60 …
    … --leave-out ids.txt     no text of these classes is used anywhere (stage 2 must have left them out too)
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.data.scene_captions import Statement, plainly, say, stated
from bahumukha.data.scene_words import LANGUAGES
from bahumukha.data.scenes import Scene
from bahumukha.models.clip import Clip, ClipConfig, ImageTowerConfig, TextTower, TextTowerConfig
from bahumukha.train.loop import LoopConfig, train
from bahumukha.zoo.pytorch import load_clip
from recipes.clip import look
from recipes.clip.captions import Captions
from recipes.clip.names import Names
from recipes.clip.pictures import PictureSet
from recipes.clip.statements import StatementPlaces, falsified
from recipes.clip.texts import by_length, encode_batch
from recipes.clip.translations import Translations
from recipes.clip.trunk import HEAD

FINAL = "final.pt"
"""File of a run: the trained model, which `export` reads."""
LIMIT = 36
"""Most tokens of a sentence in training."""


@dataclass(frozen=True)
class Weights:
    """How many of each kind stand in a batch, and what each loss weighs."""

    classes: int = 64
    coarse: int = 96
    noun: int = 48
    translation: int = 176
    name: int = 96
    english: int = 224
    scene: int = 48
    wrong: int = 3
    align: float = 3.0
    distil: float = 1.0
    scale: float = 25.0


KINDS = ("class", "coarse", "noun", "translation", "name", "english", "scene")
NOUNS_ONLY = Weights(classes=128, coarse=48, noun=144, translation=0, name=0, english=0, scene=0)
"""Of the test of unseen words, which takes three trainings and asks for no more than this."""


@dataclass
class Place:
    """Where texts belong: what stage 2 wrote, read again."""

    nouns: Tensor
    names: list[str]
    name_vectors: Tensor
    told: StatementPlaces
    image: dict[str, Tensor]
    """State of the image tower."""

    @classmethod
    def read(cls, folder: Path) -> Place:
        """`look.pt` of a run of stage 2."""
        stored: dict[str, Any] = torch.load(folder / look.FINAL, weights_only=True)
        state = stored["model"]
        vectors = torch.where(state["fixed"][:, None], state["start"], state["names"])
        own = {k.removeprefix("statements."): v for k, v in state.items() if k.startswith("statements.")}
        image = {k.removeprefix("image."): v for k, v in state.items() if k.startswith("image.")}
        return cls(
            stored["targets"],
            stored["names"],
            F.normalize(vectors, dim=1),
            StatementPlaces.of(own, stored["kinds"], stored["styles"]),
            image,
        )


def told_of(scene: Scene, rng: np.random.Generator) -> tuple[Statement, str]:
    """Something true about a scene, and the language to say it in: English four times of five, and then half plain."""
    language = "en" if rng.random() < 0.8 else LANGUAGES[rng.integers(len(LANGUAGES))]
    plain = language == "en" and rng.random() < 0.5
    return plainly(scene) if plain else stated(scene, rng, language), language


class Texts:
    """Draws texts and their targets. Rows of `table` (R, dim): all nouns, then all names of pictures."""

    def __init__(
        self,
        place: Place,
        captions: Captions,
        translations: Translations,
        pictures: PictureSet,
        scenes: list[PictureSet],
        weights: Weights,
    ):
        self.place, self.captions, self.weights = place, captions, weights
        self.table = torch.cat([place.nouns, place.name_vectors])
        first = len(place.nouns)
        row = {word: captions.row[offset] for word, offset in captions.word.items()}
        row |= {name: first + i for i, name in enumerate(place.names)}
        self.row = row
        own = np.array([row.get(text.lower(), -1) for text in translations.english])
        kinds = set(captions.kinds)
        familiar = np.array([captions.word.get(text.lower()) in kinds for text in translations.english])
        weight = np.diff(translations.chance, prepend=0.0) * (own >= 0)[translations.row]
        weight *= np.where(familiar, 3.0, 1.0)[translations.row]
        self.said = np.cumsum(weight / weight.sum())
        self.translations, self.meant = translations, own
        self.names = Names(pictures.records)
        self.name_rows = np.array([row[name] for name in self.names.names])
        self.scenes = [Scene.from_record(record["scene"]) for part in scenes for record in part.records]
        self.things = [each for scene in self.scenes[:4000] for each in scene.objects]
        among = [*(captions.row[o] for o in captions.kinds), *range(first, first + len(place.names))]
        self.among = self.table[among]
        """Targets that every text is compared with."""

    def draw(self, rng: np.random.Generator) -> tuple[list[str], Tensor, int]:
        """Texts, targets (B, dim), and how many of the texts are not of scenes, which come last."""
        w = self.weights
        texts: list[str] = []
        rows: list[np.ndarray] = []
        for kind, count in (("class", w.classes), ("coarse", w.coarse), ("noun", w.noun)):
            drawn, offsets = self.captions.draw(kind, count, rng)
            texts += drawn
            rows.append(np.array([self._row(text, int(offset)) for text, offset in zip(drawn, offsets, strict=True)]))
        said = np.searchsorted(self.said, rng.random(w.translation)).clip(max=len(self.said) - 1)
        texts += [self.translations.texts[i] for i in said]
        rows.append(self.meant[self.translations.row[said]])
        for draw, number in ((self.names.draw, w.name), (self.names.draw_english, w.english)):
            shown, named = draw(number, rng)
            texts += named
            rows.append(self.name_rows[shown])
        targets = self.table[np.concatenate(rows)]
        count = len(texts)
        if w.scene:
            more, vectors = self._scenes(rng)
            texts, targets = texts + more, torch.cat([targets, vectors])
        return texts, targets, count

    def _row(self, text: str, offset: int) -> int:
        """The row of a sentence about a noun: a word by itself has but one target, also where it names a picture."""
        return self.row[text] if text in self.captions.word else self.captions.row[offset]

    def _scenes(self, rng: np.random.Generator) -> tuple[list[str], Tensor]:
        texts, statements = [], []
        for i in rng.integers(len(self.scenes), size=self.weights.scene):
            said, language = told_of(self.scenes[i], rng)
            for each in (said, *falsified(said, rng, self.weights.wrong, self.things)):
                text = say(each, rng, language)
                if text is not None:
                    texts.append(text)
                    statements.append(each)
        return texts, self.place.told.encode(statements)


def distil(texts: Tensor, targets: Tensor, among: Tensor, scale: float) -> Tensor:
    """Kullback-Leibler divergence of softmax(scale <text, among>) from softmax(scale <target, among>), the mean.

    texts, targets (B, dim), among (N, dim), all of norm 1.
    """
    wanted, found = look.exactly(scale * targets, among), look.exactly(scale * texts, among)
    return F.kl_div(found.log_softmax(1), wanted.log_softmax(1), reduction="batchmean", log_target=True)


class Objective:
    """The losses of one batch of texts."""

    def __init__(self, text: TextTower, tokenizer: Tokenizer, texts: Texts, weights: Weights):
        self.text, self.tokenizer, self.texts, self.weights = text, tokenizer, texts, weights

    def batches(self, seed: int) -> Iterator[dict[str, Tensor]]:
        """Token ids, targets, and how many texts are not of scenes."""
        rng = np.random.default_rng(seed)
        while True:
            texts, targets, count = self.texts.draw(rng)
            ids, mask = encode_batch(self.tokenizer, texts, limit=LIMIT)
            yield {
                "ids": torch.from_numpy(ids),
                "mask": torch.from_numpy(mask),
                "targets": targets,
                "count": torch.tensor(count),
            }

    def sizes(self, texts: int, count: int) -> list[int]:
        """How many of a batch are of each of `KINDS`; the last `texts - count` are of scenes."""
        w = self.weights
        return [w.classes, w.coarse, w.noun, w.translation, w.name, w.english, texts - count]

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Batch -> losses by name."""
        w, targets, count = self.weights, batch["targets"], int(batch["count"])
        texts = F.normalize(by_length(self.text, batch["ids"], batch["mask"], groups=8).float(), dim=1)
        distance = 1 - (texts * targets).sum(1)
        parts = distance.split(self.sizes(len(texts), count))
        losses = {kind: part.mean() for kind, part in zip(KINDS, parts, strict=True) if len(part)}
        losses["distil"] = distil(texts[:count], targets[:count], self.texts.among, w.scale)
        loss = w.align * distance.mean() + w.distil * losses["distil"]
        if len(texts) > count:
            losses["told"] = distil(texts[count:], targets[count:], targets[count:], w.scale)
            loss = loss + w.distil * losses["told"] * (len(texts) - count) / count
        return {"loss": loss, **losses}


LAST_WEIGHTS = {"class": 8.0, "coarse": 24.0, "translation": 4.0}
LAST_KEPT = ("noun", "name")
"""Of the last solve: what is asked most, photographs of classes and kinds, is brought nearer; the others stay."""


def solved(states: Sequence[Tensor], targets: Sequence[Tensor], weights: Sequence[float], ridge: float = 5.0) -> Tensor:
    """Ridge regression: the matrix (dim, width) that takes states (N, width) of each kind to targets (N, dim)."""
    width, dim = states[0].shape[1], targets[0].shape[1]
    gram, moment = ridge * torch.eye(width), torch.zeros(width, dim)
    for x, y, weight in zip(states, targets, weights, strict=True):
        weighted = weight * x.T
        gram += weighted @ x
        moment += weighted @ y
    return torch.linalg.solve(gram, moment).T


@torch.no_grad()
def solve_projection(
    objective: Objective,
    batches: int = 40,
    ridge: float = 5.0,
    weights: Mapping[str, float] | None = None,
    kept: Collection[str] = (),
) -> None:
    """Set the text projection to the ridge regression from the tower's pooled states to the targets.

    Before training it saves the first hundred steps, since stage 1 already laid alike words near each other; after it,
    what gradient descent left some way off is brought nearer. weights: of the kinds of texts, 1 where not given; those
    `kept` aim at where they are.
    """
    text = objective.text.eval()
    drawn = objective.batches(seed=1)
    states: list[Tensor] = []
    targets: list[Tensor] = []
    for _ in range(batches):
        batch = next(drawn)
        pooled = by_length(text.pooled, batch["ids"], batch["mask"], groups=8)
        sizes = objective.sizes(len(pooled), int(batch["count"]))
        for kind, x, y in zip(KINDS, pooled.split(sizes), batch["targets"].split(sizes), strict=True):
            states.append(x)
            targets.append(F.normalize(text.projection(x), dim=1) if kind in kept else y)
    of_kinds = [(weights or {}).get(kind, 1.0) for kind in KINDS] * batches
    text.projection.weight.copy_(solved(states, targets, of_kinds, ridge))


def new_clip(tokenizer: Tokenizer, image: dict[str, Tensor], hidden: int = 0) -> Clip:
    """The starter's architecture with the image tower of stage 2, frozen; `hidden` units beside its text projection."""
    dim, _ = image["projection.weight"].shape
    tower = ImageTowerConfig(head=HEAD, classes=len(image["mixture.logits.bias"]))
    text = TextTowerConfig(vocabulary=tokenizer.get_vocab_size(), projection_hidden=hidden)
    model = Clip(ClipConfig(dim, image=tower, text=text))
    model.image.load_state_dict(image)
    nn.init.constant_(model.log_scale, float(np.log(Weights.scale)))
    model.image.requires_grad_(False)
    model.log_scale.requires_grad_(False)
    return model


def text_state(folder: Path) -> dict[str, Tensor]:
    """Weights of the text tower of a run of stage 1 or 3, or of a model folder such as an earlier edition's."""
    if (folder / "checkpoint.pt").exists():
        state = torch.load(folder / "checkpoint.pt", weights_only=True)["model"]
        return {k.removeprefix("text."): v for k, v in state.items() if k.startswith("text.")}
    return load_clip(folder).text.state_dict()


def options(told: str) -> argparse.ArgumentParser:
    """Those of what stage 3 begins with, however it goes on."""
    parser = argparse.ArgumentParser(description=told, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--wordnet", type=Path, required=True, help="folder with data.noun and index.noun")
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--look", type=Path, required=True, help="run folder of stage 2")
    parser.add_argument("--leave-out", type=Path, help="WordNet ids, one a line, whose texts are not used")
    parser.add_argument("--out", type=Path, required=True)
    return parser


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = options(__doc__ or "")
    parser.add_argument("--pictures", type=Path, required=True, help="cache of recipes.clip.pictures")
    parser.add_argument("--scenes", type=Path, nargs="+", required=True, help="the same, of scenes")
    parser.add_argument("--translations", type=Path, required=True, help="of recipes.clip.translations")
    parser.add_argument("--init", type=Path, required=True, help="run folder of stage 1 or 3, or an earlier model")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scene", type=int, default=Weights.scene, help="scenes in a batch, 0 for none")
    parser.add_argument("--nouns-only", action="store_true", help="neither translations, names nor scenes")
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Train within the time given; `--out/final.pt` holds the whole Clip."""
    args = arguments()
    torch.manual_seed(0)
    left_out = look.read_ids(args.leave_out)
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    with np.load(args.teacher) as archive:
        offsets = [int(o) for o in archive["offsets"]]
    captions = Captions.read(args.wordnet, offsets, left_out)
    pictures = PictureSet.read(args.pictures, "train").without(captions.hidden)
    scenes = [PictureSet.read(folder, "train").without(captions.hidden) for folder in args.scenes]
    translations = Translations.read(args.translations).without(captions.hidden)
    place = Place.read(args.look)
    weights = NOUNS_ONLY if args.nouns_only else replace(Weights(), scene=args.scene)
    texts = Texts(place, captions, translations, pictures, scenes, weights)

    model = new_clip(tokenizer, place.image)
    model.text.load_state_dict(text_state(args.init))
    objective = Objective(model.text, tokenizer, texts, weights)
    if not args.resume:
        solve_projection(objective)
    loop = LoopConfig(steps=10**9, minutes=args.minutes, learning_rate=args.rate, log_every=50, optimizer="muon")
    for report in train(model, objective.batches(args.seed), objective, loop, args.out, args.resume):
        print(report, flush=True)
    steps = torch.load(args.out / "checkpoint.pt", weights_only=True)["step"]
    solve_projection(objective, weights=LAST_WEIGHTS, kept=LAST_KEPT)
    torch.save({"model": model.state_dict(), "step": steps}, args.out / FINAL)


if __name__ == "__main__":
    main()
