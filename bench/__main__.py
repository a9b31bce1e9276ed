"""python -m bench [NAME]... [--photos DIR]: the benches named, or all of them.

On a busy machine the figures say nothing: stop other work first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import dalle, encoders, guided, indexing, searching, serve, tokens, training


def main() -> None:
    """Run the benches named."""
    benches = {
        "encoder": encoders.starter,
        "vit": encoders.vit_b_32,
        "index": indexing.end_to_end,
        "cold": searching.cold,
        "search": searching.warm,
        "serve": serve.loaded,
        "training": training.clip,
        "tokens": tokens.sliding,
        "dalle": dalle.beside_dalle_pytorch,
        "guided": guided.one_step,
        "guided-pictures": guided.pictures,
    }
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="|".join(benches), help="benches to run")
    parser.add_argument("--photos", type=Path, help="photographs to index (default: the shipped ones, 8 times)")
    args = parser.parse_args()
    for name in args.names or benches:
        if name not in benches:
            parser.error(f"no bench {name!r}; there are {', '.join(benches)}")
        print(f"== {name}", flush=True)
        benches[name](args.photos)


if __name__ == "__main__":
    main()
