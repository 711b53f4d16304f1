"""Training of LaCo models by the staged recipe. Installed as ``laco_training``; command ``laco-train``."""
