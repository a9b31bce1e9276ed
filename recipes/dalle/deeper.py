"""More blocks for a trained codec that change nothing yet: each begins as x -> x, and training makes use of it.

    python -m recipes.dalle.deeper starter/vqgan --encoder 1 --decoder 3 --out DATA/deeper

A code for 8 x 8 pixels leaves much to be guessed, and what guesses is the decoder; a start from random weights would
have to learn again what the smaller codec knows (as in Net2Net, Chen et al. 2015, and bert2BERT, Chen et al. 2021).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from torch import nn

from bahumukha.models.vit_codec import VitCodec
from bahumukha.models.vqgan import Codec
from bahumukha.nn.grid import GridBlock
from bahumukha.zoo.codecs import load_codec, read_codec_config, save_codec
from bahumukha.zoo.folder import find


def deeper(codec: Codec, encoder: int, decoder: int) -> VitCodec:
    """The same function with so many transformer blocks more, behind those that are there. Raises TypeError.

    codec: a `VitCodec`.
    """
    if not isinstance(codec, VitCodec):
        raise TypeError(f"a codec of kind {codec.config.kind!r} has no transformer blocks to add to")
    had = codec.config
    grown = VitCodec(
        replace(had, encoder_layers=had.encoder_layers + encoder, decoder_layers=had.decoder_layers + decoder)
    )
    grown.load_state_dict(codec.state_dict(), strict=False)
    for part, before in ((grown.encoder, had.encoder_layers), (grown.decoder, had.decoder_layers)):
        blocks = part.get_submodule("blocks")
        assert isinstance(blocks, nn.ModuleList)
        for block in blocks[before:]:
            assert isinstance(block, GridBlock)
            block.silent()
    return grown.eval()


def main() -> None:
    """Write the deeper codec as a model folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("codec", help="name or folder of a trained codec")
    parser.add_argument("--encoder", type=int, default=1, help="blocks more")
    parser.add_argument("--decoder", type=int, default=3, help="blocks more")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new model")
    args = parser.parse_args()

    folder = find(args.codec)
    grown = deeper(load_codec(folder), args.encoder, args.decoder)
    save_codec(grown, args.out, "deeper", read_codec_config(folder).steps)


if __name__ == "__main__":
    main()
