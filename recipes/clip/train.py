"""Stage 2: the contrastive training of the starter CLIP, on a frozen trunk's cached features.

Four kinds of pairs fill a batch of sentences:

    class      a word, synonym or gloss of one of the 1,000 ImageNet classes, with that class's prototype
    coarse     a word of a hypernym ("dog", "vehicle"), with the prototypes of everything under it
    picture    the caption of a stamp, clip-art picture or pictogram, with that picture's cached features
    noun       any other physical noun of WordNet, with the vector that `guess` gives it (no picture)

The prototypes are the classifier's weight vectors, centred: on photographs they classify by cosine as well as the
classifier itself. The image tower's projection is their principal axes, frozen, each divided by the square root of the
prototypes' spread along it: so the few axes that tell animals from things do not drown the rest. A coarse word aims at
the vector that best tells its kinds from all other classes (`coarse_targets`), which ranks photographs better than
their mean. The text tower's last matrix is solved for, before and after gradient descent (`solve_projection`).

`guess` carries the 1,000 prototypes over to nouns that no picture was labelled with: a kernel ridge regression from the
classes that are near in the dictionary (name, definition, taxonomy); see `recipes.clip.guess`.

    python -m recipes.clip.train --init runs/text --out runs/clip --minutes 20 …
    … --leave-out ids.txt     no caption of these classes is used anywhere: how well are unseen words guessed?
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from bahumukha.evaluate.imagenet import class_names
from bahumukha.models.clip import Clip, ClipConfig, TextTowerConfig, contrastive_loss
from bahumukha.train.loop import LoopConfig, train
from recipes.clip.classes import class_offsets
from recipes.clip.guess import guess_prototypes
from recipes.clip.pictures import PictureSet
from recipes.clip.texts import Noun, by_length, encode_batch, nouns, phrase, sense_ranks, word_counts
from recipes.clip.trunk import class_vectors, classifier, mean_feature
from recipes.clip.wordnet import WordNet, offset_of

LEFT_OUT, FINAL = "left_out.txt", "final.pt"
"""Files of a run: the ids given with --leave-out, and the model with its last projection, which `export` reads."""


@dataclass(frozen=True)
class Weights:
    """How many of each kind stand in a batch, and what each loss weighs."""

    classes: int = 160
    coarse: int = 144
    noun: int = 112
    picture: int = 96
    align: float = 4.0
    contrast: float = 0.25


class Captions:
    """Draws sentences of the four kinds. `left_out` holds offsets of classes whose captions must not appear."""

    def __init__(
        self,
        wordnet: WordNet,
        ranks: dict[tuple[str, int], int],
        counts: dict[tuple[str, int], int],
        offsets: list[int],
        pictures: PictureSet | None,
        left_out: set[int],
    ):
        self.classes = class_offsets()
        self.hidden = words_of(wordnet, left_out)
        self.row = {o: i for i, o in enumerate(offsets)}
        self.wordnet = wordnet
        self.pictures = pictures.without(self.hidden) if pictures else None
        shown = [c for c in self.classes if c not in left_out]
        above = set().union(*(wordnet.ancestors(c) for c in shown)) & set(offsets) - set(shown)
        self.members = {o: np.isin(self.classes, [shown[i] for i in wordnet.classes_under(o, shown)]) for o in above}
        self.members |= {c: np.array([k == c for k in self.classes]) for c in shown}
        self.class_nouns = self._with_given_names(shown, self._visible(nouns(wordnet, ranks, shown)))
        coarse = self._visible(nouns(wordnet, ranks, sorted(above)))
        self.coarse_nouns = [n for n in coarse if self.members[n.offset].sum() <= 500]
        others = [o for o in offsets if o not in self.members and o not in left_out]
        self.other_nouns = self._visible(nouns(wordnet, ranks, others))
        near = {k for c in self.classes for p in wordnet[c].hypernyms for k in wordnet.hyponyms.get(p, [])}
        near |= {k for c in self.classes for k in wordnet.hyponyms.get(c, [])}
        self.chance = {
            "class": _chance([n.weight for n in self.class_nouns]),
            "coarse": _chance(  # "tool" and "bird" are asked for more often than "ungulate"
                [
                    n.weight * (1 + np.log2(1 + counts.get((n.word, ranks.get((n.word, n.offset), -1)), 0)))
                    for n in self.coarse_nouns
                ]
            ),
            "noun": _chance([n.weight * (6 if n.offset in near else 1) for n in self.other_nouns]),
        }

    def _visible(self, found: Iterable[Noun]) -> list[Noun]:
        """Without the words that are left out, in whatever meaning."""
        return [n for n in found if n.word not in self.hidden]

    def _gloss(self, offset: int) -> str | None:
        """The gloss, unless it speaks of a class that is left out."""
        gloss = self.wordnet[offset].gloss
        if self.hidden and any(
            re.search(rf"\b{re.escape(w)}s?\b", gloss, re.I) for w in self.hidden if w in gloss.lower()
        ):
            return None
        return gloss

    def _with_given_names(self, shown: list[int], synonyms: list[Noun]) -> list[Noun]:
        """The fixed list's names count as much as all synonyms together: they are what is asked most."""
        given = dict(zip(self.classes, (name for _, name in class_names()), strict=True))
        total = {c: sum(n.weight for n in synonyms if n.offset == c) for c in shown}
        named = [Noun(given[c].lower(), c, 1.5) for c in shown]
        return named + [Noun(n.word, n.offset, 1.0 * n.weight / total[n.offset]) for n in synonyms]

    def draw(self, kind: str, count: int, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
        """Sentences of a kind and the offsets that they speak of."""
        entries = {"class": self.class_nouns, "coarse": self.coarse_nouns, "noun": self.other_nouns}[kind]
        picked = [entries[i] for i in np.searchsorted(self.chance[kind], rng.random(count))]
        texts = [self._sentence(n, rng) for n in picked]
        return texts, np.array([n.offset for n in picked])

    def _sentence(self, noun: Noun, rng: np.random.Generator) -> str:
        chance = rng.random()
        if chance < 0.15 and (gloss := self._gloss(noun.offset)):
            return gloss if chance < 0.1 else f"{noun.word}, {gloss}"
        if chance < 0.5:
            return noun.word if rng.random() < 0.5 else f"a photo of a {noun.word}"
        return phrase(noun.word, rng)


def coarse_targets(members: Tensor, classes: Tensor, scale: float = 20.0, noise: float = 1.0) -> Tensor:
    """For each row of members (M, C), the unit vector (M, dim) that ranks the member classes first.

    Gradient ascent on the log-probability of the members among all classes (C, dim), which are shaken by noise of this
    norm at each step, as photographs scatter around their class.
    """
    weights = members.float() / members.sum(1, keepdim=True)
    queries = F.normalize(weights @ classes, dim=1).requires_grad_(True)
    optimizer = torch.optim.Adam([queries], lr=0.02)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        shaken = classes + noise * torch.randn(classes.shape, generator=generator) / classes.shape[1] ** 0.5
        logits = scale * F.normalize(queries, dim=1) @ F.normalize(shaken, dim=1).T
        loss = -(weights * logits.log_softmax(1)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return F.normalize(queries.detach(), dim=1)


def _chance(weights: list[float]) -> np.ndarray:
    return np.cumsum(np.array(weights) / np.sum(weights))


def words_of(wordnet: WordNet, offsets: set[int]) -> set[str]:
    """Every word of these synsets and the fixed list's names of them, in lower case."""
    given = {o: name.lower() for o, (_, name) in zip(class_offsets(), class_names(), strict=True)}
    words = {lemma.lower() for o in offsets for lemma in wordnet[o].lemmas}
    return words | {given[o] for o in offsets if o in given}


class Objective:
    """The losses of one batch, on a frozen image tower.

    Every sentence of a noun aims at its noun's target (cosine); classes and coarse words also compete for the
    prototypes, and captions for their pictures (contrastive).
    """

    def __init__(self, model: Clip, captions: Captions, prototypes: Tensor, guesses: Tensor, weights: Weights):
        self.model, self.captions, self.weights = model, captions, weights
        with torch.no_grad():
            self.classes = F.normalize(model.image.projection(prototypes), dim=1)  # (1000, dim)
            self.targets = F.normalize(model.image.projection(guesses), dim=1)  # (nouns, dim), exact for classes
        self.shown = torch.tensor([c in captions.members for c in captions.classes])
        coarse = [o for o, members in captions.members.items() if members.sum() > 1]
        members = torch.from_numpy(np.stack([captions.members[o] for o in coarse]))[:, self.shown]
        self.targets[[captions.row[o] for o in coarse]] = coarse_targets(members, self.classes[self.shown])

    def batches(self, tokenizer: Tokenizer, seed: int) -> Iterator[dict[str, Tensor]]:
        """Class, coarse and noun sentences first, then the pictures' captions, if there are pictures."""
        rng = np.random.default_rng(seed)
        w, pictures = self.weights, self.captions.pictures
        while True:
            texts, offsets = self.captions.draw("class", w.classes, rng)
            coarse, coarse_offsets = self.captions.draw("coarse", w.coarse, rng)
            other, other_offsets = self.captions.draw("noun", w.noun, rng)
            batch: dict[str, Tensor] = {}
            captions: list[str] = []
            if pictures is not None:
                features, captions, keys = pictures.draw(w.picture, rng)
                batch["features"] = torch.from_numpy(features)
                batch["same"] = torch.from_numpy(keys[:, None] == keys[None])
            ids, mask = encode_batch(tokenizer, texts + coarse + other + captions, limit=32)
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
        texts = F.normalize(by_length(self.model.text, batch["ids"], batch["mask"]), dim=1)
        known, nouns_ = len(batch["members"]), len(batch["rows"])
        distance = 1 - (texts[:nouns_] * self.targets[batch["rows"]]).sum(1)
        scale = self.model.logit_scale
        contrast = contrastive_loss(self.classes[self.shown], texts[:known], scale, batch["members"].T[self.shown])
        losses = {"known": distance[:known].mean(), "noun": distance[known:].mean(), "contrast": contrast}
        loss = w.align * (losses["known"] + losses["noun"]) + w.contrast * contrast
        if "features" in batch:
            pictures = F.normalize(self.model.image.project(batch["features"]), dim=1)
            losses["picture"] = contrastive_loss(pictures, texts[nouns_:], scale, batch["same"])
            loss = loss + w.contrast * losses["picture"]
        return {"loss": loss, **losses, "scale": scale}


def new_model(tokenizer: Tokenizer, weights: Path, dim: int) -> tuple[Clip, Tensor]:
    """The model before stage 2, and the 1,000 centred class vectors (1000, width).

    The projection is the `dim` principal axes of the class vectors, half whitened; the trunk is frozen.
    """
    source = classifier(weights)
    prototypes = class_vectors(source)
    model = Clip(ClipConfig(dim, text=TextTowerConfig(vocabulary=tokenizer.get_vocab_size())))
    mean = mean_feature(source)
    source.reset_classifier(0)
    model.image.trunk.load_state_dict(source.state_dict())
    _, _, axes = torch.linalg.svd(prototypes, full_matrices=False)
    with torch.no_grad():
        spread = F.normalize(prototypes @ axes[:dim].T, dim=1).std(0)
        model.image.projection.weight.copy_(axes[:dim] / spread.sqrt()[:, None])
        model.image.mean.copy_(mean)
    model.image.requires_grad_(False)
    return model, prototypes


def start_text(model: Clip, init: Path) -> bool:
    """Take the text tower of stage 1, or of an earlier stage 2; True if its projection has still to be learned."""
    state = torch.load(init / "checkpoint.pt", weights_only=True)["model"]
    model.text.load_state_dict({k.removeprefix("text."): v for k, v in state.items() if k.startswith("text.")})
    return "log_scale" not in state


SOLVE_WEIGHTS = (1.0, 2.0, 0.5, 0.5)
"""Of class, coarse and noun sentences and of captions, in `solve_projection`."""


@torch.no_grad()
def solve_projection(objective: Objective, tokenizer: Tokenizer, batches: int = 30, ridge: float = 5.0) -> None:
    """Set the text projection to the ridge regression from the tower's pooled states to the sentences' targets.

    Before training it saves the first hundred steps, since stage 1 already laid alike words near each other; after
    it, it brings what gradient descent left some way off to the best that this tower can do.
    """
    model, w = objective.model, objective.weights
    text = model.text.eval()
    drawn = objective.batches(tokenizer, seed=1)
    width, dim = text.projection.in_features, text.projection.out_features
    gram, moment = ridge * torch.eye(width), torch.zeros(width, dim)
    for _ in range(batches):
        batch = next(drawn)
        x = by_length(text.pooled, batch["ids"], batch["mask"])
        y = objective.targets[batch["rows"]]
        counts = [w.classes, w.coarse, w.noun]
        if "features" in batch:
            y = torch.cat([y, F.normalize(model.image.project(batch["features"]), dim=1)])
            counts.append(w.picture)
        weights = torch.cat([torch.full((n,), weight) for n, weight in zip(counts, SOLVE_WEIGHTS, strict=False)])
        gram += x.T @ (weights[:, None] * x)
        moment += x.T @ (weights[:, None] * y)
    text.projection.weight.copy_(torch.linalg.solve(gram, moment).T)


def read_ids(file: Path) -> set[int]:
    """WordNet ids, one a line -> offsets; a file that is not there holds none."""
    return {offset_of(wnid) for wnid in file.read_text().split()} if file.exists() else set()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--wordnet", type=Path, required=True, help="folder with data.noun and index.noun")
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--trunk", type=Path, required=True, help="efficientnet-lite2-….pth")
    parser.add_argument("--pictures", type=Path, help="features.npz of recipes.clip.pictures")
    parser.add_argument("--init", type=Path, required=True, help="run folder of stage 1, or of an earlier stage 2")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rate", type=float, default=6e-4)
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
    pictures = PictureSet.read(args.pictures) if args.pictures else None
    left_out = read_ids(args.leave_out) if args.leave_out else set()

    model, prototypes = new_model(tokenizer, args.trunk, args.dim)
    unsolved = start_text(model, args.init)
    if not unsolved and left_out - read_ids(args.init / LEFT_OUT):
        raise SystemExit(f"--init {args.init}: that stage 2 has seen some of the classes to leave out")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / LEFT_OUT).write_text(args.leave_out.read_text() if args.leave_out else "")
    classes = class_offsets()
    shown = [i for i, c in enumerate(classes) if c not in left_out]
    guesses = guess_prototypes(wordnet, teacher, [classes[i] for i in shown], prototypes[shown].numpy())
    offsets = [int(o) for o in teacher["offsets"]]
    ranks, counts = sense_ranks(args.wordnet / "index.noun"), word_counts(args.wordnet / "cntlist.rev")
    captions = Captions(wordnet, ranks, counts, offsets, pictures, left_out)
    objective = Objective(model, captions, prototypes, torch.from_numpy(guesses), Weights())
    solve_projection(objective, tokenizer)
    loop = LoopConfig(steps=10**9, minutes=args.minutes, learning_rate=args.rate, log_every=25)
    batches = objective.batches(tokenizer, seed=0)
    for report in train(model, batches, objective, loop, args.out, args.resume):
        print(report, flush=True)
    solve_projection(objective, tokenizer, batches=60)
    state = torch.load(args.out / "checkpoint.pt", weights_only=True)
    torch.save({"model": model.state_dict(), "step": state["step"]}, args.out / FINAL)


if __name__ == "__main__":
    main()
