"""``python -m laco_training``: ``laco-train``, for launchers that start a module on every process."""

from .cli import main

raise SystemExit(main())
