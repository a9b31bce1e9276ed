"""The closed vocabulary: what pairs are composed of, and what a run of two hours on a CPU can learn to draw."""

from __future__ import annotations

from bahumukha.data.scene_vectors import Library

STYLES = ("noto", "twemoji", "openmoji", "fluent-emoji-flat")
"""The flat ones, which draw nearly everything."""

THINGS = frozenset(
    name.strip()
    for name in """
    bear, beetle, bird, butterfly, camel, cat, chick, crab, crocodile, dog, dolphin, duck, fish, flamingo, fox, frog,
    horse, jellyfish, ladybird, lion, lobster, monkey, octopus, owl, parrot, pig, rooster, scorpion, shrimp, snail,
    snake, squid, tropical fish, turtle, whale,
    cactus, fir tree, maple leaf, mushroom, palm tree, rose, seedling, shamrock, sunflower, tree, tulip,
    apple, avocado, banana, bread, broccoli, carrot, cherries, doughnut, egg, grapes, hamburger, lemon,
    lollipop, mug of beer, peach, pear, pineapple, slice of pizza, strawberry, teapot, watermelon,
    car, helicopter, motor scooter, ship, taxi, tent, church,
    comet, crescent moon, drop of water, fire, ringed planet, snowflake, star, volcano,
    backpack, boot, cap, crown, dress, glasses, handbag, hat, high-heeled shoe, jeans, necktie, running shoe, scarf,
    shorts, t-shirt,
    basketball, christmas tree, drum, guitar, puzzle piece, teddy bear, trophy, trumpet,
    anchor, bell, book, bucket, chair, coin, door, feather, gem, hammer, hourglass, key, light bulb, magnet,
    mobile phone, pencil, postbox, scissors, shield, telephone
    """.split(",")
)  # fmt: skip


def closed_vocabulary(library: Library) -> Library:
    """The things of `THINGS` alone, those that the library has; layers are kept where it keeps them."""
    return Library({key: each for key, each in library.concepts.items() if each.name in THINGS}, library.layers)
