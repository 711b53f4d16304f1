"""Which of ONNX Runtime's execution providers computes: one table, for the language model and the vision tower alike.

::

    provider = choose_provider("cuda")                     # or None: the best that is there
    session = InferenceSession(path, options, providers=provider.session_providers())
    check_provider(session, provider)                      # ONNX Runtime falls back to the CPU without an error

Of CUDA and TensorRT only the choice and the messages have been run so far, not the computation: no GPU was at hand.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from laco_export.errors import LacoError, UsageError


class ProviderMissingError(LacoError):
    """An execution provider that was asked for is not in the installed ONNX Runtime, or does not start here."""


@dataclass(frozen=True)
class Provider:
    """An execution provider.

    Attributes:
        name: as given to ``--provider``.
        execution_provider: ONNX Runtime's name.
        install: what brings it.
        automatic: taken without being asked for, where it is there.
        options: of the provider, as ONNX Runtime's ``provider_options`` takes them.
        fallbacks: providers for the nodes that this one refuses, the preferred first.
    """

    name: str
    execution_provider: str
    install: str
    automatic: bool = True
    options: dict[str, str] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()

    def session_providers(self) -> list[tuple[str, dict[str, str]]]:
        """``InferenceSession``'s argument ``providers``."""
        return [(self.execution_provider, dict(self.options)), *((name, {}) for name in self.fallbacks)]


_GPU_BUILD = "pip uninstall onnxruntime && pip install onnxruntime-gpu (on a Jetson: JetPack's wheel), with its CUDA"

PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        # TensorRT builds an engine for each range of shapes that it meets, minutes long, and a decoder's shapes change
        # with every token: it is there for those who ask for it, and is never picked unasked.
        Provider(
            "tensorrt",
            "TensorrtExecutionProvider",
            f"{_GPU_BUILD} and TensorRT",
            automatic=False,
            fallbacks=("CUDAExecutionProvider", "CPUExecutionProvider"),
        ),
        Provider("cuda", "CUDAExecutionProvider", _GPU_BUILD, fallbacks=("CPUExecutionProvider",)),
        Provider("cpu", "CPUExecutionProvider", "pip install onnxruntime, or 'laco-export[cpu]'"),
    )
}
"""By name, the preferred first."""


def choose_provider(name: str | None = None) -> Provider:
    """The provider asked for, or the best of those that the installed ONNX Runtime has.

    Args:
        name: a name of :data:`PROVIDERS`, or of any other provider that the installed build has (``openvino`` for
            ``OpenVINOExecutionProvider``), in capitals or not; or None.

    Raises:
        UsageError: no such name.
        ProviderMissingError: the installed ONNX Runtime was built without it, or there is no ONNX Runtime.
    """
    built_in = installed_providers()
    if name is None:
        return next(p for p in PROVIDERS.values() if p.automatic and p.execution_provider in built_in)
    others = [_other(built) for built in built_in if built not in _table_by_onnx_name()]
    selectable = PROVIDERS | {provider.name: provider for provider in others}
    if name.lower() not in selectable:
        raise UsageError("there is no such execution provider", given=name, allowed=", ".join(selectable))
    provider = selectable[name.lower()]
    if provider.execution_provider not in built_in:
        raise _missing(provider, "is not in the installed ONNX Runtime")
    return provider


def installed_providers() -> list[str]:
    """ONNX Runtime's names of the providers that the installed build has, whether or not their device is there.

    Raises:
        ProviderMissingError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ProviderMissingError("ONNX Runtime is not installed", todo=PROVIDERS["cpu"].install) from None
    return onnxruntime.get_available_providers()


def check_provider(session, provider: Provider) -> None:
    """Raise unless ``session`` (an ``InferenceSession``) computes by ``provider``.

    ONNX Runtime only logs a warning and takes the next provider where one does not start (no device, a driver or a
    library missing).

    Raises:
        ProviderMissingError: another provider is first.
    """
    if session.get_providers()[0] != provider.execution_provider:
        raise _missing(provider, "is installed and does not start on this machine (no device, driver or library?)")


def on_gpu(execution_provider: str) -> bool:
    """Whether a provider of this name computes on an NVIDIA GPU, in the GPU's memory."""
    return execution_provider in ("CUDAExecutionProvider", "TensorrtExecutionProvider")


def load_libraries(provider: Provider) -> None:
    """Let ONNX Runtime find CUDA and cuDNN where pip put them (1.21 and newer); on the system's path it finds them."""
    import onnxruntime

    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None and on_gpu(provider.execution_provider):
        preload()


def runtime_title(execution_provider: str) -> str:
    """ONNX Runtime, its version and what computes, for people: ``onnxruntime 1.31.1 CPU``."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__} {execution_provider.removesuffix('ExecutionProvider')}"


def _table_by_onnx_name() -> dict[str, Provider]:
    return {provider.execution_provider: provider for provider in PROVIDERS.values()}


def _other(execution_provider: str) -> Provider:
    """A provider of the installed build that the table does not know."""
    name = execution_provider.removesuffix("ExecutionProvider").lower()
    return Provider(
        name, execution_provider, "the build of ONNX Runtime that has it", fallbacks=("CPUExecutionProvider",)
    )


def _missing(provider: Provider, reason: str) -> ProviderMissingError:
    import onnxruntime

    table = _table_by_onnx_name()
    available = [(table.get(name) or _other(name)).name for name in onnxruntime.get_available_providers()]
    return ProviderMissingError(
        f"the execution provider '{provider.name}' ({provider.execution_provider}) {reason}",
        given=f"--provider {provider.name}, onnxruntime {onnxruntime.__version__} with {', '.join(available)}",
        todo=f"{provider.install}; or leave --provider out, which takes the best that is there",
    )
