"""Sheets of pictures: where the cells are, and that nothing is drawn over a neighbour."""

import numpy as np
import pytest
from PIL import Image

from laco_export.contact_sheet import MARGIN, SIDE, SheetCell, answer_cell, draw_sheet


def cell(colour, text="red", *, is_right=True, pictures=1):
    return SheetCell([Image.new("RGB", (30, 20), colour)] * pictures, "What colour?", text, is_right)


def test_cells_stand_in_reading_order():
    sheet = draw_sheet([cell("red"), cell("lime"), cell("blue")], columns=2)
    pitch = sheet.height // 2
    centres = [(MARGIN + SIDE // 2, MARGIN + SIDE // 2)]
    centres += [(centres[0][0] + SIDE + MARGIN, centres[0][1]), (centres[0][0], centres[0][1] + pitch - MARGIN // 2)]
    assert [sheet.getpixel(centre) for centre in centres] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


@pytest.mark.parametrize(("is_right", "channel"), [(True, 1), (False, 0)])
def test_the_text_is_green_where_it_is_right_and_red_where_not(is_right, channel):
    below = np.asarray(draw_sheet([cell("white", "words", is_right=is_right)]), int)[MARGIN + SIDE + 43 :]
    inked = below[below.sum(-1) < 400]
    assert len(inked) > 20
    assert inked.mean(0).argmax() == channel


def test_a_cell_is_as_large_as_the_largest_needs():
    usual, wide, tall = (draw_sheet([cell("red"), cell("red", text, pictures=n)]) for text, n in USUAL_WIDE_TALL)
    assert wide.width - usual.width == 6 * SIDE and wide.height == usual.height
    assert tall.height > usual.height and tall.width == usual.width


USUAL_WIDE_TALL = (("red", 1), ("red", 2), ("red\nblue", 1))


def test_words_stay_inside_their_cell():
    long = cell("red", "many words that go on and on " * 20)
    with_neighbour = np.asarray(draw_sheet([long, cell("red", "")], columns=2))
    left, alone = MARGIN + SIDE, np.asarray(draw_sheet([cell("red", ""), cell("red", "")], columns=2))
    assert (with_neighbour[:, left:] == alone[:, left:]).all()


def test_an_answer_that_is_wrong_tells_the_right_one():
    picture = Image.new("RGB", (4, 4))
    assert answer_cell(picture, "What?", "cat", "dog").text == "cat (truth: dog)"
    assert answer_cell(picture, "What?", "dog", "dog") == SheetCell([picture], "What?", "dog", True)
