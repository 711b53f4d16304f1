"""The words that are kept from training."""

from laco_training.tiny.texts import held_out_words


def test_the_held_out_words_do_not_depend_on_the_seed():
    words = held_out_words()
    assert len(words) > 50
    assert words == held_out_words()
