"""The tokens of a bundle's chat format: its tokenizer has them, and no text from outside may spell them."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from laco_export.bundle import Decoder
from laco_export.chat_format import ChatFormat
from laco_export.conversation import check_plain, forging_tokens, special_pattern
from laco_export.errors import BundleError

from .bundle_tokenizer import token_ids

_TODO = "export the bundle again from a checkpoint whose tokenizer is its own"


class FormatTokens:
    """What a chat format means in a tokenizer.

    Attributes:
        begin_ids: what the tokenizer itself puts before a conversation.
        special_ids: ids of its special tokens, and of those that would end or forge a turn.
        forging: matches the names of the latter.

    Raises:
        BundleError: the tokenizer ``path`` has not the tokens that the format names.
    """

    def __init__(self, tokenizer: Tokenizer, chat_format: ChatFormat, decoder: Decoder, path: Path):
        self._tokenizer, self._path = tokenizer, path
        self._check_image_token(chat_format.image_token, decoder)
        self.begin_ids = self._ids_of_begin(chat_format.begin_token)
        added = tokenizer.get_added_tokens_decoder()
        names = forging_tokens(added, chat_format, decoder.eos_token_ids)
        self.forging = special_pattern(names)
        self.special_ids = {index for index, token in added.items() if token.special or token.content in names}
        self._are_normalised = any(token.normalized for token in added.values() if token.content in names)

    def check_plain(self, text: str, what: str) -> None:
        """Refuse a text that spells one of them, or would after the tokenizer's normalisation (of full-width letters).

        Raises:
            UsageError: it does; ``what`` names the text.
        """
        check_plain(text, what, self.forging)
        if self._are_normalised and self._tokenizer.normalizer is not None:
            check_plain(self._tokenizer.normalizer.normalize_str(text), what, self.forging)

    def _ids_of_begin(self, token: str) -> list[int]:
        index = self._tokenizer.token_to_id(token) if token else None
        if token and index is None:
            raise BundleError(
                f"the tokenizer '{self._path}' does not have the token {token}, with which conversations begin",
                todo=_TODO,
            )
        return [] if index is None else [index]

    def _check_image_token(self, image_token: str, decoder: Decoder) -> None:
        ids = token_ids(self._tokenizer, image_token, decoder.vocab_size).tolist()
        if ids != [decoder.image_token_id]:
            gives = self._tokenizer.token_to_id(image_token) is not None
            raise BundleError(
                f"the tokenizer '{self._path}' {'gives' if gives else 'does not have'} the image token {image_token}"
                + (" another id than the manifest" if gives else ""),
                given=f"{image_token} becomes {ids}",
                allowed=f"the manifest's image_token_id: {decoder.image_token_id}",
                todo=_TODO,
            )
