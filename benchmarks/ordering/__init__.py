"""The small-scale reproduction of the paper's ordering; ``reproduce_ordering.py`` runs it.

- :mod:`.pages`: pages of letters to read;
- :mod:`.reader`: what is asked about a page, and how many letters a model reads;
- :mod:`.pretraining`: an encoder and a small decoder, before the arms;
- :mod:`.arms`: the same start, batches and steps, each with a merge of its own;
- :mod:`.verdict`: from the arms of several seeds to a table and what it shows;
- :mod:`.pictures`: the curves as pictures.
"""
