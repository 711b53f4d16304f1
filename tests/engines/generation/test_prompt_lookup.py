"""What is copied as a draft."""

from laco_engines.generation.prompt_lookup import LONGEST_MATCH, NgramIndex


def test_what_followed_the_last_tokens_is_the_draft():
    draft = NgramIndex([1, 2, 3, 4, 5, 6, 9, 1, 2, 3]).draft(3)
    assert (draft.token_ids, draft.match) == ((4, 5, 6), 3)


def test_new_text_gives_no_draft():
    for tokens in ([], [7], [1, 2, 3, 1, 4], list(range(20))):
        assert NgramIndex(tokens).draft(4).token_ids == ()


def test_three_tokens_count_before_two_that_are_later():
    assert NgramIndex([1, 2, 3, 4, 8, 2, 3, 5, 1, 2, 3]).draft(1).token_ids == (4,)


def test_the_latest_place_counts():
    assert NgramIndex([1, 2, 3, 8, 1, 2, 4, 9, 1, 2]).draft(2).token_ids == (4, 9)


def test_what_repeats_goes_on_repeating():
    assert NgramIndex([5, 1, 2, 3, 1, 2, 3]).draft(7).token_ids == (1, 2, 3, 1, 2, 3, 1)
    assert NgramIndex([4, 4, 4]).draft(3).token_ids == (4, 4, 4)


def test_a_match_is_as_long_as_what_is_the_same():
    copied = list(range(30))
    index = NgramIndex([*copied, 99, 98])
    matches = []
    for token in copied[:20]:
        index.add(token)
        matches.append(index.draft(1).match)
    assert matches[:4] == [0, 2, 3, 4]
    assert matches[-1] == LONGEST_MATCH


def test_tokens_that_are_added_are_looked_up_too():
    index = NgramIndex([1, 2])
    for token in (3, 9, 1, 2):
        index.add(token)
    assert index.draft(2).token_ids == (3, 9)
    assert [index[position] for position in range(3)] == [1, 2, 3]
