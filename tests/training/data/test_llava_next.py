"""``like: llava-next`` against LLaVA-NeXT's preprocessing, written here from its published behaviour, token by token.

The reference knows nothing of this project: turns are tokenised one by one as its Qwen path does, ``<image>`` is cut
out of their text, and each picture is as many ignored labels as its architecture gives it embeddings.
"""

from random import Random

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from laco_export.errors import ConfigError
from laco_export.models import LacoProcessor
from laco_training.data.errors import SampleError
from laco_training.data.pictures import Pictures
from laco_training.data.samples import IGNORED, SampleEncoder

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>")
QUESTIONS = ("What is it?", " What\n\nis it?\n", "Is it a cat, or not?\n(A) yes\n(B) no", "\nAnd?")
ANSWERS = ("a cat", "\n\na cat\n", "yes.\n\nIt is a cat.", " no", "", "It says <|endoftext|>", "a\n")
WIDE, ONE_TILE, NEWLINE = 4 + 2 * (4 + 1), 4, 1
"""Embeddings: of 110 x 56 pixels as a base tile and two rows of two tiles, each row with a newline; of a tile."""


@pytest.fixture(scope="module")
def tokenizer():
    """A BPE as Qwen's is: newlines join to tokens of their own, and to the punctuation before them."""
    tokenizer = Tokenizer(models.BPE())
    split = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    texts = [*QUESTIONS, *ANSWERS, "system\nuser\nassistant\nYou are a helpful assistant."] * 3
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=SPECIAL[0], eos_token=SPECIAL[2])


@pytest.fixture(scope="module")
def processor(tokenizer, make_tiny_model):
    return LacoProcessor.for_model(make_tiny_model(tiling={"tile": 56}, token_layout="llava_onevision"), tokenizer)


@pytest.fixture
def pictures(tmp_path, make_picture):
    for name in "abc":
        make_picture(ord(name), (110, 56)).save(tmp_path / f"{name}.png")
    frames = [make_picture(number) for number in range(6)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:])
    return Pictures(tmp_path)


def drawn(random):
    """A sample as published data has them, oddities among them."""
    kind = random.choice(["text", "one", "one", "several", "video"])
    asked = [random.choice(QUESTIONS) for _ in range(random.randint(1, 3))]
    count = {"text": 0, "several": random.randint(2, 3)}.get(kind, 1)
    marked = random.choice(["<image>\n{}", "{}\n<image>", "See <image> here: {}"])
    if kind == "several":
        asked[0] = "<image>" * (count - 1) + asked[0]
        asked[-1] = marked.format(asked[-1])
    elif count:
        asked[0] = marked.format(asked[0])
    turns = []
    for question in asked:
        turns += [("human", question), ("gpt", random.choice(ANSWERS))]
    oddity = random.choice(["none", "none", "answer first", "two questions", "two answers", "text says <image>"])
    if oddity == "answer first":
        turns.insert(0, ("gpt", "Hello."))
    if oddity == "two questions":
        turns.insert(1, ("human", "Well?"))
    if oddity == "two answers":
        turns.append(("gpt", "Or a dog."))
    if oddity == "text says <image>" and not count:
        turns[0] = ("human", "What is <image> in HTML?")
    named = {"one": {"image": "a.png"}, "several": {"image": ["a.png", "b.png", "c.png"][:count]}}
    named["video"] = {"video": "clip.gif"}
    return {**named.get(kind, {}), "conversations": [{"from": speaker, "value": text} for speaker, text in turns]}


def embeddings_of(entry):
    """How many embeddings each picture of a sample has, the newlines at their ends among them."""
    if "video" in entry:
        return [6 * ONE_TILE + NEWLINE]
    names = entry.get("image", [])
    return [WIDE] if isinstance(names, str) else [ONE_TILE + NEWLINE] * len(names)


def expanded(ids, labels, embeddings, image_id):
    """Each mark (None) as its picture's tokens, which have no label."""
    embeddings, all_ids, all_labels = iter(embeddings), [], []
    for token, label in zip(ids, labels, strict=True):
        count = next(embeddings) if token is None else 1
        all_ids += [image_id] * count if token is None else [token]
        all_labels += [IGNORED] * count if token is None else [label]
    assert next(embeddings, None) is None
    return all_ids, all_labels


def tokens_with_marks(tokenizer, text, has_image):
    pieces = text.split("<image>") if has_image else [text]
    tokens = [tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in pieces]
    return [token for number, piece in enumerate(tokens) for token in ([None] if number else []) + piece]


def as_llava_next_does(tokenizer, entry):
    """``preprocess_multimodal`` and ``preprocess_qwen``, then the embeddings in their places."""
    has_image = "image" in entry or "video" in entry
    turns = [(turn["from"], turn["value"]) for turn in entry["conversations"]]
    if has_image:
        moved = lambda text: ("<image>\n" + text.replace("<image>", "").strip()).strip()
        turns = [(s, moved(t) if t.count("<image>") == 1 and not t.startswith("<image>") else t) for s, t in turns]
    if turns[0][0] != "human":
        turns = turns[1:]
    start, end, image_id = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>", "<|image_pad|>"])
    (newline,) = tokenizer("\n")["input_ids"]
    ids, labels = [], []
    for speaker, text in [("system", "You are a helpful assistant."), *turns]:
        role = {"human": "user", "gpt": "assistant"}.get(speaker, speaker)
        own = tokens_with_marks(tokenizer, f"<|im_start|>{role}\n{text}<|im_end|>\n", has_image)
        ids += own
        labels += own if role == "assistant" else [IGNORED] * len(own)
    labels = [token if token in (newline, start, end) else label for token, label in zip(ids, labels)]
    return expanded(ids, labels, embeddings_of(entry), image_id)


def test_two_hundred_samples_have_llava_nexts_tokens_and_labels(processor, tokenizer, pictures):
    encoder, random = SampleEncoder(processor, like="llava-next"), Random(0)
    entries = [drawn(random) for _ in range(200)]
    assert {str(entry.get("image", entry.get("video"))) for entry in entries} > {"a.png", "clip.gif", "None"}
    for entry in entries:
        sample, _ = encoder(entry, pictures)
        ids, labels = as_llava_next_does(tokenizer, entry)
        assert sample["input_ids"].tolist() == ids, entry
        assert sample["labels"].tolist() == labels, entry


def test_a_caption_has_llava_nexts_tokens_and_labels(tokenizer, make_tiny_model, pictures, make_turns):
    """``preprocess_plain``; its first stage has no newlines at pictures' ends."""
    encoder = SampleEncoder(LacoProcessor.for_model(make_tiny_model(), tokenizer), plain=True, like="llava-next")
    image_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    for caption in ANSWERS:
        entry = {"image": "a.png", "conversations": make_turns("<image>\nDescribe it.", caption)}
        counted = tokenizer(caption + "\n")["input_ids"]
        sample, _ = encoder(entry, pictures)
        assert sample["input_ids"].tolist() == [image_id] * ONE_TILE + counted
        assert sample["labels"].tolist() == [IGNORED] * ONE_TILE + counted
    for turns in (make_turns("Describe it.", "a"), make_turns("<image>", "a", "b", "c")):
        with pytest.raises(SampleError):
            encoder({"image": "a.png", "conversations": turns}, pictures)


def test_a_picture_that_is_null_is_lost_and_one_that_is_not_named_is_text(processor, pictures, make_turns):
    encoder, turns = SampleEncoder(processor, like="llava-next"), make_turns("<image>\nWhat?", "a cat")
    assert "pixel_values" not in encoder({"conversations": turns}, pictures)[0]
    with pytest.raises(SampleError) as raised:
        encoder({"image": None, "conversations": turns}, pictures)
    assert raised.value.cause == "mark and no picture"


def test_another_chat_format_is_refused(tokenizer, make_tiny_model):
    from laco_export.chat_format import ChatFormat, RoleFormat

    other = ChatFormat(user=RoleFormat("USER: ", " "), answer_end="<|im_end|>")
    processor = LacoProcessor.for_model(make_tiny_model(), tokenizer, chat_format=other)
    with pytest.raises(ConfigError, match="needs a language model whose chat format is ChatML"):
        SampleEncoder(processor, like="llava-next")
