"""What is wrong with a sample, by the names that samples are counted and logged by.

An odd sample is mended and used (:mod:`.mending`), a broken one is skipped and another takes its place.
"""

OTHER_SPELLING = "another spelling of its turns"
ANSWER_FIRST = "answer first"
SAME_SPEAKER = "two turns of one speaker"
PICTURE_WITHOUT_MARK = "picture without a mark"
MARK_REPEATED = "mark repeated"
NULL_PICTURE = "null among its pictures"
WINDOWS_PATH = "Windows path"
SPECIAL_TOKEN_IN_TEXT = "special token in its text"
ODDITIES = (
    OTHER_SPELLING,
    ANSWER_FIRST,
    SAME_SPEAKER,
    PICTURE_WITHOUT_MARK,
    MARK_REPEATED,
    NULL_PICTURE,
    WINDOWS_PATH,
    SPECIAL_TOKEN_IN_TEXT,
)
"""What may be odd about a sample that is used."""

NO_CONVERSATION = "no conversation"
NO_TEXT = "turn without text"
UNKNOWN_SPEAKER = "unknown speaker"
LATE_SYSTEM_LINE = "system line in mid-conversation"
NO_ANSWER = "no answer"
EMPTY_ANSWER = "empty answer"
LOST_PICTURE = "mark and no picture"
UNREADABLE_PICTURE = "picture cannot be read"
UNREADABLE_VIDEO = "video cannot be read"
IMAGE_TOKEN = "image token in its text"
TOO_LONG = "no answer within max_length"
OTHER_CAUSE = "another cause"
CAUSES = (
    NO_CONVERSATION,
    NO_TEXT,
    UNKNOWN_SPEAKER,
    LATE_SYSTEM_LINE,
    NO_ANSWER,
    EMPTY_ANSWER,
    LOST_PICTURE,
    UNREADABLE_PICTURE,
    UNREADABLE_VIDEO,
    IMAGE_TOKEN,
    TOO_LONG,
    OTHER_CAUSE,
)
"""Why samples cannot be used."""
