"""Which emoji are things that composed scenes can show, and what English calls one of them and several.

Concrete things that can stand alone on any ground: no faces, people, signs, flags, landscapes or pictures of several
things at once. One thing a name, and names without colours, since the drawings are recoloured.
"""

from __future__ import annotations

from dataclasses import dataclass

from bahumukha.data.scene_words import plural

TABLE = """
animals
1f41c ant; 1f9a1 badger; 1f987 bat; 1f43b bear; 1f9ab beaver; 1fab2 beetle; 1f426 bird; 1f9ac bison/bison
1f421 blowfish/blowfish; 1f417 boar; 1f41b caterpillar; 1f98b butterfly; 1f42a camel; 1f408 cat; 1f414 chicken
1f43f chipmunk; 1f404 cow; 1f980 crab; 1f40a crocodile; 1f98c deer/deer; 1f9a4 dodo; 1f415 dog; 1f42c dolphin
1facf donkey; 1f54a dove; 1f409 dragon; 1f986 duck; 1f985 eagle; 1f418 elephant; 1f411 sheep/sheep; 1f41f fish/fish
1f9a9 flamingo; 1fab0 fly; 1f98a fox; 1f438 frog; 1f992 giraffe; 1f410 goat; 1fabf goose/geese; 1f98d gorilla
1f439 hamster; 1f994 hedgehog; 1f99b hippopotamus; 1f41d bee; 1f40e horse; 1fabc jellyfish/jellyfish; 1f998 kangaroo
1f428 koala; 1f41e ladybird; 1f406 leopard; 1f981 lion; 1f98e lizard; 1f999 llama; 1f99e lobster; 1f9a3 mammoth
1f412 monkey; 1face moose/moose; 1f99f mosquito/mosquitoes; 1f401 mouse/mice; 1f419 octopus; 1f9a7 orangutan
1facd orca; 1f9a6 otter; 1f989 owl; 1f402 ox/oxen; 1f9aa oyster; 1f43c panda; 1f99c parrot; 1f99a peacock
1f427 penguin; 1f416 pig; 1f429 poodle; 1f407 rabbit; 1f99d raccoon; 1f40f ram; 1f400 rat; 1f98f rhinoceros
1f413 rooster; 1f995 sauropod; 1f982 scorpion; 1f9ad seal; 1f988 shark; 1f990 shrimp; 1f9a8 skunk; 1f9a5 sloth
1f40c snail; 1f40d snake; 1f577 spider; 1f433 whale; 1f991 squid/squid; 1f9a2 swan; 1f996 tyrannosaur; 1f405 tiger
1f420 tropical fish/tropical fish; 1f983 turkey; 1f422 turtle; 1f984 unicorn; 1f403 water buffalo; 1f43a wolf/wolves
1fab1 worm; 1f993 zebra; 1f424 chick; 1f997 cricket
plants
1f490 bouquet; 1f335 cactus/cacti; 1f333 tree; 1f332 fir tree; 1f340 four-leaf clover; 1f33a hibiscus
1fabb hyacinth; 1f341 maple leaf/maple leaves; 1f344 mushroom; 1f334 palm tree; 1fab4 potted plant; 1f339 rose
1f331 seedling; 2618 shamrock; 1f33b sunflower; 1f337 tulip; 1fab7 lotus flower; 1f338 cherry blossom; 1fab8 ~coral
food
1f951 avocado; 1f37c baby bottle; 1f953 ~bacon; 1f96f bagel; 1f956 baguette; 1f34c banana
1f37a mug of beer/mugs of beer; 1fad1 bell pepper; 1f382 birthday cake; 1f35e ~bread; 1f966 ~broccoli; 1f32f burrito
1f9c8 ~butter; 1f36c piece of candy/pieces of candy; 1f96b can of food/cans of food; 1f955 carrot
1f9c0 wedge of cheese/wedges of cheese; 1f352 ~cherries; 1f330 chestnut; 1f36b chocolate bar; 1f962 ~chopsticks
1f378 cocktail glass; 1f965 coconut; 1f36a cookie; 1f950 croissant; 1f952 cucumber
1f964 cup with a straw/cups with straws; 1f9c1 cupcake; 1f369 doughnut; 1f95f dumpling
1f33d ear of corn/ears of corn; 1f95a egg; 1f346 eggplant; 1f960 fortune cookie; 1f35f ~french fries; 1f9c4 ~garlic
1f95b glass of milk/glasses of milk; 1f347 ~grapes; 1f34e apple; 1f957 salad; 1f354 hamburger; 1f36f honey pot
1f32d hot dog; 1f336 chili pepper; 1f368 bowl of ice cream/bowls of ice cream; 1fad9 jar
1f52a kitchen knife/kitchen knives; 1f95d kiwi fruit/kiwi fruits; 1f34b lemon; 1f36d lollipop; 1f96d mango/mangoes
1f348 melon; 1fad2 olive; 1f9c5 onion; 1f95e ~pancakes; 1fadb pea pod; 1f351 peach; 1f95c ~peanuts; 1f350 pear
1f967 pie; 1f34d pineapple; 1f355 slice of pizza/slices of pizza; 1f37f box of popcorn/boxes of popcorn
1f954 potato/potatoes; 1f357 chicken leg; 1f968 pretzel; 1f359 rice ball; 1f360 sweet potato/sweet potatoes
1f96a sandwich; 1f370 piece of cake/pieces of cake; 1f366 ice cream cone; 1f944 spoon; 1f353 strawberry; 1f32e taco
1f34a tangerine; 1fad6 teapot; 1f345 tomato/tomatoes; 1f9c7 waffle; 1f349 watermelon
1f377 glass of wine/glasses of wine; 1fad8 ~beans; 1f36e custard; 2615 cup of coffee/cups of coffee
1f375 cup of tea/cups of tea
vehicles
2708 airplane; 1f691 ambulance; 1f69b articulated lorry; 1f6fa auto rickshaw; 1f697 car; 1f6b2 bicycle; 1f68c bus
1f6f6 canoe; 1f69a delivery truck; 1f692 fire engine; 1f6f8 flying saucer; 1f681 helicopter; 1f6f4 kick scooter
1f682 locomotive; 1f690 minibus; 1f6e5 motor boat; 1f6f5 motor scooter; 1f3cd motorcycle; 1f6fb pickup truck
1f693 police car; 1f3ce racing car; 1f680 rocket; 26f5 sailboat; 1f6a2 ship; 1f6f9 skateboard; 1f6f7 sled
1f6f0 satellite; 1f6a4 speedboat; 1f695 taxi; 1f69c tractor; 1f68e trolleybus; 1f683 railway car; 1f6fc roller skate
1f9bd wheelchair; 1f6d2 shopping cart
buildings
1f3f0 castle; 26ea church; 1f3ed factory; 1f3e1 house with a garden/houses with gardens; 1f3e0 house; 1f3e5 hospital
1f3eb school; 1f54c mosque; 1f3e2 office building; 1f6d6 hut; 26f2 fountain; 26fa tent; 1f3aa circus tent
1f3a1 ferris wheel; 1f3db classical building; 1f5fc tower
sky
2601 cloud; 1f319 crescent moon; 26a1 lightning bolt; 2b50 star; 2744 snowflake; 1f30b volcano
1f4a7 drop of water/drops of water; 1f525 ~fire; 2604 comet; 1fa90 ringed planet; 26c4 snowman/snowmen
1f308 rainbow
clothes
1f392 backpack; 1fa70 ~ballet shoes; 1f459 bikini; 1f9e2 cap; 1f9e5 coat; 1f451 crown; 1f457 dress; 1f453 ~glasses
1f9e4 ~gloves; 1f393 graduation cap; 1f45c handbag; 1f460 high-heeled shoe; 1f97e hiking boot; 1f456 ~jeans
1f458 kimono; 1f45e shoe; 1f454 necktie; 1f45b purse; 1f48d ring; 1f45f running shoe; 1f9ba safety vest
1f9e3 scarf/scarves; 1fa73 ~shorts; 1f9e6 ~socks; 1f576 ~sunglasses; 1f455 t-shirt; 1fa74 flip-flop; 1f3a9 top hat
1f462 boot; 1f452 hat; 1f461 sandal; 1f97d ~goggles; 1f380 ribbon; 1f97c lab coat
music and play
1fa97 accordion; 1fa95 banjo; 1f941 drum; 1f3b8 guitar; 1fa89 harp; 1f3b7 saxophone; 1f3ba trumpet; 1f3bb violin
1fa87 ~maracas; 1fa98 long drum; 1f3a8 artist palette; 1f388 balloon; 1f3c8 american football; 26be baseball
1f3c0 basketball; 1f94a boxing glove; 265f chess pawn; 1f384 christmas tree; 1f52e crystal ball; 1f93f diving mask
1f94f flying disc; 1f3b2 game die/game dice; 26f8 ice skate; 1f383 jack-o'-lantern; 1f579 joystick; 1fa81 kite
1fa84 magic wand; 1fa85 piñata; 1f9e9 puzzle piece; 26bd soccer ball; 1f9f8 teddy bear; 1f3c6 trophy
1f3ae game controller; 1f3d0 volleyball; 1f52b water pistol; 1f381 gift; 1f9f6 ball of yarn/balls of yarn
1fa80 yo-yo/yo-yos; 1fa83 boomerang; 1f3af dartboard; 1fa86 nesting doll
tools
1fa93 axe; 1fa79 adhesive bandage; 1f50b battery; 1f4a3 bomb; 1f9f9 broom; 1faa3 bucket; 1f5dc clamp; 1fa9a saw
1f5e1 dagger; 1f9ef fire extinguisher; 1f526 flashlight; 2699 gear; 1f528 hammer; 1fa9d hook; 1f511 key
1fa9c ladder; 1f9f2 magnet; 1f50d magnifying glass; 1f52c microscope; 26cf pickaxe; 1faa0 plunger; 1f4cc pushpin
1f4cf ruler; 1fa92 razor; 1f9f7 safety pin; 2702 ~scissors; 1fa9b screwdriver; 1f6e1 shield; 1fa8f shovel
1fa7a stethoscope; 1f489 syringe; 1f52d telescope; 1f9ea test tube; 1f321 thermometer; 1f9f0 toolbox
1faa5 toothbrush; 1f527 wrench; 1f58c paintbrush; 1f4ce paperclip; 270f pencil; 1f58d crayon; 1f58b fountain pen
2693 anchor; 1f9ed compass; 1f9f5 spool of thread/spools of thread
things
1f9ee abacus; 1f9fa basket; 1f6c1 bathtub; 1f6cf bed; 1f514 bell; 1f4d5 book; 1f4da stack of books/stacks of books
1f3f9 bow and arrow/bows and arrows
1f4bc briefcase; 1f4f7 camera; 1f56f candle; 1fa91 chair; 1f4cb clipboard; 26b0 coffin; 1fa99 coin
1f5a5 desktop computer; 1f6aa door; 1f50c electric plug; 2709 envelope; 1f4c1 file folder; 1f4fd film projector
1f4be floppy disk; 1f48e gem; 1f3a7 ~headphones; 1faa6 gravestone; 1f4bb laptop; 1f4a1 light bulb; 1f484 lipstick
1f512 padlock; 1f4b0 money bag; 1f4e3 megaphone; 1f3a4 microphone; 1f4f1 mobile phone; 1f5ff moai statue
1f4e6 cardboard box; 1f4d3 notebook; 1f48a pill; 1f4ee postbox; 1f5a8 printer; 1f4fb radio; 1f4e1 satellite dish
1f4dc scroll; 1f6bf shower; 1f9fc bar of soap/bars of soap; 1f9fd sponge; 260e telephone; 1f4fa television
1f6bd toilet; 1f5d1 wastebasket; 23f0 alarm clock; 231b hourglass; 1f9f3 suitcase; 231a watch; 2602 umbrella
1f6a6 traffic light; 1f3fa amphora; 1f4ba seat; 1f6de wheel; 1fab5 ~wood; 1f6e2 oil drum; 1fa82 parachute
1f5fa world map; 1fa9e mirror; 1f9ff amulet; 1f570 mantelpiece clock; 1f6df lifebuoy; 1f9ec ~DNA; 1f9f1 ~bricks
1faa8 rock; 1f516 bookmark; 1f9fb roll of toilet paper/rolls of toilet paper; 1fab6 feather; 1f41a seashell
1fab9 nest; 1f9b4 bone; 1f9b7 tooth/teeth
"""
"""`code points name` or `name/plural`, `~` before what cannot be counted or has no singular; one heading a kind."""

OTHER_NAMES = {
    "1f34e": dict(
        te="యాపిల్", hi="सेब", ta="ஆப்பிள்", bn="আপেল", mr="सफरचंद", ur="سیب", fr="pomme", de="Apfel", es="manzana",
        pt="maçã", ru="яблоко", zh="苹果", ja="りんご", ar="تفاحة", sw="tofaa",
    ),
}  # fmt: skip
"""Names for what CLDR calls by its usual colour: "red apple"."""


@dataclass(frozen=True)
class Thing:
    """An entry of the table; `plural` is "" for what is not counted ("bread", "scissors")."""

    key: str
    name: str
    plural: str
    kind: str


def things() -> list[Thing]:
    """All entries in the table's order."""
    found, kind = [], ""
    for line in TABLE.strip().splitlines():
        if not line[:1].isdigit():
            kind = line.strip()
            continue
        for entry in line.split(";"):
            key, _, name = entry.strip().partition(" ")
            singular, _, several = name.removeprefix("~").partition("/")
            found.append(Thing(key, singular, "" if name[0] == "~" else several or plural(singular), kind))
    return found
