"""Stage 4: the text tower of an edition goes on against its own image tower, which is locked (LiT, Zhai et al. 2022).

What stages 1 to 3 need takes hours to make. This one starts from a model folder: its image tower embeds pictograms and
scenes once, and from then on only texts are computed, so that each name is read a hundred times in half an hour.

    english  the English name of a picture, which belongs where its pictures are (`learn_places`)
    name     any of a picture's captions in any language, which belongs there too
    scene    true statements about scenes, each against the other pictures and against false statements
    kept     words of WordNet, translations, and the names of what photographs show, in all languages: they stay where
             the edition has them

    python -m recipes.clip.lit --model src/bahumukha/starter/clip --wordnet FOLDER --translations translations.npz \\
        --pictures PICTURES --scenes SCENES --cache cache --minutes 40 --out runs/lit
    python -m recipes.clip.export --run runs/lit --image-of src/bahumukha/starter/clip …
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.data.scene_captions import say
from bahumukha.data.scenes import Scene
from bahumukha.models.clip import Clip
from bahumukha.train.loop import LoopConfig, train
from bahumukha.zoo.folder import TOKENIZER
from bahumukha.zoo.onnx import OnnxClip
from bahumukha.zoo.pytorch import load_clip
from recipes.clip.captions import Captions
from recipes.clip.classes import class_offsets
from recipes.clip.names import Names
from recipes.clip.pictures import Job, name_of, opened, picture_jobs, scene_jobs
from recipes.clip.statements import falsified
from recipes.clip.texts import by_length, encode_batch, in_parts
from recipes.clip.train import FINAL, LIMIT, distil, told_of
from recipes.clip.translations import Translations
from recipes.clip.wordnet import WordNet

AT_ONCE = 64
"""Pictures opened in one go."""
LONGEST_NAME = 60
"""Letters of a name that is drawn; titles of clip art can be sentences."""
PULL, PULL_OF_SHOWN = 0.1, 10.0
"""How strongly names are held where the edition has them, and those that photographs show too."""
NAMED = ("{}", "{}", "{}", "{}", "a {}", "the {}", "a picture of a {}", "a drawing of a {}")
"""How an English name is put: half of the time alone, as a search and an evaluation ask."""


@dataclass(frozen=True)
class Weights:
    """How many of each kind stand in a batch, and what each loss weighs."""

    english: int = 224
    name: int = 32
    scene: int = 48
    wrong: int = 5
    classes: int = 40
    coarse: int = 40
    noun: int = 16
    translation: int = 56
    shown: int = 64
    align: float = 3.0
    distil: float = 1.0
    kept: float = 6.0
    told: float = 2.0
    scale: float = 25.0


@dataclass(frozen=True)
class EmbeddedPictures:
    """What the locked image tower makes of pictures: (N, dim), rows of norm 1, and what is known of each."""

    rows: Tensor
    records: list[dict[str, Any]]

    @classmethod
    def of(cls, jobs: Sequence[Job], model: OnnxClip, cache: Path) -> EmbeddedPictures:
        """From `cache`, if this model embedded as many there before; else computed and written."""
        file = cache.with_name(f"{cache.name}-{model.fingerprint[:12]}-{len(jobs)}.npy")
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            parts = []
            with ThreadPoolExecutor(2) as pool:
                for start in range(0, len(jobs), AT_ONCE):
                    some = jobs[start : start + AT_ONCE]
                    pixels = np.stack(list(pool.map(lambda job: opened(job, model.preprocess.size), some)))
                    parts.append(model.encode_pixels(pixels).astype(np.float16))
                    if start % (25 * AT_ONCE) == 0:
                        print(f"{file.name}: {start} of {len(jobs)}", flush=True)
            aside = file.with_suffix(".part.npy")
            np.save(aside, np.concatenate(parts))
            aside.rename(file)
        rows = torch.from_numpy(np.load(file).astype(np.float32))
        return cls(F.normalize(rows, dim=1), [record for _, record, _ in jobs])

    def split(self, name: str) -> EmbeddedPictures:
        """Those of one split."""
        own = [i for i, record in enumerate(self.records) if record["split"] == name]
        return EmbeddedPictures(self.rows[own], [self.records[i] for i in own])


def learn_places(
    pictures: Tensor,
    rows: Tensor,
    start: Tensor,
    pull: Tensor,
    *,
    scale: float = 15.0,
    steps: int = 300,
    batch: int = 1024,
    rate: float = 3e-3,
) -> Tensor:
    """Where each name belongs, (M, dim) of norm 1: near its pictures and far from all others'.

    pictures (N, dim) of norm 1, rows (N,) the name of each, start (M, dim) where the texts are, pull (M,) how strongly
    a place is held there. A picture competes for its name among all names, and a name for its pictures among those of
    the batch.
    A sharp competition (a large `scale`) places names by what sets the drawings of these styles apart, and pictures of
    another style are then found worse than by the mean of all drawings (docs/log.md).
    """
    generator = torch.Generator().manual_seed(0)
    places = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([places], lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        some = torch.randint(len(rows), (min(batch, len(rows)),), generator=generator)
        table = F.normalize(places, dim=1)
        logits = scale * pictures[some] @ table.T  # (B, M)
        own, place = rows[some].unique(return_inverse=True)
        same = F.one_hot(place, len(own)).T.float()  # (own, B)
        found = -(same * logits[:, own].T.log_softmax(1)).sum(1) / same.sum(1)
        away = 1 - (table * start).sum(1)
        loss = (F.cross_entropy(logits, rows[some]) + found.mean()) / 2 + (pull * away).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return F.normalize(places.detach(), dim=1)


def is_shown(captions: Captions, name: str) -> bool:
    """Whether a name is a class of photographs or a kind of which some are: its texts must find those as well."""
    return captions.word.get(name) in captions.members


def embed_texts(text: nn.Module, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Texts -> (N, dim), rows of norm 1, without gradients."""
    return F.normalize(in_parts(text, tokenizer, texts, LIMIT), dim=1)


class Texts:
    """Draws the texts of a batch, kind by kind, and what each belongs to."""

    def __init__(
        self,
        names: Names,
        captions: Captions,
        translations: Translations,
        scenes: EmbeddedPictures,
        weights: Weights,
    ):
        self.names, self.captions, self.translations, self.weights = names, captions, translations, weights
        self.taken: set[str] = set()
        self.shown: list[str] = []
        for name, own in zip(names.names, names.captions, strict=True):
            if is_shown(captions, name):
                self.shown += [each[0] for each in own.values()]
            else:
                self.taken |= {caption.lower() for each in own.values() for caption in each}
        self.scenes = [Scene.from_record(record["scene"]) for record in scenes.records]
        self.things = [each for scene in self.scenes[:4000] for each in scene.objects]

    def named(self, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
        """Names of pictures and their rows: English ones, then any."""
        rows, texts = self.names.draw_english(self.weights.english, rng)
        put = [NAMED[i].format(text) for i, text in zip(rng.integers(len(NAMED), size=len(texts)), texts, strict=True)]
        more, others = self.names.draw(self.weights.name, rng)
        return put + others, np.concatenate([rows, more])

    def kept(self, rng: np.random.Generator) -> list[str]:
        """What is to stay where it is; nothing that pictures are called."""
        w = self.weights
        texts: list[str] = []
        for kind, count in (("class", w.classes), ("coarse", w.coarse), ("noun", w.noun)):
            texts += self.captions.draw(kind, count, rng)[0]
        texts += [self.translations.texts[i] for i in self.translations.draw(w.translation, rng)]
        if self.shown:
            texts += [self.shown[i] for i in rng.integers(len(self.shown), size=w.shown)]
        return [text for text in texts if text.lower() not in self.taken]

    def told(self, rng: np.random.Generator) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Statements about scenes, the scene of each, and whether it is true; the true ones first."""
        which = rng.choice(len(self.scenes), self.weights.scene, replace=False)
        true: list[tuple[str, int]] = []
        false: list[tuple[str, int]] = []
        for i in which:
            said, language = told_of(self.scenes[i], rng)
            text = say(said, rng, language)
            if text is not None:
                true.append((text, i))
                wrong = [say(each, rng, language) for each in falsified(said, rng, self.weights.wrong, self.things)]
                false += [(each, i) for each in wrong if each is not None]
        texts, scenes = zip(*true, *false, strict=True)
        return list(texts), np.array(scenes), np.arange(len(texts)) < len(true)


class Objective:
    """Batches of texts, and their losses."""

    def __init__(
        self, text: nn.Module, tokenizer: Tokenizer, texts: Texts, places: Tensor, scenes: Tensor, weights: Weights
    ):
        self.text, self.tokenizer, self.texts = text, tokenizer, texts
        self.places, self.scenes, self.weights = places, scenes, weights
        self.edition = copy.deepcopy(text).eval().requires_grad_(False)

    def batches(self, seed: int) -> Iterator[dict[str, Tensor]]:
        """Token ids of all texts; how many are names and how many are kept; the rest are statements."""
        rng = np.random.default_rng(seed)
        while True:
            named, rows = self.texts.named(rng)
            kept = self.texts.kept(rng)
            told, of, true = self.texts.told(rng)
            ids, mask = encode_batch(self.tokenizer, named + kept + told, limit=LIMIT)
            arrays = {"ids": ids, "mask": mask, "rows": rows, "of": of, "true": true}
            counts = torch.tensor([len(named), len(kept), len(told)])
            yield {key: torch.from_numpy(value) for key, value in arrays.items()} | {"counts": counts}

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Batch -> losses by name."""
        w, counts = self.weights, batch["counts"].tolist()
        texts = F.normalize(by_length(self.text, batch["ids"], batch["mask"], groups=8).float(), dim=1)
        named, kept, told = texts.split(counts)
        _, kept_ids, _ = batch["ids"].split(counts)
        _, kept_mask, _ = batch["mask"].split(counts)
        with torch.no_grad():
            stays = F.normalize(by_length(self.edition, kept_ids, kept_mask).float(), dim=1)
        targets = self.places[batch["rows"]]
        losses = {
            "english": 1 - (named * targets)[: w.english].sum(1).mean(),
            "name": 1 - (named * targets)[w.english :].sum(1).mean(),
            "distil": distil(named, targets, self.places, w.scale),
            "kept": 1 - (kept * stays).sum(1).mean(),
        }
        losses |= self._told(told, batch["of"], batch["true"])
        loss = w.align * (losses["english"] + losses["name"]) / 2 + w.distil * losses["distil"]
        loss = loss + w.kept * losses["kept"] + w.told * (losses["scene"] + losses["slip"])
        return {"loss": loss, **losses}

    def _told(self, texts: Tensor, of: Tensor, true: Tensor) -> dict[str, Tensor]:
        """Scenes find their statement among the others' (and it them), and among the false ones about themselves."""
        seen = self.scenes[of[true]]
        logits = self.weights.scale * seen @ texts.T  # (scenes, texts)
        count = len(seen)
        right = torch.arange(count)
        own = (of[None] == of[:count, None]) | torch.eye(count, len(of), dtype=torch.bool)
        both = (F.cross_entropy(logits[:, :count], right) + F.cross_entropy(logits[:, :count].T, right)) / 2
        return {"scene": both, "slip": F.cross_entropy(logits.masked_fill(~own, -torch.inf), right)}


def held_out_style(text: nn.Module, tokenizer: Tokenizer, pictures: EmbeddedPictures) -> dict[str, float]:
    """R@1 and R@5 of the pictures of a style that no stage is trained on, by their English names."""
    scores = (
        embed_texts(text, tokenizer, [record["captions"]["en"][0] for record in pictures.records]) @ pictures.rows.T
    )
    rank = (scores > scores.diagonal()[:, None]).sum(1)
    return {"R@1": (rank < 1).float().mean().item(), "R@5": (rank < 5).float().mean().item()}


@dataclass(frozen=True)
class Prepared:
    """What stage 4 begins with."""

    model: Clip
    tokenizer: Tokenizer
    pictures: EmbeddedPictures
    scenes: EmbeddedPictures
    texts: Texts
    places: Tensor


def parser(told: str) -> argparse.ArgumentParser:
    """With the options of what is prepared."""
    options = argparse.ArgumentParser(description=told, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--model", type=Path, required=True, help="model folder of the edition to go on from")
    options.add_argument("--wordnet", type=Path, required=True, help="folder with data.noun, index.noun, cntlist.rev")
    options.add_argument("--translations", type=Path, required=True, help="of recipes.clip.translations")
    options.add_argument("--pictures", type=Path, required=True, help="a folder for each source, with captions.jsonl")
    options.add_argument("--copies", type=int, default=2, help="grounds on which each pictogram is shown")
    options.add_argument("--scenes", type=Path, required=True, help="folder with scenes.jsonl")
    options.add_argument("--cache", type=Path, required=True, help="folder of embeddings, computed where missing")
    options.add_argument("--out", type=Path, required=True)
    return options


def prepare(args: argparse.Namespace) -> Prepared:
    """Embed the pictures, and learn where names belong."""
    torch.manual_seed(0)
    edition = OnnxClip(args.model)
    pictures = EmbeddedPictures.of(list(picture_jobs(args.pictures, args.copies)), edition, args.cache / "pictures")
    scenes = EmbeddedPictures.of(list(scene_jobs(args.scenes)), edition, args.cache / args.scenes.name)
    wordnet = WordNet.read(args.wordnet / "data.noun")
    offsets = wordnet.physical()
    captions = Captions.read(args.wordnet, offsets + sorted(set(class_offsets()) - set(offsets)), set())

    model = load_clip(args.model)
    tokenizer = Tokenizer.from_file(str(args.model / TOKENIZER))
    shown = pictures.split("train")
    names = Names([r for r in shown.records if len(name_of(r)) <= LONGEST_NAME])
    row = {name: i for i, name in enumerate(names.names)}
    own = [i for i, record in enumerate(shown.records) if name_of(record) in row]
    start = embed_texts(model.text, tokenizer, names.names)
    rows = torch.tensor([row[name_of(shown.records[i])] for i in own])
    pull = torch.tensor([PULL_OF_SHOWN if is_shown(captions, name) else PULL for name in names.names])
    places = learn_places(shown.rows[own], rows, start, pull)
    texts = Texts(names, captions, Translations.read(args.translations), scenes, Weights())
    return Prepared(model, tokenizer, pictures, scenes, texts, places)


def main() -> None:
    """Train within the time given; `--out/final.pt` holds the whole Clip, as stage 3's does."""
    options = parser(__doc__ or "")
    options.add_argument("--minutes", type=float, default=40)
    options.add_argument("--rate", type=float, default=5e-4)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--resume", action="store_true")
    args = options.parse_args()

    ready = prepare(args)
    model, text = ready.model, ready.model.text
    model.requires_grad_(False)
    text.requires_grad_(True)
    objective = Objective(text, ready.tokenizer, ready.texts, ready.places, ready.scenes.rows, Weights())
    loop = LoopConfig(
        steps=10**9, minutes=args.minutes, learning_rate=args.rate, log_every=25, optimizer="muon", validate_every=100
    )
    style = ready.pictures.split("held-out-style")

    def validate(_: nn.Module) -> dict[str, float]:
        return held_out_style(text, ready.tokenizer, style)

    for report in train(model, objective.batches(args.seed), objective, loop, args.out, args.resume, validate=validate):
        print(report, flush=True)
    steps = torch.load(args.out / "checkpoint.pt", weights_only=True)["step"]
    torch.save({"model": model.state_dict(), "step": steps}, args.out / FINAL)


if __name__ == "__main__":
    main()
