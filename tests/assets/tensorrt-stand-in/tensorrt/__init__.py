"""A stand-in for TensorRT's Python module, for tests where its libraries cannot be had. It computes nothing.

Its names are those of a real version (``tests/assets/tensorrt-names``, read from NVIDIA's bindings): a class, member
or keyword that this version lacks is an ``AttributeError`` or ``TypeError`` here as it would be there. What the few
methods that are called return is made up. A pass means that the code touches only what exists, in an order that this
file expects; it is no run of TensorRT. ``LACO_STAND_IN_LEVEL`` chooses the version, ``LACO_STAND_IN_LOG`` a file for
what was touched.
"""

import enum
import json
import os
from pathlib import Path

_LEVEL = os.environ["LACO_STAND_IN_LEVEL"]
_NAMES = json.loads((Path(__file__).parents[2] / "tensorrt-names" / f"{_LEVEL}.json").read_text())
_LOG = os.environ.get("LACO_STAND_IN_LOG")
__version__ = _NAMES["version"]


def _note(text):
    if _LOG:
        with open(_LOG, "a") as file:
            file.write(text + "\n")


def _method(owner, name, keywords):
    def call(self, *args, **kwargs):
        unknown = set(kwargs) - set(keywords)
        if unknown:
            raise TypeError(f"{owner}.{name} of TensorRT {__version__} has no argument {unknown}")
        _note(f"{owner}.{name}")
        behaviour = _BEHAVIOUR.get((owner, name))
        return behaviour(self, *args, **kwargs) if behaviour else None

    return call


class _Property:
    def __init__(self, owner, name):
        self.owner, self.name = owner, name

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        _note(f"{self.owner}.{self.name}")
        return instance.__dict__.get(f"={self.name}", _VALUES.get((self.owner, self.name), 0))

    def __set__(self, instance, value):
        _note(f"{self.owner}.{self.name}=")
        instance.__dict__[f"={self.name}"] = value


def _make(name, members):
    if "__members__" in members:
        values = [member for member in members if member not in ("name", "value", "__members__")]
        return enum.IntEnum(
            name, {value: index for index, value in enumerate(values)}
        )  # its own numbers, not TensorRT's
    body = {"__init__": lambda self, *args, **kwargs: _note(name)}
    for member, (_, keywords, kind) in members.items():
        body[member] = _method(name, member, keywords) if kind == "method" else _Property(name, member)
    return type(name, (), {**body, **(_EMPTY if name == "INetworkDefinition" else {})})


_EMPTY = {"__len__": lambda self: 0, "__iter__": lambda self: iter(())}  # a network without layers

globals().update({name: _make(name, members) for name, members in _NAMES["classes"].items()})
for _name in _NAMES["names"]:
    globals().setdefault(_name, None)
for _severity in ("VERBOSE", "INFO", "WARNING", "ERROR", "INTERNAL_ERROR"):
    if _severity in _NAMES["classes"]["Logger"]:
        setattr(Logger, _severity, _severity)  # noqa: F821


def init_libnvinfer_plugins(logger, namespace):
    """Does nothing."""
    return True


# --- behaviour: the little that the callers need ----------------------------------------------------------------------


def _new(name):
    return globals()[name].__new__(globals()[name])


class _Plan(bytes):
    """IHostMemory: bytes that are a context manager."""

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        return None


class _Tensor:
    def __init__(self, name, shape, dtype, is_input):
        self.name, self.shape, self.dtype, self.is_input = name, tuple(shape), dtype, is_input


_BEHAVIOUR = {
    ("Builder", "create_network"): lambda self, flags=0: _network(flags),
    ("Builder", "create_builder_config"): lambda self: _new("IBuilderConfig"),
    ("Builder", "create_optimization_profile"): lambda self: _new("IOptimizationProfile"),
    ("Builder", "build_serialized_network"): lambda self, network, config: _Plan(b"no engine: a stand-in"),
    ("OnnxParser", "parse_from_file"): lambda self, path: Path(path).is_file(),
    ("IBuilderConfig", "create_timing_cache"): lambda self, data: _new("ITimingCache"),
    ("IBuilderConfig", "get_timing_cache"): lambda self: _new("ITimingCache"),
    ("IBuilderConfig", "get_memory_pool_limit"): lambda self, pool: 0,
    ("IBuilderConfig", "get_tactic_sources"): lambda self: 0,
    ("IBuilderConfig", "get_flag"): lambda self, flag: False,
    ("IBuilderConfig", "get_preview_feature"): lambda self, feature: False,
    ("IBuilderConfig", "add_optimization_profile"): lambda self, profile: 0,
    ("ITimingCache", "serialize"): lambda self: _Plan(b"timing"),
    ("ITimingCache", "combine"): lambda self, other, ignore_mismatch: True,
    ("Runtime", "deserialize_cuda_engine"): lambda self, plan: _engine(bytes(plan)),
    ("ICudaEngine", "create_execution_context"): lambda self, *config: _context(self),
    ("ICudaEngine", "get_tensor_name"): lambda self, index: self.tensors[index].name,
    ("ICudaEngine", "get_tensor_shape"): lambda self, name: self.by_name[name].shape,
    ("ICudaEngine", "get_tensor_dtype"): lambda self, name: getattr(DataType, self.by_name[name].dtype),  # noqa: F821
    ("ICudaEngine", "get_tensor_mode"): lambda self, name: (
        TensorIOMode.INPUT if self.by_name[name].is_input else TensorIOMode.OUTPUT  # noqa: F821
    ),
    ("ICudaEngine", "create_runtime_config"): lambda self: _new("IRuntimeConfig"),
    ("IRuntimeConfig", "create_runtime_cache"): lambda self: _new("IRuntimeCache"),
    ("IRuntimeCache", "deserialize"): lambda self, blob: bytes(blob) == b"kernels",
    ("IRuntimeCache", "serialize"): lambda self: _Plan(b"kernels"),
    ("IExecutionContext", "set_tensor_address"): lambda self, name, address: self.addresses.update({name: address}),
    ("IExecutionContext", "execute_async_v3"): lambda self, stream: self.engine_of.run(self, stream),
}
_VALUES = {
    ("OnnxParser", "num_errors"): 0,
    ("INetworkDefinition", "num_inputs"): 0,
    ("INetworkDefinition", "num_layers"): 0,
}
for _owner, _name in (*_BEHAVIOUR, *_VALUES):
    _known = _NAMES["classes"].get(_owner, {})
    if _name not in _known and _LEVEL.startswith("tensorrt-rtx") and not _name.startswith("__"):
        raise AssertionError(f"the stand-in gives {_owner}.{_name} a behaviour that TensorRT-RTX does not have")

RUN = {}
"""Set by a test: ``{"tensors": [(name, shape, dtype, is_input)], "enqueue": f(addresses, stream)}``."""


def _network(flags):
    members = NetworkDefinitionCreationFlag.__members__.items()  # noqa: F821
    names = [name for name, member in members if flags >> member & 1]
    _note("Builder.create_network flags=" + "|".join(names))
    return _new("INetworkDefinition")


def _engine(plan):
    if plan.startswith(b"broken"):
        return None
    engine = _new("ICudaEngine")
    engine.tensors = [_Tensor(*tensor) for tensor in RUN["tensors"](plan)]
    engine.by_name = {tensor.name: tensor for tensor in engine.tensors}
    engine.num_io_tensors = len(engine.tensors)
    engine.run = lambda context, stream: RUN["enqueue"](plan, context.addresses, stream)
    return engine


def _context(engine):
    context = _new("IExecutionContext")
    context.engine_of, context.addresses = engine, {}
    return context
