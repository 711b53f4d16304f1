"""The bytes that a token stands for, of byte-level tokenizers and of SentencePiece's.

A token's text says less: several tokens may make one character, and a decoder takes the space off the first word.
"""

from __future__ import annotations

import re

from tokenizers import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""SentencePiece's name of a byte."""

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""SentencePiece's space."""


class TokenBytes:
    """Looks tokens' bytes up.

    Args:
        tokenizer: the bundle's.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._added = tokenizer.get_added_tokens_decoder()
        byte_level = b"ByteLevel" in tokenizer.decoder.__getstate__() if tokenizer.decoder is not None else False
        self._byte_of = _byte_characters() if byte_level else None

    def __getitem__(self, token_id: int) -> bytes:
        """Of a row without a token: none."""
        if token_id in self._added:
            return self._added[token_id].content.encode()
        name = self._tokenizer.id_to_token(token_id) or ""
        if self._byte_of is not None:
            return bytes(self._byte_of[character] for character in name)
        if match := _BYTE.fullmatch(name):
            return bytes([int(match[1], 16)])
        return name.replace(_SPACE, " ").encode()


def _byte_characters() -> dict[str, int]:
    """The characters by which byte-level tokenizers spell bytes: printable ones by themselves, the others by those from
    U+0100 on, in their order (GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}
