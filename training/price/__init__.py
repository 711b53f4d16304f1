"""``laco-train price``: what merging inside the encoder costs on somebody's own pictures.

- :mod:`.samples`: pictures, each with a question;
- :mod:`.refusals`: which checkpoints can be compared, asked before PyTorch is imported;
- :mod:`.subjects`: the models that are compared, from one checkpoint or from two;
- :mod:`.measurement`: features, answers and times of each;
- :mod:`.report`: the prices as a table, a JSON document, and sheets of the worst pictures.
"""
