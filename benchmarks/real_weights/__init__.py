"""What a conversion of a vision tower with pretrained weights costs, on pictures; ``real_tower.py`` runs it.

- :mod:`.labelled_pictures`: pictures of real things, each with its kind, as the encoder takes them;
- :mod:`.plain_conversions`: FP16 and INT8 as the field's own converters make them from the same FP32 graph;
- :mod:`.tower_runs`: features and block boundaries of a graph file, on ONNX Runtime or in half arithmetic;
- :mod:`.feature_scores`: cosines, neighbours kept and kinds read by a linear probe;
- :mod:`.score_table`: the scores as Markdown;
- :mod:`.block_chart`: errors by block as a picture.
"""
