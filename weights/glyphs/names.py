"""Everyday English nouns for the glyphs, and which of them take another colour.

CLDR calls a car "automobile" and a padlock "locked"; people do not. Knows nothing of pictures or of training.
"""

from __future__ import annotations

EVERYDAY: dict[str, tuple[str, ...]] = {
    "airplane": ("plane", "airplane"),
    "alarm clock": ("clock", "alarm clock"),
    "artist palette": ("palette", "paint palette"),
    "automobile": ("car", "automobile"),
    "baseball": ("baseball",),
    "beer mug": ("beer", "mug of beer"),
    "birthday cake": ("cake", "birthday cake"),
    "books": ("books", "stack of books"),
    "bubble tea": ("bubble tea", "boba"),
    "cat face": ("cat", "kitty", "kitten"),
    "cat": ("walking cat", "whole cat"),
    "cheese wedge": ("cheese",),
    "cherry blossom": ("flower", "cherry blossom", "pink flower"),
    "chocolate bar": ("chocolate",),
    "christmas tree": ("christmas tree",),
    "cloud with lightning": ("thunder cloud", "thunderstorm", "storm"),
    "cloud with rain": ("rain", "rainy day", "rain cloud"),
    "cloud with snow": ("snow", "snowy day", "snow cloud"),
    "cocktail glass": ("cocktail", "martini"),
    "collision": ("explosion", "boom"),
    "cow face": ("cow",),
    "crescent moon": ("moon", "crescent moon"),
    "crying face": ("sad face", "crying face"),
    "deciduous tree": ("tree", "big tree"),
    "delivery truck": ("truck", "delivery truck"),
    "dog face": ("dog", "puppy", "doggy"),
    "dog": ("walking dog", "whole dog"),
    "doughnut": ("donut", "doughnut"),
    "dragon face": ("dragon",),
    "droplet": ("water drop", "drop of water", "drop"),
    "ear of corn": ("corn",),
    "enraged face": ("furious face", "red angry face"),
    "evergreen tree": ("pine tree", "evergreen tree"),
    "ewe": ("sheep",),
    "face blowing a kiss": ("kissing face", "face blowing a kiss"),
    "face screaming in fear": ("scared face", "screaming face"),
    "face with medical mask": ("face with a mask", "masked face"),
    "face with open mouth": ("surprised face",),
    "face with tears of joy": ("laughing face", "laughing with tears"),
    "face with tongue": ("face with tongue out", "playful face"),
    "fire engine": ("fire truck", "fire engine"),
    "fire": ("fire", "flame"),
    "flexed biceps": ("muscle", "strong arm", "flexed arm"),
    "flying saucer": ("ufo", "flying saucer"),
    "folded hands": ("praying hands", "prayer"),
    "four leaf clover": ("clover", "four leaf clover"),
    "french fries": ("fries", "french fries"),
    "frog": ("frog",),
    "game die": ("dice", "die"),
    "gem stone": ("diamond", "gem", "jewel"),
    "glass of milk": ("milk", "glass of milk"),
    "glasses": ("glasses", "eyeglasses"),
    "graduation cap": ("graduation cap",),
    "grinning cat": ("happy cat", "smiling cat", "grinning cat"),
    "grinning face": ("happy face", "grinning face"),
    "hamburger": ("burger", "hamburger"),
    "hatching chick": ("chick", "hatching chick"),
    "headphone": ("headphones",),
    "high voltage": ("lightning", "lightning bolt", "thunderbolt"),
    "honey pot": ("honey", "jar of honey"),
    "honeybee": ("bee", "honeybee"),
    "horse face": ("horse",),
    "hot beverage": ("coffee", "cup of coffee", "tea", "cup of tea"),
    "hot pepper": ("chili pepper", "chili", "pepper"),
    "hourglass done": ("hourglass",),
    "house": ("house", "home"),
    "jack-o-lantern": ("pumpkin", "halloween pumpkin"),
    "key": ("key",),
    "lady beetle": ("ladybug", "lady beetle"),
    "laptop": ("laptop", "computer"),
    "locked": ("lock", "padlock"),
    "locomotive": ("train", "steam train", "locomotive"),
    "lollipop": ("lollipop",),
    "love letter": ("love letter",),
    "maple leaf": ("leaf", "maple leaf"),
    "meat on bone": ("meat",),
    "mobile phone": ("phone", "smartphone", "mobile phone"),
    "monkey face": ("monkey",),
    "mouse face": ("mouse",),
    "ok hand": ("ok sign", "ok hand"),
    "package": ("box", "package", "parcel"),
    "party popper": ("confetti", "party popper"),
    "partying face": ("party face", "celebrating face"),
    "pig face": ("pig",),
    "pile of poo": ("poop", "pile of poo", "poo"),
    "pill": ("pill", "medicine", "capsule"),
    "pleading face": ("begging face", "pleading face", "puppy eyes face"),
    "rabbit face": ("rabbit", "bunny"),
    "red apple": ("apple",),
    "red heart": ("heart",),
    "ribbon": ("ribbon", "bow"),
    "rice ball": ("rice ball", "onigiri"),
    "ring": ("ring", "diamond ring"),
    "ringed planet": ("planet", "saturn"),
    "rose": ("rose",),
    "running shoe": ("shoe", "sneaker", "running shoe"),
    "sailboat": ("boat", "sailboat"),
    "sleeping face": ("sleeping face", "sleepy face"),
    "slightly smiling face": ("smiley", "smiling face", "smile"),
    "smiling cat with heart-eyes": ("cat with heart eyes", "cat in love"),
    "smiling face with halo": ("angel face", "face with a halo"),
    "smiling face with heart-eyes": ("face with heart eyes", "heart eyes", "face in love"),
    "smiling face with horns": ("devil", "devil face"),
    "smiling face with sunglasses": ("cool face", "face with sunglasses"),
    "nerd face": ("nerd", "face with glasses"),
    "star-struck": ("face with star eyes", "starry eyed face"),
    "snowman": ("snowman",),
    "soccer ball": ("soccer ball", "football", "ball"),
    "soft ice cream": ("ice cream cone", "soft serve"),
    "spouting whale": ("whale",),
    "sun": ("sun", "sunny day"),
    "sun behind cloud": ("cloudy day", "partly cloudy"),
    "sun with face": ("smiling sun", "sun with a face"),
    "t-rex": ("dinosaur", "t-rex"),
    "t-shirt": ("shirt", "t-shirt"),
    "teddy bear": ("teddy bear", "teddy"),
    "television": ("tv", "television"),
    "tennis": ("tennis racket", "tennis"),
    "thumbs down": ("dislike", "thumbs down"),
    "thumbs up": ("like", "thumbs up"),
    "tiger face": ("tiger",),
    "umbrella with rain drops": ("umbrella",),
    "video game": ("game controller", "gamepad", "controller"),
    "water wave": ("wave", "ocean wave"),
    "waving hand": ("hello", "waving hand", "hi", "goodbye"),
    "wine glass": ("wine", "glass of wine"),
    "wrapped gift": ("gift", "present"),
}

PAINTABLE: tuple[str, ...] = tuple(
    " ".join(name.split())
    for name in """
    red apple; pear; banana; lemon; strawberry; cherries; grapes; tomato; eggplant; carrot; hot pepper;
    peach; mushroom; watermelon; pineapple; bread; egg; doughnut; cookie; cupcake; birthday cake; candy;
    lollipop; soft ice cream; star; balloon; t-shirt; dress; backpack; running shoe; crown; top hat;
    graduation cap; ribbon; gem stone; bell; guitar; umbrella with rain drops; automobile; bus; taxi;
    fire engine; delivery truck; tractor; locomotive; rocket; airplane; helicopter; sailboat; bicycle;
    flying saucer; house; castle; anchor; butterfly; bird; tropical fish; fish; spouting whale; dolphin;
    shark; octopus; crab; snail; turtle; crocodile; frog; snake; dragon face; t-rex; cat face; dog face;
    fox; wolf; bear; teddy bear; pig face; rabbit face; mouse face; horse face; unicorn; elephant; lion;
    monkey face; flamingo; parrot; duck; owl; spider; ant; lady beetle; rose; tulip; sunflower; cherry
    blossom; four leaf clover; maple leaf; evergreen tree; deciduous tree; cactus; wrapped gift; key;
    locked; light bulb; candle; pencil; scissors; hammer; bomb; shield; pill; alarm clock; mobile phone;
    laptop; television; camera; drum; trumpet; soccer ball; basketball; game die; sun; crescent moon;
    cloud; fire; droplet; water wave; snowflake; high voltage; ghost; robot; alien; skull; pile of poo;
    jack-o-lantern; thumbs up; waving hand; victory hand; slightly smiling face; grinning face; angry
    face; glasses; headphone; books; package; trophy; cocktail glass; hot beverage; bed; video game;
    brain; tooth; bone; paw prints
    """.split(";")
)


def nouns(name: str) -> tuple[str, ...]:
    """What people call the glyph that CLDR calls `name`, most common first."""
    return EVERYDAY.get(name, (name,))
