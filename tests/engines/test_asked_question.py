from pathlib import Path

from laco_engines.asked_question import AskedQuestion, about_every_picture


def test_marks_are_for_the_model_only():
    question = AskedQuestion("0", (Path("a"), Path("b")), ("a", "b"), "<image>\nFrom here to <image>?", "x")
    assert question.words == "From here to ?"


def test_right_is_the_same_text():
    question = AskedQuestion("0", (Path("a"),), ("a",), "?", "green ")
    assert question.is_right(" green\n") is True
    assert question.is_right("Green") is False
    assert AskedQuestion("0", (Path("a"),), ("a",), "?").is_right("green") is None


def test_every_question_about_every_picture():
    folder = Path("photos")
    asked = about_every_picture(["Who?", "Where?"], [folder / "a.png", folder / "b/c.png"], folder)
    assert [(question.names, question.text) for question in asked] == [
        (("a.png",), "Who?"),
        (("a.png",), "Where?"),
        (("b/c.png",), "Who?"),
        (("b/c.png",), "Where?"),
    ]
    assert len({question.id for question in asked}) == 4
    assert asked[2].pictures == (folder / "b/c.png",) and asked[0].truth is None
