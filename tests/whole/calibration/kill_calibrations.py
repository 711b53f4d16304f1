"""Calibrate again and again and kill each run with SIGKILL at a random moment: run by ``test_killed_calibration.py``.

    python kill_calibrations.py BUNDLE PICTURES OUTPUT KILLS

The output is asked its golden questions before it gets its name, and the moments lie anywhere in a run. Prints
:func:`random_kills.kill`'s lines.
"""

import sys
from contextlib import suppress
from pathlib import Path

import torch

torch.set_num_threads(1)

import onnxruntime  # noqa: E402, F401

with suppress(ImportError):
    import optimum.onnxruntime  # noqa: F401

from laco_calibration.options import CalibrationOptions  # noqa: E402
from laco_calibration.pipeline import calibrate  # noqa: E402
from laco_engines import trial  # noqa: E402, F401

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))
from random_kills import finish, kill  # noqa: E402


def main(bundle: str, pictures: str, place: str, kills: str) -> None:
    output = Path(place)

    def work_on(folder: Path) -> None:
        options = {"method": "max", "all_int8": True, "smoothing": False, "force": True, "compile": False}
        calibrate(CalibrationOptions(Path(bundle), images=[Path(pictures)], output=folder, **options))

    seconds = finish(lambda: work_on(output.parent / "other"))
    kill(lambda: work_on(output), output, int(kills), (0.0, seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
