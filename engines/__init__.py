"""Running bundles: pictures and questions in, answers out. Installed as ``laco_engines``; command ``laco-engine``."""
