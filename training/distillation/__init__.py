"""The stage ``distil``: a model that merges inside is taught to give the features that it gave before, on pictures
alone.

- :mod:`.recipe`: the keys that no other stage has;
- :mod:`.stage`: from a teacher's checkpoint to its student's;
- :mod:`.student`: the two from their folders, and the student back into one;
- :mod:`.data`: the pictures to train on, and those held out;
- :mod:`.trainer`: HF's Trainer on pictures, in two phases;
- :mod:`.plan`: what the stage would do;
- :mod:`.price`: what a merge costs in features, on the pictures held out;
- :mod:`.pair`: a student and its teacher as one module;
- :mod:`.matching`: whether one model can teach another;
- :mod:`.pooling`: a teacher's tokens as a merge's average would leave them;
- :mod:`.predictions`: what the language model predicts behind a picture;
- :mod:`.losses`: how far a student's tokens are from a teacher's.
"""
