"""Nouns out of captions, kinds out of folders."""

import pytest
from real_parts.captions import KIND_OF_FOLDER, KINDS, kind_of, noun_of, noun_phrase


@pytest.mark.parametrize(
    ("caption", "phrase", "noun"),
    [
        ("A great blue heron.", "a great blue heron", "heron"),
        ("An owl.", "an owl", "owl"),
        ("A pair of pants.", "pants", "pants"),
        ("A “Granny Smith” apple.", "a Granny Smith apple", "apple"),
        ("A peacock (a male peafowl).", "a peacock", "peacock"),
        ("A hoverfly resembles a honeybee drone.", "a hoverfly", "hoverfly"),
        ("The caboose—a carriage for the guard.", "the caboose", "caboose"),
        ("A birch at winter.", "a birch", "birch"),
        ("Two flowers.", "two flowers", "flowers"),
    ],
)
def test_the_noun_phrase_of_a_caption(caption, phrase, noun):
    assert noun_phrase("animals/unlisted", caption) == phrase
    assert noun_of(phrase) == noun


@pytest.mark.parametrize("caption", ["", "Eat it!", "Because it is there."])
def test_a_caption_that_names_nothing(caption):
    assert noun_phrase("animals/unlisted", caption) is None


def test_captions_that_name_nothing_are_listed_by_hand():
    assert noun_phrase("food/vegetables/broccoli", "Eat your broccoli!") == "broccoli"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("animals/birds/owl", "animal"),
        ("animals/mammals/bears/toys/edward_bear", "other"),
        ("food/fruit/cartoon/apple", "food"),
        ("plants/flowers/rose", "plant"),
        ("vehicles/auto/truck", "vehicle"),
        ("vehicles/wheel_tractor", "other"),
        ("military/vehicles/bradley", "vehicle"),
        ("military/paratrooper", "other"),
        ("town/houses/cartoon/inn", "building"),
        ("town/roadsigns/stop", "other"),
        ("seasonal/easter/chick", "animal"),
        ("a new folder/x", "other"),
    ],
)
def test_the_kind_is_the_longest_folders(name, kind):
    assert kind_of(name) == kind


def test_folders_stand_for_kinds():
    assert set(KIND_OF_FOLDER.values()) <= set(KINDS)
