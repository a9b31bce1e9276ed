"""Stage 2: the image side learns where things stand in the shared space. No text tower takes part.

The frozen trunk's pooled feature, the mixture of classes and the nouns' targets are set in closed form or by a minute's
optimisation (`recipes.clip.targets`); gradient descent then trains on cached features

    the region head          (`models.regions`)
    a vector for each name   of a pictogram, clip-art picture or stamp (`recipes.clip.concepts`)
    the statement encoder    that stands for captions of scenes (`recipes.clip.statements`)

A picture competes for its name among all names, and a scene for its statement among others' and false ones. A step
costs half of one with sentences and shows ten times the pictures; stage 3 (`recipes.clip.train`) teaches the text tower
to put sentences where this stage put their meaning.

    python -m recipes.clip.look --wordnet FOLDER --teacher teacher.npz --minilm FOLDER --trunk LITE2.pth \\
        --pictures cache/pictures --scenes cache/scenes --photos cache/photos --minutes 20 --out runs/look
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.data.scene_captions import Statement
from bahumukha.data.scenes import Scene
from bahumukha.models.clip import ImageTower, ImageTowerConfig
from bahumukha.models.regions import RegionHead, colour_channels
from bahumukha.train.loop import LoopConfig, train
from bahumukha.zoo.pytorch import load_clip
from recipes.clip.captions import Captions
from recipes.clip.classes import class_offsets
from recipes.clip.concepts import Concepts
from recipes.clip.guess import guess_prototypes
from recipes.clip.pictures import PictureSet, name_of
from recipes.clip.shown import ShownScenes, in_anothers_style
from recipes.clip.statements import StatementEncoder, falsified, slip, statement_ids
from recipes.clip.targets import learn_targets
from recipes.clip.teacher import SentenceEncoder, read_teacher
from recipes.clip.texts import encode_batch
from recipes.clip.trunk import HEAD, class_vectors, classifier, mean_feature
from recipes.clip.wordnet import offset_of

FINAL = "look.pt"
"""File of a run: everything that stage 3 reads."""


SIDED = re.compile(r"\b(left|right|arrows?|flag|button|clock\w*|o.clock|keycap|map|letters?|numbers?)\b|[0-9]")
"""Names of pictures that are another thing, or nothing, in a mirror."""


@dataclass(frozen=True)
class Weights:
    """How many of each kind stand in a batch, and what each loss weighs."""

    picture: int = 160
    scene: int = 128
    photo: int = 24
    wrong: int = 8
    scale: float = 25.0
    silence: float = 4.0
    composed: float = 1.0


def new_tower(weights: Path, dim: int, left_out: set[int]) -> tuple[ImageTower, Tensor]:
    """The image tower before stage 2, its mixture's vectors not yet set, and the classes' prototypes (C, dim).

    The projection is the `dim` principal axes of the classifier's centred weight vectors, half whitened; the mixture
    asks for the classes by the same classifier's logits. Classes that are left out are not asked for.
    """
    source = classifier(weights)
    vectors, bias = class_vectors(source), source.get_parameter("classifier.bias").detach()
    shown = torch.tensor([offset not in left_out for offset in class_offsets()])
    tower = ImageTower(ImageTowerConfig(head=HEAD, classes=int(shown.sum())), dim)
    mean = mean_feature(source)
    source.reset_classifier(0)  # type: ignore[operator]
    tower.trunk.load_state_dict(source.state_dict())
    _, _, axes = torch.linalg.svd(vectors, full_matrices=False)
    assert tower.mixture is not None
    with torch.no_grad():
        along = vectors @ axes[:dim].T  # (1000, dim)
        spread = F.normalize(along, dim=1).std(0)
        tower.projection.weight.copy_(axes[:dim] / spread.sqrt()[:, None])
        tower.mean.copy_(mean)
        tower.mixture.logits.weight.copy_((along * spread.sqrt())[shown])
        tower.mixture.logits.bias.copy_((bias + vectors @ mean)[shown])
        prototypes = F.normalize(tower.projection(vectors), dim=1)
    for part in (tower.trunk, tower.projection, tower.mixture):
        part.requires_grad_(False)
    return tower, prototypes


@dataclass
class Known:
    """What is known before training: nouns (offsets) and their targets (N, dim)."""

    captions: Captions
    targets: Tensor

    def vectors(self, pictured: bool) -> dict[str, np.ndarray]:
        """Word -> target, of words whose meaning labelled pictures show (or do not)."""
        row, shown = self.captions.row, set(self.captions.kinds)
        return {w: self.targets[row[o]].numpy() for w, o in self.captions.word.items() if (o in shown) == pictured}


def know(
    tower: ImageTower,
    prototypes: Tensor,
    folder: Path,
    teacher: dict[str, np.ndarray],
    left_out: set[int],
) -> Known:
    """Learn the targets of classes and kinds, guess those of all other nouns, and set the mixture's vectors."""
    offsets = [int(o) for o in teacher["offsets"]]
    captions = Captions.read(folder, offsets, left_out)
    classes = class_offsets()
    seen = [i for i, c in enumerate(classes) if c not in left_out]
    members = torch.from_numpy(np.stack([captions.members[o] for o in captions.kinds]))[:, seen]
    vectors, learned = learn_targets(prototypes[seen], members)
    assert tower.mixture is not None
    with torch.no_grad():
        tower.mixture.vectors.weight.copy_(vectors.T)
    pictures = F.normalize(prototypes[seen] + vectors, dim=1)
    guesses = guess_prototypes(captions.wordnet, teacher, [classes[i] for i in seen], pictures.numpy())
    targets = torch.from_numpy(guesses)
    targets[[captions.row[o] for o in captions.kinds]] = learned
    return Known(captions, targets)


class Looking(nn.Module):
    """What stage 2 trains, beside the fixed targets."""

    def __init__(self, tower: ImageTower, concepts: Concepts, statements: StatementEncoder):
        super().__init__()
        self.image, self.statements = tower, statements
        self.names = nn.Parameter(torch.from_numpy(concepts.start))
        self.register_buffer("start", torch.from_numpy(concepts.start))
        self.register_buffer("fixed", torch.from_numpy(concepts.fixed))

    def table(self) -> Tensor:
        """Vectors of the names, (N, dim), rows of norm 1."""
        return F.normalize(torch.where(self.get_buffer("fixed")[:, None], self.get_buffer("start"), self.names), dim=1)


class Objective:
    """Batches of cached features, and their losses."""

    def __init__(
        self,
        model: Looking,
        names: list[str],
        pictures: PictureSet,
        scenes: ShownScenes,
        photos: PictureSet,
        weights: Weights,
        restyled: float = 0.0,
    ):
        self.restyled = restyled
        self.model, self.weights, self.photos, self.scenes = model, weights, photos, scenes
        self.row = {name: i for i, name in enumerate(names)}
        self.pictures = pictures
        self.rows = np.array([self.row[name_of(r)] for r in pictures.records])
        chance = np.array([4.0 if r["style"] == "photo" else 1.0 for r in pictures.records])
        self.chance = np.cumsum(chance / chance.sum())
        self.mirrors = np.array([not SIDED.search(name_of(r)) for r in pictures.records])
        self.kinds, self.styles = vocabulary(scenes.scenes)

    def batches(self, seed: int) -> Iterator[dict[str, Tensor]]:
        """Pictures, then scenes, then photographs."""
        rng = np.random.default_rng(seed)
        w = self.weights
        while True:
            shown = np.searchsorted(self.chance, rng.random(w.picture)).clip(max=len(self.rows) - 1)
            features, tokens = self.pictures.maps(shown.tolist())
            flips = (rng.random(w.picture) < 0.5) & self.mirrors[shown]
            tokens[flips] = tokens[flips][:, :, ::-1]
            if self.restyled:
                tokens = in_anothers_style(tokens, tokens.shape[-1] - colour_channels(HEAD.levels), rng, self.restyled)
            scenes = [self.scenes.draw(rng) for _ in range(w.scene)]
            photos = self.photos.maps(rng.integers(len(self.photos), size=w.photo).tolist())
            seen = [features, np.stack([each.feature for each in scenes]), photos[0]]
            regions = [tokens, np.stack([each.tokens for each in scenes]), photos[1]]
            yield {
                "rows": torch.from_numpy(self.rows[shown]),
                **self._statements([each.said for each in scenes], rng),
                "features": torch.from_numpy(np.concatenate(seen)),
                "tokens": torch.from_numpy(np.concatenate(regions)),
            }

    def _statements(self, true: list[Statement], rng: np.random.Generator) -> dict[str, Tensor]:
        wrong, of = [], []
        for place, said in enumerate(true):
            false = falsified(said, rng, self.weights.wrong, self.scenes.things)
            wrong += false
            of += [place] * len(false)
        return {"said": statement_ids(true + wrong, self.kinds, self.styles), "wrong_of": torch.tensor(of)}

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Batch -> losses by name."""
        w, image = self.weights, self.model.image
        assert image.head is not None
        with torch.no_grad():
            pooled = F.normalize(image.project(batch["features"]), dim=1)
        correction, gate = image.head.gated(batch["tokens"])
        images = F.normalize(pooled + gate * correction, dim=1)
        count, scenes = len(batch["rows"]), w.scene
        losses = {"picture": self._named(images[:count], batch["rows"])}
        losses |= self._composed(images[count : count + scenes], batch)
        moved = (gate * correction)[count + scenes :]
        losses["silence"] = moved.square().sum(1).mean()
        loss = losses["picture"] + w.composed * (losses["scene"] + losses["slip"]) + w.silence * losses["silence"]
        return {"loss": loss, **losses, "gate": gate[count + scenes :].mean().detach()}

    def _named(self, images: Tensor, rows: Tensor) -> Tensor:
        logits = exactly(self.weights.scale * images, self.model.table())  # (B, names)
        own, place = rows.unique(return_inverse=True)
        same = F.one_hot(place, len(own)).T.float()  # (own, B)
        found = -(same * logits[:, own].T.log_softmax(1)).sum(1) / same.sum(1)
        return (F.cross_entropy(logits, rows) + found.mean()) / 2

    def _composed(self, images: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        said = F.normalize(self.model.statements(batch["said"]), dim=1)
        logits = exactly(self.weights.scale * images, said)  # (S, S + wrong)
        true = torch.arange(len(images))
        of = batch["wrong_of"]
        place = 1 + torch.arange(len(of)) - torch.searchsorted(of, of)
        false = logits[of, len(images) + torch.arange(len(of))]
        both = (F.cross_entropy(logits, true) + F.cross_entropy(logits[:, : len(images)].T, true)) / 2
        return {"scene": both, "slip": slip(logits[true, true], false, of, place)}


def exactly(a: Tensor, b: Tensor) -> Tensor:
    """(N, dim), (M, dim) -> products of all pairs (N, M), in float32: in bfloat16 a wrong colour is a rounding away."""
    with torch.autocast(a.device.type, enabled=False):
        return a.float() @ b.float().T


def vocabulary(scenes: list[Scene]) -> tuple[dict[str, int], list[str]]:
    """Kinds of things by key, and styles, of all scenes; in a fixed order."""
    keys = sorted({each.key for scene in scenes for each in scene.objects})
    return {key: i for i, key in enumerate(keys)}, sorted({each.style for scene in scenes for each in scene.objects})


def begin_from(folder: Path, tower: ImageTower, concepts: Concepts) -> Concepts:
    """Start where an earlier edition, a model folder, ended: its region head, and its texts' places for free names.

    Numbers of a token that its head did not have begin at zero, and mixers that it did not have change nothing.
    """
    earlier = load_clip(folder)
    theirs, head = earlier.image.head, tower.head  # type: ignore[union-attr]
    assert isinstance(theirs, RegionHead) and head is not None
    had = theirs.token.weight.shape[1]
    state = theirs.state_dict()
    with torch.no_grad():
        weight = torch.zeros_like(head.token.weight)
        weight[:, :had] = theirs.token.weight * head.deviation[:had] / theirs.deviation
        moved = (head.mean[:had] - theirs.mean) / theirs.deviation
        state |= {"token.weight": weight, "token.bias": theirs.token.bias + theirs.token.weight @ moved}
        new = {key: value for key, value in head.state_dict().items() if key.startswith("mixers.")}
        head.load_state_dict(new | state | {"mean": head.mean, "deviation": head.deviation})
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    start = concepts.start.copy()
    free = np.flatnonzero(~concepts.fixed)
    for part in np.array_split(free, max(1, len(free) // 256)):
        ids, mask = encode_batch(tokenizer, [concepts.names[i] for i in part], limit=36)
        texts = earlier.encode_text(torch.from_numpy(ids), torch.from_numpy(mask), normalize=True)
        start[part] = texts.numpy()
    return replace(concepts, start=start)


def read_ids(file: Path | None) -> set[int]:
    """WordNet ids, one a line -> offsets."""
    return {offset_of(wnid) for wnid in file.read_text().split()} if file else set()


def main() -> None:
    """Train within the time given; `--out/look.pt` holds the tower, the tables and the statement encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--wordnet", type=Path, required=True, help="folder with data.noun and index.noun")
    for name in ("teacher", "minilm", "trunk", "pictures", "photos"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--scenes", type=Path, nargs="+", required=True)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--start", type=Path, help="model folder of an earlier edition, for its head and its names")
    parser.add_argument("--init", type=Path, help="run folder of an earlier stage 2 to go on from")
    parser.add_argument("--head-only", action="store_true", help="names and statements stay where they are")
    parser.add_argument("--leave-out", type=Path, help="WordNet ids, one a line, whose words are not used")
    parser.add_argument("--restyled", type=float, default=0.0, help="part of the pictures shown in another's style")
    parser.add_argument("--seed", type=int, default=0, help="of the batches")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    torch.manual_seed(0)
    left_out = read_ids(args.leave_out)
    teacher = read_teacher(args.teacher)
    tower, prototypes = new_tower(args.trunk, args.dim, left_out)
    known = know(tower, prototypes, args.wordnet, teacher, left_out)
    hidden = known.captions.hidden
    pictures = PictureSet.read(args.pictures, "train").without(hidden)
    scenes = [PictureSet.read(folder, "train").without(hidden) for folder in args.scenes]
    photos = PictureSet.read(args.photos, "train")
    names = {name_of(r) for r in pictures.records}
    concepts = Concepts.place(names, known.vectors(True), known.vectors(False), SentenceEncoder(args.minilm))
    print(f"{len(concepts.names)} names, {concepts.fixed.sum()} of them known", flush=True)

    shown = ShownScenes(scenes)
    kinds, styles = vocabulary(shown.scenes)
    assert tower.head is not None
    sets = [pictures, *scenes]
    measured = [torch.from_numpy(each.maps(list(range(0, len(each), 20)))[1]).flatten(0, 2) for each in sets]
    tower.head.standardise(torch.cat(measured)[:, None, None])
    if args.start:
        concepts = begin_from(args.start, tower, concepts)
    model = Looking(tower, concepts, StatementEncoder(len(kinds), len(styles), args.dim))
    if args.init:
        model.load_state_dict(torch.load(args.init / FINAL, weights_only=True)["model"])
    if args.head_only:
        model.names.requires_grad_(False)
        model.statements.requires_grad_(False)
    objective = Objective(model, concepts.names, pictures, shown, photos, Weights(), args.restyled)
    loop = LoopConfig(steps=10**9, minutes=args.minutes, learning_rate=args.rate, log_every=50, optimizer="muon")
    for report in train(model, objective.batches(args.seed), objective, loop, args.out):
        print(report, flush=True)
    torch.save(
        {
            "model": model.state_dict(),
            "names": concepts.names,
            "kinds": kinds,
            "styles": styles,
            "targets": known.targets,
        },
        args.out / FINAL,
    )


if __name__ == "__main__":
    main()
