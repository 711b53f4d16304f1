"""Whether Optimum ONNX Runtime is here beside versions that it does not allow; nothing of it is imported.

optimum-onnx 0.1.0 holds transformers below 4.58. Installed beside a newer one by force (``pip install --no-deps``) it
imports, and nobody has tested what it then does: it is left alone.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version


def optimum_conflict() -> str | None:
    """The package that is here in a version that Optimum does not allow, as a clause (``optimum-onnx 0.1.0 needs
    transformers<4.58.0,>=4.36, not 5.24.0``); None where there is none, or where Optimum is not installed."""
    for distribution in ("optimum-onnx", "optimum"):
        try:
            needed = requires(distribution) or ()
        except PackageNotFoundError:
            continue
        for line in needed:
            if conflict := _conflict(line):
                return f"{distribution} {version(distribution)} {conflict}"
    return None


def _conflict(needed: str) -> str | None:
    from packaging.requirements import Requirement  # which Optimum needs itself

    requirement = Requirement(needed)
    if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
        return None
    try:
        here = version(requirement.name)
    except PackageNotFoundError:
        return None
    if requirement.specifier.contains(here, prereleases=True):
        return None
    return f"needs {requirement.name}{requirement.specifier}, not {here}"
