import pytest

from laco_engines.report import number_words


@pytest.mark.parametrize(
    ("spell", "value", "words"),
    [
        ("percent", 0.9734, "97.3 %"),
        ("percent", 1, "100.0 %"),
        ("signed_points", -1.24, "−1.2"),
        ("signed_points", 0.31, "+0.3"),
        ("signed_points", -0.04, "0.0"),
        ("milliseconds", 1234.4, "1,234 ms"),
        ("milliseconds", 123.4, "123 ms"),
        ("milliseconds", 99.96, "100.0 ms"),
        ("milliseconds", 12.34, "12.3 ms"),
        ("milliseconds", 0.0412, "0.041 ms"),
        ("byte_size", 2_312_000_000, "2.31 GB"),
        ("byte_size", 999_800_000, "1,000 MB"),
        ("byte_size", 480_200_000, "480 MB"),
        ("byte_size", 12_340, "12.3 kB"),
        ("byte_size", 12, "12 bytes"),
        ("byte_size", 1_234_000_000_000, "1,234 GB"),
        ("whole", 12345, "12,345"),
        ("ratio", 2.314, "2.31 ×"),
        ("rate", 1234.5, "1,234"),
        ("rate", 12.34, "12.3"),
        ("billions", 123.4e9, "123"),
        ("billions", 1496.2e9, "1,496"),
        ("billions", 10.806e9, "10.8"),
        ("small", 0.012345, "0.0123"),
    ],
)
def test_numbers_in_words(spell, value, words):
    assert number_words.SPELLINGS[spell](value) == words
