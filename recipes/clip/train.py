"""Stage 2: the contrastive training of the starter CLIP, on a frozen trunk's cached features.

A batch of sentences holds

    class        a word, synonym or gloss of one of the 1,000 ImageNet classes, with that class's prototype
    coarse       a word of a hypernym ("dog", "vehicle"), with the prototypes of everything under it
    noun         any other physical noun of WordNet, with the vector that `guess` gives it (no picture)
    translation  a text of another language, with the vector that the tower itself has for the English
    picture      the caption, in any language, of a stamp, clip-art picture or pictogram, with its cached features
    scene        captions of a composed scene, one true and some with one thing wrong, with its cached features

The prototypes are the classifier's weight vectors, centred: on photographs they classify by cosine as well as the
classifier itself. The image tower's projection is their principal axes, frozen, each divided by the square root of the
prototypes' spread along it: so the few axes that tell animals from things do not drown the rest. A coarse word aims at
the vector that best tells its kinds from all other classes (`coarse_targets`), which ranks photographs better than
their mean. The text tower's last matrix is solved for before gradient descent (`solve_projection`).

The region head (`models.regions`) is trained on pictures and scenes, and to stay silent on photographs, where the
pooled feature is what the prototypes live in.

`guess` carries the 1,000 prototypes over to nouns that no picture was labelled with: a kernel ridge regression from the
classes that are near in the dictionary (name, definition, taxonomy); see `recipes.clip.guess`.

    python -m recipes.clip.train --init runs/text --out runs/clip --minutes 40 …
    … --leave-out ids.txt     no caption of these classes is used anywhere: how well are unseen words guessed?
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from bahumukha.models.clip import Clip, ClipConfig, ImageTower, ImageTowerConfig, TextTowerConfig
from bahumukha.models.contrastive import contrastive_loss
from bahumukha.models.regions import RegionHeadConfig
from bahumukha.train.loop import LoopConfig, train
from recipes.clip.captions import Captions, coarse_targets
from recipes.clip.classes import class_offsets
from recipes.clip.guess import guess_prototypes
from recipes.clip.pictures import PictureSet
from recipes.clip.shown import CaptionedPictures, ComposedScenes
from recipes.clip.texts import by_length, encode_batch, sense_ranks, word_counts
from recipes.clip.translations import Translations
from recipes.clip.trunk import class_vectors, classifier, mean_feature
from recipes.clip.wordnet import WordNet, offset_of

LEFT_OUT, FINAL = "left_out.txt", "final.pt"
"""Files of a run: the ids given with --leave-out, and the trained model, which `export` reads."""
LIMIT = 36
"""Most tokens of a sentence in training."""
REFRESH = 120
"""Steps after which the vectors that translations aim at are taken from the tower anew."""


@dataclass(frozen=True)
class Weights:
    """How many of each kind stand in a batch, and what each loss weighs."""

    classes: int = 208
    coarse: int = 96
    noun: int = 48
    translation: int = 192
    picture: int = 64
    scene: int = 16
    wrong: int = 2
    photo: int = 32
    align: float = 3.0
    contrast: float = 0.6
    translate: float = 3.0
    shown: float = 0.5
    composed: float = 0.5
    silence: float = 4.0


class Sources:
    """Everything that batches are drawn from besides the nouns; each may be missing."""

    def __init__(
        self,
        pictures: PictureSet | None = None,
        scenes: PictureSet | None = None,
        photos: PictureSet | None = None,
        translations: Translations | None = None,
    ):
        self.pictures = CaptionedPictures(pictures) if pictures else None
        self.scenes = ComposedScenes(scenes) if scenes else None
        self.photos, self.translations = photos, translations

    def draw(self, weights: Weights, rng: np.random.Generator) -> tuple[list[str], dict[str, Tensor]]:
        """Sentences in the order translations, captions of pictures, of scenes, wrong ones; and their tensors."""
        texts: list[str] = []
        batch: dict[str, Tensor] = {}
        if self.translations is not None:
            said = self.translations.draw(weights.translation, rng)
            texts += [self.translations.texts[i] for i in said]
            batch["english"] = torch.from_numpy(self.translations.row[said])
        maps = []
        if self.pictures is not None:
            shown = self.pictures.draw(weights.picture, rng)
            maps.append(self.pictures.pictures.maps(shown.rows))
            texts += shown.texts
            batch["same_picture"] = same(shown.keys)
        if self.scenes is not None:
            shown = self.scenes.draw(weights.scene, rng)
            maps.append(self.scenes.scenes.maps(shown.rows))
            texts += shown.texts
            wrong = [
                (i, text) for i, row in enumerate(shown.rows) for text in self.scenes.wrong(row, rng, weights.wrong)
            ]
            texts += [text for _, text in wrong]
            batch["same_scene"] = same(shown.keys)
            batch["wrong_of"] = torch.tensor([i for i, _ in wrong], dtype=torch.long)
        if self.photos is not None:
            maps.append(self.photos.maps(rng.integers(len(self.photos), size=weights.photo).tolist()))
        if maps:
            features, tokens = zip(*maps, strict=True)
            batch["features"] = torch.from_numpy(np.concatenate(features))
            batch["tokens"] = torch.from_numpy(np.concatenate(tokens))
        return texts, batch


def same(keys: list[str]) -> Tensor:
    """N keys -> bool (N, N), True where two are equal."""
    return torch.tensor(np.array(keys)[:, None] == np.array(keys)[None])


class Objective:
    """The losses of one batch, on a frozen trunk.

    Every sentence of a noun aims at its noun's target (cosine); classes and coarse words also compete for the
    prototypes, and captions for their pictures (contrastive).
    """

    def __init__(
        self,
        model: Clip,
        tokenizer: Tokenizer,
        captions: Captions,
        sources: Sources,
        prototypes: Tensor,
        guesses: Tensor,
        weights: Weights,
    ):
        self.model, self.tokenizer, self.captions, self.sources, self.weights = (
            model,
            tokenizer,
            captions,
            sources,
            weights,
        )
        assert isinstance(model.image, ImageTower)
        self.image = model.image
        with torch.no_grad():
            self.classes = F.normalize(self.image.projection(prototypes), dim=1)  # (1000, dim)
            self.targets = F.normalize(self.image.projection(guesses), dim=1)  # (nouns, dim), exact for classes
        self.shown = torch.tensor([c in captions.members for c in captions.classes])
        coarse = [o for o, members in captions.members.items() if members.sum() > 1]
        members = torch.from_numpy(np.stack([captions.members[o] for o in coarse]))[:, self.shown]
        self.targets[[captions.row[o] for o in coarse]] = coarse_targets(members, self.classes[self.shown])
        self.english: Tensor | None = None
        self.steps = 0

    def batches(self, seed: int, nouns_only: bool = False) -> Iterator[dict[str, Tensor]]:
        """Class, coarse and noun sentences first, then those of the sources."""
        rng = np.random.default_rng(seed)
        w = self.weights
        while True:
            texts, offsets = self.captions.draw("class", w.classes, rng)
            coarse, coarse_offsets = self.captions.draw("coarse", w.coarse, rng)
            other, other_offsets = self.captions.draw("noun", w.noun, rng)
            more, batch = ([], {}) if nouns_only else self.sources.draw(w, rng)
            ids, mask = encode_batch(self.tokenizer, texts + coarse + other + more, limit=LIMIT)
            known = [int(o) for o in (*offsets, *coarse_offsets)]
            nouns_ = known + [int(o) for o in other_offsets]
            yield batch | {
                "ids": torch.from_numpy(ids),
                "mask": torch.from_numpy(mask),
                "rows": torch.tensor([self.captions.row[o] for o in nouns_]),
                "members": torch.from_numpy(np.stack([self.captions.members[o] for o in known])),
            }

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Batch -> losses by name."""
        w = self.weights
        if self.sources.translations is not None and self.steps % REFRESH == 0:
            self._take_english(self.sources.translations)
        self.steps += 1
        texts = F.normalize(by_length(self.model.text, batch["ids"], batch["mask"], groups=8), dim=1)
        scale = self.model.logit_scale
        losses, at = self._nouns(batch, texts, scale)
        loss = w.align * (losses["known"] + losses["noun"]) + w.contrast * losses["contrast"]
        if self.english is not None:
            said = len(batch["english"])
            losses["translation"] = 1 - (texts[at : at + said] * self.english[batch["english"]]).sum(1).mean()
            loss = loss + w.translate * losses["translation"]
            at += said
        if "features" in batch:
            shown = self._shown(batch, texts[at:], scale)
            losses |= shown
            loss = loss + w.shown * shown.get("picture", 0) + w.composed * shown.get("scene", 0)
            loss = loss + w.silence * shown.get("silence", 0)
        return {"loss": loss, **losses, "scale": scale}

    def _nouns(self, batch: dict[str, Tensor], texts: Tensor, scale: Tensor) -> tuple[dict[str, Tensor], int]:
        known, nouns_ = len(batch["members"]), len(batch["rows"])
        distance = 1 - (texts[:nouns_] * self.targets[batch["rows"]]).sum(1)
        contrast = contrastive_loss(self.classes[self.shown], texts[:known], scale, batch["members"].T[self.shown])
        return {"known": distance[:known].mean(), "noun": distance[known:].mean(), "contrast": contrast}, nouns_

    def _shown(self, batch: dict[str, Tensor], texts: Tensor, scale: Tensor) -> dict[str, Tensor]:
        """Pictures against their captions, scenes against theirs and the wrong ones, photographs left alone."""
        assert self.image.head is not None
        with torch.no_grad():
            pooled = F.normalize(self.image.project(batch["features"]), dim=1)
        correction, gate = self.image.head.gated(batch["tokens"])
        images = F.normalize(pooled + gate * correction, dim=1)
        pictures = len(batch.get("same_picture", ()))
        scenes = len(batch.get("same_scene", ()))
        losses = {}
        if pictures:
            losses["picture"] = contrastive_loss(images[:pictures], texts[:pictures], scale, batch["same_picture"])
        if scenes:
            own = images[pictures : pictures + scenes]
            positives = F.pad(batch["same_scene"], (0, len(texts) - pictures - scenes))
            losses["scene"] = contrastive_loss(own, texts[pictures:], scale, positives)
            losses["slip"] = self._slip(own, texts[pictures:], batch["wrong_of"], scale)
            losses["scene"] = losses["scene"] + losses["slip"]
        if len(images) > pictures + scenes:
            moved = gate[pictures + scenes :] * correction[pictures + scenes :]
            losses["silence"] = moved.square().sum(1).mean()
            losses["gate"] = gate[pictures + scenes :].mean().detach()
        return losses

    @staticmethod
    def _slip(scenes: Tensor, texts: Tensor, wrong_of: Tensor, scale: Tensor) -> Tensor:
        """Each wrong caption against the true one of the same scene: -log P(true) of the two."""
        true = (scenes[wrong_of] * texts[: len(scenes)][wrong_of]).sum(1)
        wrong = (scenes[wrong_of] * texts[len(scenes) :]).sum(1)
        return F.softplus(scale * (wrong - true)).mean()

    @torch.no_grad()
    def _take_english(self, translations: Translations) -> None:
        """What translations aim at: the tower's own vectors of the English texts, as they are now."""
        rows = []
        for start in range(0, len(translations.english), 1024):
            ids, mask = encode_batch(self.tokenizer, translations.english[start : start + 1024], limit=LIMIT)
            rows.append(by_length(self.model.text, torch.from_numpy(ids), torch.from_numpy(mask), groups=8))
        self.english = F.normalize(torch.cat(rows), dim=1)


def new_model(tokenizer: Tokenizer, weights: Path, dim: int) -> tuple[Clip, Tensor]:
    """The model before stage 2, and the 1,000 centred class vectors (1000, width).

    The projection is the `dim` principal axes of the class vectors, half whitened; the trunk is frozen.
    """
    source = classifier(weights)
    prototypes = class_vectors(source)
    model = Clip(clip_config(tokenizer, dim))
    assert isinstance(model.image, ImageTower)
    mean = mean_feature(source)
    source.reset_classifier(0)  # type: ignore[operator]
    model.image.trunk.load_state_dict(source.state_dict())
    _, _, axes = torch.linalg.svd(prototypes, full_matrices=False)
    with torch.no_grad():
        spread = F.normalize(prototypes @ axes[:dim].T, dim=1).std(0)
        model.image.projection.weight.copy_(axes[:dim] / spread.sqrt()[:, None])
        model.image.mean.copy_(mean)
    for part in (model.image.trunk, model.image.projection):
        part.requires_grad_(False)
    return model, prototypes


def clip_config(tokenizer: Tokenizer, dim: int) -> ClipConfig:
    """The architecture of the starter."""
    image = ImageTowerConfig(head=RegionHeadConfig())
    return ClipConfig(dim, image=image, text=TextTowerConfig(vocabulary=tokenizer.get_vocab_size()))


def start_from(model: Clip, init: Path) -> bool:
    """Take the text tower of stage 1 (then True: its projection has still to be learned), or all of an earlier run."""
    state = torch.load(init / "checkpoint.pt", weights_only=True)["model"]
    if "log_scale" in state:
        model.load_state_dict(state)
        return False
    model.text.load_state_dict({k.removeprefix("text."): v for k, v in state.items() if k.startswith("text.")})
    return True


SOLVE_WEIGHTS = (1.0, 2.0, 0.5)
"""Of class, coarse and noun sentences in `solve_projection`."""


@torch.no_grad()
def solve_projection(objective: Objective, batches: int = 30, ridge: float = 5.0, keep: float = 0.0) -> None:
    """Set the text projection to the ridge regression from the tower's pooled states to the nouns' targets.

    Before training it saves the first hundred steps, since stage 1 already laid alike words near each other. After it,
    with `keep` above 0, all other sentences take part with this weight and aim at where they are: what gradient descent
    left some way off is brought nearer, and captions stay at their pictures.
    """
    w, text = objective.weights, objective.model.text.eval()
    drawn = objective.batches(seed=1, nouns_only=not keep)
    width, dim = text.projection.in_features, text.projection.out_features
    gram, moment = ridge * torch.eye(width), torch.zeros(width, dim)
    for _ in range(batches):
        batch = next(drawn)
        x = by_length(text.pooled, batch["ids"], batch["mask"], groups=8)
        others = len(x) - len(batch["rows"])
        y = torch.cat([objective.targets[batch["rows"]], F.normalize(text.projection(x[len(x) - others :]), dim=1)])
        counts = zip((w.classes, w.coarse, w.noun, others), (*SOLVE_WEIGHTS, keep), strict=True)
        weights = torch.cat([torch.full((n,), weight) for n, weight in counts])
        gram += x.T @ (weights[:, None] * x)
        moment += x.T @ (weights[:, None] * y)
    text.projection.weight.copy_(torch.linalg.solve(gram, moment).T)


def read_ids(file: Path) -> set[int]:
    """WordNet ids, one a line -> offsets; a file that is not there holds none."""
    return {offset_of(wnid) for wnid in file.read_text().split()} if file.exists() else set()


def read_sources(args: argparse.Namespace, hidden: set[str]) -> Sources:
    """What the options name, without whatever has one of the `hidden` words in an English caption."""

    def read(folder: Path | None) -> PictureSet | None:
        return PictureSet.read(folder, "train").without(hidden) if folder else None

    translations = Translations.read(args.translations).without(hidden) if args.translations else None
    return Sources(read(args.pictures), read(args.scenes), read(args.photos), translations)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--wordnet", type=Path, required=True, help="folder with data.noun and index.noun")
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--trunk", type=Path, required=True, help="efficientnet-lite2-….pth")
    for name in ("pictures", "scenes", "photos"):
        parser.add_argument(f"--{name}", type=Path, help="cache of recipes.clip.pictures")
    parser.add_argument("--translations", type=Path, help="of recipes.clip.translations")
    parser.add_argument("--init", type=Path, required=True, help="run folder of stage 1, or of an earlier stage 2")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rate", type=float, default=6e-4)
    parser.add_argument("--refit", type=float, default=0.0, help="weight of the other sentences in a last solve")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--leave-out", type=Path, help="WordNet ids, one a line, whose captions are not used")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    """Train within the time given; `--out/checkpoint.pt` holds the whole Clip."""
    args = arguments()
    torch.manual_seed(0)
    wordnet = WordNet.read(args.wordnet / "data.noun")
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    with np.load(args.teacher) as archive:
        teacher = {name: archive[name] for name in archive.files}
    left_out = read_ids(args.leave_out) if args.leave_out else set()

    model, prototypes = new_model(tokenizer, args.trunk, args.dim)
    unsolved = start_from(model, args.init)
    if not unsolved and left_out - read_ids(args.init / LEFT_OUT):
        raise SystemExit(f"--init {args.init}: that stage 2 has seen some of the classes to leave out")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / LEFT_OUT).write_text(args.leave_out.read_text() if args.leave_out else "")
    classes = class_offsets()
    shown = [i for i, c in enumerate(classes) if c not in left_out]
    guesses = guess_prototypes(wordnet, teacher, [classes[i] for i in shown], prototypes[shown].numpy())
    offsets = [int(o) for o in teacher["offsets"]]
    ranks, counts = sense_ranks(args.wordnet / "index.noun"), word_counts(args.wordnet / "cntlist.rev")
    captions = Captions(wordnet, ranks, counts, offsets, left_out)
    sources = read_sources(args, captions.hidden)
    objective = Objective(model, tokenizer, captions, sources, prototypes, torch.from_numpy(guesses), Weights())
    if sources.pictures is not None and model.image.head is not None and unsolved:
        sets = [part for part in (sources.pictures.pictures, args.scenes and sources.scenes.scenes) if part]
        tokens = [torch.from_numpy(each.maps(list(range(0, len(each), 20)))[1]).flatten(0, 2) for each in sets]
        model.image.head.standardise(torch.cat(tokens)[:, None, None])
    if unsolved:
        solve_projection(objective)
    warmup = 100 if unsolved else 20
    loop = LoopConfig(steps=10**9, minutes=args.minutes, learning_rate=args.rate, warmup_steps=warmup, log_every=25)
    rates = {name: 1.5 for name, _ in model.named_parameters() if name.startswith("image.head")}
    for report in train(model, objective.batches(seed=args.seed), objective, loop, args.out, args.resume, rates=rates):
        print(report, flush=True)
    state = torch.load(args.out / "checkpoint.pt", weights_only=True)
    if args.refit:
        solve_projection(objective, batches=40, keep=args.refit)
    torch.save({"model": model.state_dict(), "step": state["step"]}, args.out / FINAL)


if __name__ == "__main__":
    main()
