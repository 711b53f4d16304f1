"""From pictures, videos and words to what the model reads. No torch.

In reading order:

- :mod:`.processor_fields`: what the checkpoint's processor says of prompts;
- :mod:`.visuals`: pictures and videos as the encoder's input;
- :mod:`.context`: turns, and fitting a conversation into the model's context;
- :mod:`.bundle_tokenizer`: the bundle's tokenizer, held to its model and bounded;
- :mod:`.format_tokens`: the chat format's tokens, which no text from outside may spell;
- :mod:`.turns`: a conversation's turns, and their tokens as of the whole text;
- :mod:`.prompter`: a conversation as token ids with the places of its visual embeddings.
"""
