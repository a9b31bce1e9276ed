"""Stage 1: the text tower learns a dictionary and its translations. No picture takes part.

From a word (or a gloss) it predicts what `recipes.clip.teacher` knows of the noun: the sentence vectors of its name
and its definition, and its place in the taxonomy. Words that mean similar things so come to lie near each other
before the first picture is seen; stage 2 (`recipes.clip.train`) then needs little to carry what it learns of a
thousand classes over to words that no picture was labelled with. Words of other languages
(`recipes.clip.translations`) aim at the same vectors as the English that they mean: translations are distilled
toward English (Reimers and Gurevych, "Making Monolingual Sentence Embeddings Multilingual", 2020).

    python -m recipes.clip.pretrain --wordnet FOLDER --minilm FOLDER --teacher teacher.npz \\
        --translations translations.npz --tokenizer tokenizer.json --minutes 40 --out runs/text
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.models.clip import TextTower, TextTowerConfig
from bahumukha.train.loop import LoopConfig, train
from recipes.clip.classes import class_offsets
from recipes.clip.teacher import SentenceEncoder, read_teacher
from recipes.clip.texts import by_length, encode_batch, nouns, phrase, sense_ranks
from recipes.clip.translations import Translations
from recipes.clip.wordnet import WordNet

TARGETS = ("name", "definition", "taxonomy")


class DictionaryModel(nn.Module):
    """The text tower with one linear read-out for each of the teacher's vectors."""

    def __init__(self, config: TextTowerConfig, sizes: dict[str, int], dim: int = 256):
        super().__init__()
        self.text = TextTower(config, dim)
        self.heads = nn.ModuleDict({name: nn.Linear(config.width, size) for name, size in sizes.items()})

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Token ids (B, L) -> unit vectors by target name."""
        pooled = by_length(self.text.pooled, ids, mask)
        return {name: F.normalize(head(pooled), dim=-1) for name, head in self.heads.items()}


def token_start(tokenizer: Tokenizer, minilm: Path, width: int) -> Tensor:
    """A first embedding for each token: the teacher's vector of the token alone, reduced to `width` by PCA.

    (Static distillation, as in Model2Vec: the mean of such vectors is already a fair sentence vector.)
    """
    texts = [tokenizer.decode([i]).strip() or "?" for i in range(tokenizer.get_vocab_size())]
    vectors = SentenceEncoder(minilm)(texts)
    vectors -= vectors.mean(0)
    _, _, axes = np.linalg.svd(vectors, full_matrices=False)
    reduced = vectors @ axes[:width].T
    return torch.from_numpy(reduced / reduced.std() * 0.04)


SHARES = {"word": 0.42, "gloss": 0.1, "name": 0.13, "translation": 0.35}
"""Parts of a batch."""


class Entries:
    """What there is to learn: the words of physical things, their glosses, other nouns for breadth, translations."""

    def __init__(
        self,
        wordnet: WordNet,
        ranks: dict[tuple[str, int], int],
        teacher: dict[str, np.ndarray],
        translations: Translations,
    ):
        self.row = {int(o): i for i, o in enumerate(teacher["offsets"])}
        self.name_row = {str(n): i for i, n in enumerate(teacher["names"])}
        self.teacher = teacher
        self.glosses = [wordnet[int(o)].gloss for o in teacher["offsets"]]
        interest = interest_of(wordnet, [int(o) for o in teacher["offsets"]])
        self.nouns = list(nouns(wordnet, ranks, list(self.row)))
        weights = np.array([n.weight * interest[self.row[n.offset]] for n in self.nouns])
        self.noun_chance = np.cumsum(weights / weights.sum())
        self.gloss_chance = np.cumsum(interest / interest.sum())
        self.other = [str(n) for n in teacher["names"]]
        self.translations = translations
        meant = {n.word: self.row[n.offset] for n in self.nouns if ranks.get((n.word, n.offset), 9) == 0}
        self.meaning = [meant.get(text.lower(), -1) for text in translations.english]

    def batches(self, tokenizer: Tokenizer, size: int, seed: int) -> Iterator[dict[str, Tensor]]:
        """Words in phrases, glosses, any noun, translations; a target that an entry lacks has no row.

        `name` holds a vector for every text; `definition` and `taxonomy` for those whose positions are in `defined`.
        """
        rng = np.random.default_rng(seed)
        counts = {kind: int(size * share) for kind, share in SHARES.items()}
        teacher = self.teacher
        while True:
            words = [self.nouns[i] for i in np.searchsorted(self.noun_chance, rng.random(counts["word"]))]
            glosses = np.searchsorted(self.gloss_chance, rng.random(counts["gloss"]))
            others = [self.other[i] for i in rng.integers(len(self.other), size=counts["name"])]
            said = self.translations.draw(counts["translation"], rng)
            texts = [phrase(n.word, rng) if rng.random() < 0.4 else n.word for n in words]
            texts += [self.glosses[i] for i in glosses] + others + [self.translations.texts[i] for i in said]
            meant = np.array([self.meaning[self.translations.row[i]] for i in said])
            rows = np.concatenate([[self.row[n.offset] for n in words], glosses, np.full(len(others), -1), meant])
            ids, mask = encode_batch(tokenizer, texts, limit=28)
            names = np.array([self.name_row[n] for n in [n.word for n in words]])
            other_names = np.array([self.name_row[n] for n in others])
            name = [teacher["name"][names], teacher["gloss"][glosses], teacher["name"][other_names]]
            name.append(self.translations.name[self.translations.row[said]])
            defined = np.flatnonzero(rows >= 0)
            batch = {"ids": ids, "mask": mask, "name": np.concatenate(name).astype(np.float32), "defined": defined}
            for target in ("definition", "taxonomy"):
                batch[target] = teacher[target][rows[defined].astype(int)].astype(np.float32)
            yield {k: torch.from_numpy(v) for k, v in batch.items()}


def interest_of(wordnet: WordNet, offsets: list[int]) -> np.ndarray:
    """How often to draw a synset: what photographs show most (the classes, what they are kinds of, their kin)."""
    classes = set(class_offsets())
    above = set().union(*(wordnet.ancestors(c) for c in classes))
    kin = {k for c in classes for p in wordnet[c].hypernyms for k in wordnet.hyponyms.get(p, [])}
    below = {k for c in classes for k in wordnet.hyponyms.get(c, [])}
    interest = np.ones(len(offsets))
    for i, offset in enumerate(offsets):
        if offset in classes or offset in above:
            interest[i] = 30
        elif offset in kin or offset in below:
            interest[i] = 4
    return interest


def main() -> None:
    """Train within the time given; `--out/checkpoint.pt` holds the tower and its read-outs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--wordnet", type=Path, required=True, help="folder with data.noun and index.noun")
    parser.add_argument("--minilm", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--translations", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()

    torch.manual_seed(0)
    wordnet = WordNet.read(args.wordnet / "data.noun")
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    teacher = read_teacher(args.teacher)
    config = TextTowerConfig(vocabulary=tokenizer.get_vocab_size())
    model = DictionaryModel(config, {t: teacher[t].shape[1] for t in TARGETS})
    if not args.resume:
        with torch.no_grad():
            model.text.token.weight.copy_(token_start(tokenizer, args.minilm, config.width))
    translations = Translations.read(args.translations)
    entries = Entries(wordnet, sense_ranks(args.wordnet / "index.noun"), teacher, translations)
    foreign = int(args.batch * SHARES["translation"])

    def step(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        guesses = model(batch["ids"], batch["mask"])
        distance = 1 - (guesses["name"] * batch["name"]).sum(-1)
        losses = {"name": distance[:-foreign].mean(), "translation": distance[-foreign:].mean()}
        for target in ("definition", "taxonomy"):
            losses[target] = 1 - (guesses[target][batch["defined"]] * batch[target]).sum(-1).mean()
        return {"loss": sum(losses.values(), torch.zeros(())), **losses}

    loop = LoopConfig(steps=10**9, minutes=args.minutes, learning_rate=args.rate)
    batches = entries.batches(tokenizer, args.batch, seed=0)
    for report in train(model, batches, step, loop, args.out, args.resume):
        print(report, flush=True)


if __name__ == "__main__":
    main()
