"""What is done to bundles, checkpoints, pictures, processes and sources in ``benchmarks/faults.py``, and what is right.

- :mod:`.attempts`: a command in a process of its own, and the verdict on what it did;
- :mod:`.workshop`: the sound bundle, checkpoint, parts and pictures, and copies of them to spoil;
- :mod:`.bundles`: class a;
- :mod:`.checkpoints`: class b;
- :mod:`.pictures`: class c;
- :mod:`.processes`: class e;
- :mod:`.planted`: class f, faults in a copy of the source;
- :mod:`.folders`: class g, folders and files of other tools.
"""

PACKAGES = {
    "laco_export": "laco_export",
    "laco_training": "training",
    "laco_engines": "engines",
    "laco_calibration": "calibration",
}
"""What a package installs as, and its folder in the source."""
