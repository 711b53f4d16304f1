"""What becomes of published data's oddities, one by one; and thousands of them, counted exactly by cause."""

from collections import Counter
from functools import cache

import pytest

from laco_training.data import open_dataset
from laco_training.data.causes import CAUSES, ODDITIES
from laco_training.data.errors import SampleError
from laco_training.data.mending import read_conversation

ASKED = {"from": "human", "value": "<image>\nWhat?"}
ANSWERED = {"from": "gpt", "value": "a cat"}
READ = [("user", "<image>\nWhat?"), ("assistant", "a cat")]
PARTS = [{"type": "image"}, {"type": "text", "text": "What?"}]


@pytest.mark.parametrize(
    ("changes", "causes", "turns"),
    [
        ({}, set(), READ),
        ({"conversations": [ANSWERED, ASKED, ANSWERED]}, {"answer first"}, READ),
        ({"conversations": [ANSWERED, ANSWERED, ASKED, ANSWERED]}, {"answer first"}, READ),
        (
            {"conversations": [ASKED, {"from": "human", "value": "Well?"}, ANSWERED]},
            {"two turns of one speaker"},
            [("user", "<image>\nWhat?\nWell?"), ("assistant", "a cat")],
        ),
        (
            {"conversations": [ASKED, ANSWERED, {"from": "gpt", "value": "or a dog"}]},
            {"two turns of one speaker"},
            [READ[0], ("assistant", "a cat\nor a dog")],
        ),
        (
            {"conversations": [{"role": "user", "content": PARTS}, {"role": "assistant", "content": "a cat"}]},
            {"another spelling of its turns"},
            READ,
        ),
        (
            {"conversations": None, "messages": [{"role": "User", "content": "<image>\nWhat?"}, ANSWERED]},
            {"another spelling of its turns"},
            READ,
        ),
        (
            {"conversations": [ASKED, {"from": "chatgpt", "value": "a cat"}]},
            {"another spelling of its turns"},
            READ,
        ),
        ({"system": "Be brief."}, {"another spelling of its turns"}, [("system", "Be brief."), *READ]),
        ({"system": ""}, set(), READ),
    ],
)
def test_turns_are_mended(changes, causes, turns):
    odd = set()
    entry = {"image": "a.png", "conversations": [ASKED, ANSWERED], **changes}
    assert read_conversation(entry, odd).turns == turns
    assert odd == causes <= set(ODDITIES)


@pytest.mark.parametrize(
    ("named", "asked", "shown", "causes"),
    [
        ({"image": ["a.png"]}, "<image>\nWhat?", ["a.png"], set()),
        ({"image": None, "images": ["a.png"]}, "<image>\nWhat?", ["a.png"], set()),
        ({"image": None}, "What?", [], set()),
        ({"image": [None, "a.png"]}, "<image>\nWhat?", ["a.png"], {"null among its pictures"}),
        ({"image": "a.png"}, "What?", [], {"picture without a mark"}),
        ({"image": ["a.png", "b.png"]}, "<image>\nWhat?", ["a.png"], {"picture without a mark"}),
        ({"image": "a.png"}, "<image>\nWhat? <image>", ["a.png"] * 2, {"mark repeated"}),
        ({"image": ["a.png", "b.png"]}, "<image><image><image>?", ["a.png", "b.png", "b.png"], {"mark repeated"}),
        ({"image": "coco\\train\\a.png"}, "<image>\nWhat?", ["coco/train/a.png"], {"Windows path"}),
        (
            {"image": {"bytes": None, "path": "coco\\a.png"}},
            "<image>\nWhat?",
            [{"bytes": None, "path": "coco/a.png"}],
            {"Windows path"},
        ),
    ],
)
def test_pictures_fit_their_marks(named, asked, shown, causes, make_turns):
    odd = set()
    conversation = read_conversation({**named, "conversations": make_turns(asked, "a cat")}, odd)
    assert conversation.images == shown and odd == causes


def test_a_videos_frames_with_windows_paths(make_turns):
    odd = set()
    entry = {"video": ["clip\\1.png", "clip\\2.png"], "conversations": make_turns("<image>\nWhat?", "it moves")}
    assert read_conversation(entry, odd).videos == [["clip/1.png", "clip/2.png"]] and odd == {"Windows path"}


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"conversations": []}, "no conversation"),
        ({"conversations": [ASKED, {"from": "gpt"}]}, "turn without text"),
        ({"conversations": [ASKED, {"from": "robot", "value": "b"}]}, "unknown speaker"),
        ({"conversations": [ASKED, {"from": "system", "value": "b"}]}, "system line in mid-conversation"),
        ({"conversations": [ANSWERED, ASKED]}, "no answer"),
        ({"conversations": [ASKED, {"from": "gpt", "value": " \n"}]}, "empty answer"),
        ({"image": None}, "mark and no picture"),
    ],
)
def test_what_breaks_a_sample(changes, cause):
    with pytest.raises(SampleError) as raised:
        read_conversation({"image": "a.png", "conversations": [ASKED, ANSWERED], **changes}, set())
    assert raised.value.cause == cause in CAUSES


def planted(make_turns):
    """``{cause: sample}``: what is planted into data for each cause that a reader can meet."""
    asked = lambda *texts, image="a.png": {"image": image, "conversations": make_turns(*texts)}
    whole = asked("<image>\nWhat?", "a cat")
    both = whole["conversations"]
    return {
        "another spelling of its turns": {
            "image": "a.png",
            "conversations": [{"role": "user", "content": "<image>\nWhat?"}, {"role": "assistant", "content": "a"}],
        },
        "answer first": {"image": "a.png", "conversations": [both[1], *both]},
        "two turns of one speaker": {"image": "a.png", "conversations": [both[0], make_turns("Well?")[0], both[1]]},
        "picture without a mark": asked("What?", "a cat"),
        "mark repeated": asked("<image>\n<image>\nWhat?", "a cat"),
        "null among its pictures": asked("<image>\nWhat?", "a cat", image=["a.png", None]),
        "Windows path": asked("<image>\nWhat?", "a cat", image=".\\a.png"),
        "special token in its text": asked("<image>\nWhat?", "a <|endoftext|> cat<|im_end|>"),
        "no conversation": {"image": "a.png", "conversations": None},
        "turn without text": {"image": "a.png", "conversations": [both[0], {"from": "gpt", "value": None}]},
        "unknown speaker": {"image": "a.png", "conversations": [both[0], {"from": "tool", "value": "b"}]},
        "system line in mid-conversation": {
            "image": "a.png",
            "conversations": [both[0], {"from": "system", "value": "b"}, both[1]],
        },
        "no answer": {"image": "a.png", "conversations": both[:1]},
        "empty answer": asked("<image>\nWhat?", ""),
        "mark and no picture": asked("<image>\nWhat?", "a cat", image=None),
        "picture cannot be read": asked("<image>\nWhat?", "a cat", image="gone.png"),
        "video cannot be read": {"video": "gone.mp4", "conversations": make_turns("<video>\nWhat?", "it")},
        "image token in its text": asked("<image>\nWhat?", "an <|image_pad|>"),
    }


def test_five_thousand_oddities_are_counted_exactly_by_cause(tmp_path, processor, make_turns, write_json):
    """One sample in two of JSON lines is odd or broken; what is counted is what was planted, cause by cause."""
    kinds = planted(make_turns)
    assert set(kinds) == {*ODDITIES, *CAUSES} - {"no answer within max_length", "another cause"}
    causes = [cause for number, cause in enumerate(kinds) for _ in range(269 + number)]
    causes += ["empty answer"] * (5000 - len(causes))
    assert len(causes) == 5000
    entries = [kinds[cause] for cause in causes] + [{"conversations": make_turns("hi", "yo")}] * 5000
    order = sorted(range(len(entries)), key=lambda index: index * 7919 % 10007)  # spread over the file
    path = write_json([{"id": str(index), **entries[index]} for index in order], "data.jsonl")
    dataset = open_dataset(path, processor)
    for pictures in dataset._pictures:  # all name one picture: it is decoded once
        pictures.picture = cache(pictures.picture)
    seen = Counter()
    for index in range(len(dataset)):
        notes = dataset.alone(index)["notes"]
        (name,) = notes.ids or [sample.id for sample in notes.broken]
        assert notes.complete == (not notes.broken) and bool(notes.odd or notes.broken) == (int(name) < 5000)
        seen.update([cause for sample in notes.odd for cause in sample.causes])
        seen.update(sample.cause for sample in notes.broken)
    assert seen == Counter(causes)
