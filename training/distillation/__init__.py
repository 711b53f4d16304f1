"""The stage ``distil``: a model that merges inside is taught to give the features that it gave before, on pictures
alone.

- :mod:`.recipe`: the keys that no other stage has;
- :mod:`.pooling`: a teacher's tokens as a merge's average would leave them;
- :mod:`.matching`: whether one model can teach another;
- :mod:`.losses`: how far a student's tokens are from a teacher's;
- :mod:`.pair`: a student and its teacher as one module.
"""
