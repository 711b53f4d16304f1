"""What a bundle's drift comes from: each part of it switched to a reference's and back, on the same pictures.

In reading order:

- :mod:`.attributing`: from two bundles and questions to what each part costs;
- :mod:`.reference`: whether a bundle can be the reference of another;
- :mod:`.drift_questions`: what is asked;
- :mod:`.switched_bundle`: both bundles, loaded in parts;
- :mod:`.tower_parts`: the vision tower's parts, by its block boundaries;
- :mod:`.graph_segments`: a vision graph cut at boundaries;
- :mod:`.segmented_tower`: the segments of one graph, loaded;
- :mod:`.switched_tower`: features by segments of either graph;
- :mod:`.switched_answers`: what either language model says on them;
- :mod:`.losses`: what an answer lost, as numbers that add up;
- :mod:`.shares`: each part's share of what was lost, and the rest;
- :mod:`.waterfall`: the shares as a chart.
"""
