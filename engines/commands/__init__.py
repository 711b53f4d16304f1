"""The subcommands of ``laco-engine``: one file each, one line each in :data:`COMMANDS`.

A command's module imports nothing heavy at its top, since all of them are read for ``--help``. In reading order:

- :mod:`.command`: what a subcommand is, and the argument types that they share;
- :mod:`.quantities`: sizes, times and points as they are typed;
- :mod:`.answer_arguments`: the arguments that ``run`` and ``chat`` share;
- :mod:`.answer_output`: answers as text and as JSON;
- :mod:`.question_file`: what bundles are asked to be compared;
- :mod:`.run`: questions about pictures and videos, answered;
- :mod:`.chat`: a conversation, on a terminal or through a pipe;
- :mod:`.serve`: a bundle behind an HTTP endpoint;
- :mod:`.inspect`: what a bundle says about itself;
- :mod:`.diff`: the export's comparison again;
- :mod:`.diff_attribution`: its ``--attribute``: which part drift comes from;
- :mod:`.build`: vision graphs to TensorRT engines;
- :mod:`.bench`: bundles measured beside each other;
- :mod:`.report`: one page of what bundles answer;
- :mod:`.plan`: which depth, precision, batch and language model for given limits;
- :mod:`.evaluate`: the paper's benchmarks, by lmms-eval;
- :mod:`.doctor`: what is installed, missing, and would run here.
"""

from __future__ import annotations

from .bench import BENCH
from .build import BUILD
from .chat import CHAT
from .command import Command
from .diff import DIFF
from .doctor import DOCTOR
from .evaluate import EVALUATE
from .inspect import INSPECT
from .plan import PLAN
from .report import REPORT
from .run import RUN
from .serve import SERVE

COMMANDS: tuple[Command, ...] = (RUN, CHAT, DIFF, INSPECT, BUILD, BENCH, REPORT, PLAN, EVALUATE, DOCTOR, SERVE)

__all__ = ["COMMANDS", "Command"]
