"""The tiny recipe's own material: drawn pictures, their questions, a small tokenizer, and stage 0.

``laco-train --recipe tiny`` uses it to start from nothing; the real sizes start from published encoders and LLMs. In
reading order:

- :mod:`.recipe`: the recipe's section ``tiny``;
- :mod:`.start`: what is made before stage 1, part by part;
- :mod:`.dataset`: the drawn data on disk;
- :mod:`.scene`: what a drawn sample is;
- :mod:`.shapes`: coloured shapes;
- :mod:`.writing`: a word, a number, or a page of them;
- :mod:`.charts`: bar charts;
- :mod:`.texts`: which words and numbers are written, and which are held out;
- :mod:`.words`: the list of words;
- :mod:`.conversations`: drawn samples as LLaVA's JSON;
- :mod:`.descriptions`: words that stand in for a picture;
- :mod:`.tokenizer`: a small tokenizer with Qwen2.5's special tokens;
- :mod:`.optimizers`: stage 0's optimiser and its batches;
- :mod:`.encoder_pretraining`: stage 0 of the encoder;
- :mod:`.language_pretraining`: stage 0 of the language model.
"""
