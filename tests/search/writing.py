"""Writes pictures into a store one by one, and tells the number of each when the store says that it is kept.

python -m tests.search.writing URL
"""

from __future__ import annotations

import sys
from itertools import count

from bahumukha.errors import BahumukhaError
from bahumukha.search.places import open_store, place_of
from bahumukha.search.records import Picture

if __name__ == "__main__":
    try:
        with open_store(place_of(sys.argv[1])) as store:
            for number in count():
                with store.writing():
                    store.put(f"/{number}", 1, 1, Picture(embedding=b"\0\1" * 16))
                print(number, flush=True)
    except BahumukhaError:
        sys.exit(1)
