"""The small-scale reproduction of the paper's ordering; ``reproduce_ordering.py`` runs it."""
