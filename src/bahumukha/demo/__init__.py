"""What Bahumukha does, shown on real photographs: which label is in each, which suit a sentence, which are alike.

    demo = show(shipped_photos(), zoo.load(), Path("demo-out"))
    print(demo.page)        # demo-out/index.html: pictures beside results, one file to open in a browser

`photos` is what ships and who made it, `tour` asks the questions, `making` makes pictures, `page` writes all as HTML.
"""

from __future__ import annotations

from bahumukha.demo.making import MAKINGS, Made, Making, can_make
from bahumukha.demo.photos import Photo, read_credits, shipped_photos
from bahumukha.demo.tour import Demo, Guess, Search, Similar, Tour, show, take_tour, with_pictures

__all__ = [
    "MAKINGS",
    "Demo",
    "Guess",
    "Made",
    "Making",
    "Photo",
    "Search",
    "Similar",
    "Tour",
    "can_make",
    "read_credits",
    "shipped_photos",
    "show",
    "take_tour",
    "with_pictures",
]
