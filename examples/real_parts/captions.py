"""What a stamp shows: the noun in its caption and the kind that its folder stands for.

A caption is the first line of the ``.txt`` beside the picture, a short English sentence: ``A great blue heron.``. Its
noun phrase is what follows the article up to the first punctuation or to a word that begins a clause. Captions that
name nothing ("Eat your broccoli!") and pictures that stand in a folder of another kind are listed by hand: the package
is pinned, so the lists fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

KINDS = ("animal", "food", "plant", "vehicle", "building", "other")

KIND_OF_FOLDER: Mapping[str, str] = {
    "animals": "animal",
    "animals/insects/cartoon/wings": "other",
    "animals/mammals/bears/cartoon": "other",  # teddy bears
    "animals/mammals/bears/toys": "other",
    "food": "food",
    "plants": "plant",
    "plants/trees/rambutan": "food",  # the fruits
    "vehicles": "vehicle",
    "vehicles/7spoke256": "other",  # wheels and signs
    "vehicles/wheel_tractor": "other",
    "vehicles/locomotive/cartoon/trainSign": "other",
    "military/vehicles": "vehicle",
    "town/houses": "building",
    "town/houses/cartoon/cave_entrance": "other",
    "town/cartoon/ruins": "building",
    "town/cartoon/watch_tower": "building",
    "town/monuments/cartoon/eiffel_tower": "building",
    "town/monuments/cartoon/pyramid": "building",
    "seasonal/christmas/Christmas_Tree_photo": "plant",
    "seasonal/christmas/tree": "plant",
    "seasonal/christmas/Candy_cane_photo_1": "food",
    "seasonal/christmas/Candy_cane_photo_2": "food",
    "seasonal/christmas/Christmas_pudding": "food",
    "seasonal/christmas/Mince_Pie": "food",
    "seasonal/christmas/Roast_turkey": "food",
    "seasonal/christmas/candy_cane": "food",
    "seasonal/christmas/hard_candy": "food",
    "seasonal/easter": "animal",  # rabbits, chicks, a butterfly
    "seasonal/easter/daffodil": "plant",
    "seasonal/easter/wrapped_chocolate_easter_egg": "food",
    "seasonal/easter/wrapped_chocolate_easter_egg_2": "food",
    "seasonal/halloween/bat_left": "animal",
    "seasonal/halloween/blackcat": "animal",
    "seasonal/halloween/spider": "animal",
}
"""A folder, or one picture in it → kind; the longest that fits holds, and "other" where none does."""

NOUN_PHRASES: dict[str, str] = {
    "animals/birds/cartoon/penguin_with_spider": "a penguin",
    "animals/birds/cartoon/pengwin": "a penguin",
    "animals/birds/cartoon/tux": "a penguin",
    "animals/fish/bluegroper": "a blue groper",
    "animals/fish/lionfish": "a lionfish",
    "animals/mammals/bears/cartoon/teddy_bear": "a teddy bear",
    "animals/mammals/bears/toys/edward_bear": "a teddy bear",
    "animals/mammals/bovines/gnu-baby": "a gnu",
    "animals/mammals/bovines/gnu-baby-stand": "a gnu",
    "animals/mammals/bovines/sheep_lamb": "a lamb",
    "animals/mammals/hippopotamus": "a hippopotamus",
    "food/fruit/Cherry_Stella": "cherries",
    "food/pizza": "a pizza",
    "food/spices/ginger": "a ginger root",
    "food/vegetables/broccoli": "broccoli",
    "food/vegetables/corn": "corn",
    "food/vegetables/garlics": "garlic",
    "food/vegetables/lettuce": "lettuce",
    "food/vegetables/redlettuce": "lettuce",
    "food/vegetables/tomato": "a red tomato",
    "household/dishes/cartoon/pasta_pot": "a large pot",
    "household/toilet": "a toilet",
    "household/tools/measuring_tape": "a measuring tape",
    "household/wheelie_bin": "a wheelie bin",
    "medical/stethoscope": "a stethoscope",
    "military/ammunition/old_naval_shell": "a shell",
    "military/final-roll-call": "a helmet",
    "military/vehicles/bradley": "a tank",
    "military/vehicles/f22_raptor": "a fighter jet",
    "military/vehicles/infantry-stryker": "a tank",
    "military/vehicles/ww2_german_gun": "a tank",
    "naturalforces/explosion": "an explosion",
    "naturalforces/fire": "fire",
    "people/toys/grannysmith": "a doll",
    "plants/flowers/adeenia": "a desert rose",
    "plants/flowers/anthoorium": "an anthurium",
    "plants/flowers/appooppanthady": "a milkweed",
    "plants/flowers/bolsom": "a balsam",
    "plants/flowers/chemparathi": "a hibiscus",
    "plants/flowers/flower10": "a hibiscus",
    "plants/flowers/plastic/chuvanna_plastic_poo": "a flower",
    "plants/lavender": "lavender",
    "plants/mushrooms/cep-2": "a cep",
    "plants/thyme": "thyme",
    "plants/trees/holly_leaves": "holly leaves",
    "plants/trees/rambutan": "a rambutan",
    "seasonal/christmas/German_Christmas_toy": "a wooden toy",
    "seasonal/christmas/Roast_turkey": "a roast turkey",
    "seasonal/christmas/Santa": "Santa Claus",
    "seasonal/christmas/hard_candy": "candy",
    "seasonal/halloween/grave-h": "a tombstone",
    "seasonal/newyears/confetti": "confetti",
    "seasonal/newyears/fireworks": "fireworks",
    "seasonal/newyears/fireworks2": "fireworks",
    "space/spacewalk": "an astronaut",
    "space/planets/1_mercury": "Mercury",
    "space/planets/2_venus": "Venus",
    "space/planets/4_mars": "Mars",
    "space/planets/5_jupiter": "Jupiter",
    "space/planets/6_saturn": "Saturn",
    "space/planets/7_uranus": "Uranus",
    "space/planets/8_neptune": "Neptune",
    "space/planets/9_pluto": "Pluto",
    "sports/australian_rules_football": "a football",
    "sports/cartoon/football_helmet_front": "a football helmet",
    "sports/cartoon/football_helmet_side": "a football helmet",
    "sports/rugby_goal_posts": "goal posts",
    "town/cartoon/docks": "docks",
    "town/cartoon/fountain": "a fountain",
    "town/houses/cartoon/cathedral": "a cathedral",
    "town/houses/cartoon/cave_entrance": "a cave",
    "town/houses/cartoon/circus": "a circus tent",
    "town/houses/cartoon/hunter": "a house",
    "town/monuments/cartoon/magic_stones": "stones",
    "town/monuments/cartoon/sword_in_the_stone": "a sword",
    "vehicles/7spoke256": "a wheel",
    "vehicles/auto/beetle": "a car",
    "vehicles/auto/sedan": "a car",
    "vehicles/farming/cartoon/tux_tractor": "a tractor",
    "vehicles/flight/cartoon/eddieCopter": "a helicopter",
    "vehicles/flight/planes/cartoon/plane": "an airplane",
    "vehicles/locomotive/cartoon/tanker": "a tank car",
    "vehicles/ship/cartoon/bathyscape": "a submarine",
}
_ROAD_SIGNS = """
    arrow crossroads dead_end_sign give_way_sign hospital no_entry_sign no_uturn railroad_crossing roundabout
    school_sign stop t-junction toilets xing_ped xing_school yield
"""
NOUN_PHRASES |= {f"town/roadsigns/{name}": "a road sign" for name in _ROAD_SIGNS.split()}
NOUN_PHRASES |= {f"town/roadsigns/stoplight_{name}": "a traffic light" for name in ("01_red", "02_yellow", "03_green")}
"""Picture → its noun phrase where the caption does not begin with one."""

_ARTICLE = r"(?:an?|the|some|two|our)"
_MEASURE = r"(?:an? (?:pair|couple|bunch|cluster) of )?"
_CLAUSE = (
    r" (?:is|are|as|at|by|carries|covered|dancing|from|hatched|in|inside|lets|of|on|playing|resembles|that|with)\b"
)
_PHRASE = re.compile(rf"{_MEASURE}((?:{_ARTICLE} )?.+?)(?={_CLAUSE}|[.!?,;:(—]|$)", re.IGNORECASE)


def noun_phrase(name: str, caption: str) -> str | None:
    """What the picture ``name`` shows, with its article: ``a great blue heron``; None where nothing says it."""
    if name in NOUN_PHRASES:
        return NOUN_PHRASES[name]
    match = _PHRASE.match(caption)
    if not match or not re.match(rf"{_ARTICLE} ", caption, re.IGNORECASE):
        return None
    phrase = re.sub(r"[“”\"']", "", match[1]).strip()
    return phrase[:1].lower() + phrase[1:]


def noun_of(phrase: str) -> str:
    """The last word of a noun phrase, in small letters: ``heron``."""
    return phrase.split()[-1].lower()


def kind_of(name: str) -> str:
    """One of :data:`KINDS`, by the longest entry of :data:`KIND_OF_FOLDER` that is the picture or a folder above it."""
    parts = name.split("/")
    for length in range(len(parts), 0, -1):
        if kind := KIND_OF_FOLDER.get("/".join(parts[:length])):
            return kind
    return "other"
