"""Merging inside a model that reads already, and healing it; ``distillation.py`` runs it.

- :mod:`.tasks`: the pages: letters that fill a merge's window, and arrangements of four signs inside one;
- :mod:`.models`: parts, and the models that compress nothing or outside their encoder;
- :mod:`.compute`: the operations of a training step;
- :mod:`.arms`: what is done to a model, and how it reads afterwards;
- :mod:`.verdict`: from the arms of several seeds to a table, and whether the criteria hold;
- :mod:`.pictures`: accuracy over compute as a picture.
"""
