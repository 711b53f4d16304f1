import numpy as np, onnx, pytest
from laco_export.bundle import open_bundle, read_manifest

def test_look(bundle_folder, planted, bundle, tmp_path):
    from laco_engines.attribution.attributing import attribute_drift
    from laco_engines.attribution.switched_bundle import AttributionOptions
    from laco_engines.attribution.drift_questions import golden_questions
    from laco_engines.attribution.reference import reference_at_depth
    m = read_manifest(bundle_folder)
    prep = {**m.preprocessing, "image_mean": [0.9, 0.1, 0.6]}
    folder = planted("mean", preprocessing=prep)
    other = open_bundle(folder)
    ref = reference_at_depth(bundle, other)
    import time
    t=time.time()
    d = attribute_drift(ref, other, golden_questions(other), AttributionOptions(threads=1, max_new_tokens=16))
    print(time.time()-t)
    import json; print(json.dumps(d.to_dict()["attribution"], indent=1)); print([ (c.reference_text, c.text, c.cause) for c in d.changed], d.remarks)
