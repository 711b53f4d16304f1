"""Does every TensorRT name that the code touches exist in each supported version of TensorRT?

    python .ci/tensorrt_names.py check           # against tests/assets/tensorrt-names/*.json; no network
    python .ci/tensorrt_names.py fetch [DIR]     # make those files again from NVIDIA's wheels (downloads them by pip)

TensorRT's libraries come from NVIDIA's own index, but the Python bindings (`tensorrt-cu12-bindings`) are on PyPI.
`fetch` loads the compiled module of each without its libraries: in a copy of it the entries that ask the loader for
``libnv*`` are blanked and the nine functions of theirs are made optional, so that the module's own start-up code runs
and registers its classes, members and enumerations. They are then listed as Python sees them, with the class that each
method or property gives. No function of TensorRT is called.

`check` reads the sources listed in :data:`SOURCES`, follows what it can infer of types (annotations such as
``engine: trt.ICudaEngine``, calls whose result is known, attributes of ``self``), and asks of each ``trt.Name``,
``trt.Enum.MEMBER``, ``engine.member`` and keyword whether that version has it.
"""

from __future__ import annotations

import ast
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = ROOT / "tests" / "assets" / "tensorrt-names"
LEVELS = {
    # JetPack 6.1 and 6.2, JetPack 7.0 and 7.1, JetPack 7.2, the newest
    "tensorrt-10.3": "tensorrt-cu12-bindings==10.3.0",
    "tensorrt-10.13": "tensorrt-cu12-bindings==10.13.3.9",
    "tensorrt-10.16": "tensorrt-cu12-bindings==10.16.1.11",
    "tensorrt-11.4": "tensorrt-cu12-bindings==11.4.0.106",
    "tensorrt-rtx-1.7": "tensorrt-rtx-cu13-bindings==1.7.1.116",
}
STANDARD = tuple(level for level in LEVELS if "rtx" not in level)
RTX = tuple(level for level in LEVELS if "rtx" in level)
SOURCES = {
    # file -> {class or function: the levels that it must hold for}; "*" is the rest of the file
    "laco_export/exporter/engine_builder.py": {"*": (*STANDARD, *RTX), "_set_targets": RTX},
    "engines/runtimes/tensorrt_engine.py": {"*": (*STANDARD, *RTX), "TensorRTRTXVision": RTX},
}


# --- fetch -----------------------------------------------------------------------------------------------------------


def fetch(folder: Path) -> None:
    """Download each level's bindings and write its names."""
    NAMES.mkdir(parents=True, exist_ok=True)
    for level, requirement in LEVELS.items():
        into = folder / level
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d", str(into)]
        subprocess.run([*pip, requirement], check=True)
        (wheel,) = into.glob("*.whl")
        code = f"import runpy; runpy.run_path({str(__file__)!r})['write_names']({str(wheel)!r}, {level!r})"
        subprocess.run([sys.executable, "-c", code], check=True)  # one process a level: two modules cannot share one


def write_names(wheel: str, level: str) -> None:
    """List the names of one wheel; called in a process of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(temporary)
        (module,) = Path(temporary).glob("tensorrt*/tensorrt*.so")
        module.write_bytes(without_libraries(module.read_bytes()))
        sys.path.insert(0, temporary)
        sys.setdlopenflags(os.RTLD_LAZY)  # the functions that are not there are looked up when they are called: never
        trt = __import__(module.parent.name)
        names = describe(trt)
    path = NAMES / f"{level}.json"
    path.write_text(json.dumps({"version": trt.__version__, **names}, indent=None, separators=(",", ":")) + "\n")
    print(f"{path.name}: {trt.__version__}, {len(names['classes'])} classes")


def without_libraries(data: bytes) -> bytes:
    """A 64-bit little-endian ELF module that no longer asks for TensorRT's libraries."""
    elf = bytearray(data)
    header_at, entry_size, entries = struct.unpack_from("<Q", elf, 32)[0], *struct.unpack_from("<HH", elf, 54)
    segments = [struct.unpack_from("<IIQQQQQQ", elf, header_at + index * entry_size) for index in range(entries)]
    loaded = [(offset, start, size) for kind, _, offset, start, _, size, *_ in segments if kind == 1]
    place = lambda address: next(o + address - start for o, start, size in loaded if start <= address < start + size)
    dynamic = next(offset for kind, _, offset, *_ in segments if kind == 2)
    tags: dict[int, int] = {}
    needed = []
    while True:
        tag, value = struct.unpack_from("<QQ", elf, dynamic)
        if tag == 0:
            break
        if tag == 1:  # DT_NEEDED
            needed.append((dynamic, value))
        tags[tag] = value
        dynamic += 16
    strings, symbols = place(tags[5]), place(tags[6])
    text = lambda offset: bytes(elf[strings + offset : elf.index(b"\0", strings + offset)])
    for at, name in needed:
        if text(name).startswith(b"libnv"):
            struct.pack_into("<Q", elf, at, 21)  # DT_DEBUG, which a loader skips in a shared object
    theirs = (b"createInfer", b"createNvOnnx", b"getNvOnnx", b"PluginRegistry", b"initLibNv")
    for at in range(symbols + 24, strings if strings > symbols else len(elf), 24):
        name, info, _, section = struct.unpack_from("<IBBH", elf, at)
        if section == 0 and info >> 4 == 1 and any(part in text(name) for part in theirs):
            elf[at + 4] = (2 << 4) | (info & 15)  # STB_WEAK: may stay unresolved
    return bytes(elf)


def describe(trt) -> dict:
    """``{"names": […], "classes": {class: {member: [what it gives or "", [keywords], "method" or "value"]}}}``."""
    classes = {name: value for name, value in vars(trt).items() if isinstance(value, type) and not name.startswith("_")}
    return {
        "names": sorted(name for name in vars(trt) if not name.startswith("_")),
        "classes": {name: _members(value, set(classes)) for name, value in sorted(classes.items())},
    }


def _members(cls: type, classes: set[str]) -> dict:
    members = {}
    for name in sorted(set(dir(cls)) - set(dir(object))):
        if name.startswith("_") and name != "__members__":
            continue
        value = getattr(cls, name)
        text = (value.fget if isinstance(value, property) and value.fget else value).__doc__ or ""
        is_called = callable(value) or isinstance(value, property)
        signatures = [line for line in text.splitlines() if " -> " in line and "(" in line] if is_called else []
        results = (line.rsplit(" -> ", 1)[1] for line in signatures)  # nvinfer1::IRuntimeCache, tensorrt.ICudaEngine
        gives = {result.rsplit(".", 1)[-1].rsplit("::", 1)[-1] for result in results} & classes
        keywords = sorted({word for line in signatures for word in re.findall(r"(\w+): ", line)} - {"self"})
        is_method = callable(value) and not isinstance(value, type)
        members[name] = [next(iter(gives)) if len(gives) == 1 else "", keywords, "method" if is_method else "value"]
    return members


# --- check -----------------------------------------------------------------------------------------------------------


def load_level(level: str) -> dict:
    """The names of one level."""
    return json.loads((NAMES / f"{level}.json").read_text())


class Names(ast.NodeVisitor):
    """Collects what a piece of source touches of TensorRT.

    Attributes:
        touched: ``{(line, "Class.member" or "Name")}``.
        missing: those that the level does not have.
    """

    def __init__(self, level: dict, types: dict[str, str] | None = None):
        self.level, self.types = level, dict(types or {})
        self.touched: set[tuple[int, str]] = set()
        self.missing: set[tuple[int, str]] = set()

    # What an expression is: "module", "class:X" (the class itself) or "X" (an instance), "" unknown.
    def kind(self, node: ast.AST) -> str:
        if isinstance(node, ast.Name):
            return "module" if node.id == "trt" else self.types.get(node.id, "")
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                return "module" if node.attr == "_trt" else self.types.get(f"self.{node.attr}", "")
            owner = self.kind(node.value)
            if owner == "module":
                return f"class:{node.attr}" if node.attr in self.level["classes"] else ""
            if node.attr.startswith("__"):
                return ""  # Python's own, as __members__
            if owner.startswith("class:"):
                return owner.removeprefix("class:")  # a member of an enumeration
            return self.level["classes"].get(owner, {}).get(node.attr, [""])[0]
        if isinstance(node, ast.Call):
            owner = self.kind(node.func)
            return owner.removeprefix("class:") if owner.startswith("class:") else owner
        return ""

    def annotated(self, annotation: ast.AST | None) -> str:
        text = ast.unparse(annotation).strip("'\"") if annotation is not None else ""
        return text.removeprefix("trt.") if text.startswith("trt.") else ""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before = dict(self.types)
        for argument in (*node.args.args, *node.args.kwonlyargs):
            name = self.annotated(argument.annotation)
            self.types.pop(argument.arg, None)
            if name:
                self._touch(node, name)
                self.types[argument.arg] = name
        for statement in node.body:
            self.visit(statement)
        # What was learnt of self stays; local names do not.
        self.types = {**before, **{key: value for key, value in self.types.items() if key.startswith("self.")}}

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        name = self.annotated(node.annotation)
        if name:
            self._touch(node, name)
            self.types[ast.unparse(node.target)] = name
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        pairs = [(target, node.value) for target in node.targets]
        for target, value in pairs:
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs += list(zip(target.elts, value.elts))
            elif self.kind(value) != "module":
                self.types[ast.unparse(target)] = self.kind(value)  # "" forgets what it was before
            if isinstance(target, ast.Attribute):
                self.visit(target)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        owner = self.kind(node.value)
        if owner == "module":
            self._touch(node, node.attr)
        elif owner.startswith("class:") or owner in self.level["classes"]:
            self._touch(node, f"{owner.removeprefix('class:')}.{node.attr}")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute):
            owner = self.kind(node.func.value)
            member = self.level["classes"].get(owner, {}).get(node.func.attr)
            for keyword in node.keywords if member else ():
                self.touched.add((node.lineno, f"{owner}.{node.func.attr}({keyword.arg}=)"))
                if keyword.arg not in member[1]:
                    self.missing.add((node.lineno, f"{owner}.{node.func.attr}({keyword.arg}=)"))
        self.generic_visit(node)

    def _touch(self, node: ast.AST, name: str) -> None:
        self.touched.add((node.lineno, name))
        owner, _, member = name.partition(".")
        members = self.level["classes"].get(owner)
        dunder = member.startswith("__") or member in ("name", "value")
        if owner == "__version__":
            return
        if owner not in self.level["names"] or (
            member and members is not None and member not in members and not dunder
        ):
            self.missing.add((node.lineno, name))


def names_of(source: str, level: dict, parts: dict[str, tuple[str, ...]], level_name: str) -> Names:
    """What ``source`` touches of a level, of the classes and functions that must hold for it."""
    names = Names(level)
    tree = ast.parse(source)
    for node in tree.body:
        chosen = parts.get(getattr(node, "name", ""), parts["*"])
        if level_name in chosen:
            names.visit(node)
    return names


def check(root: Path = ROOT) -> list[str]:
    """One line for each name that a level lacks; and for a source in which too little was recognised."""
    problems = []
    for path, parts in SOURCES.items():
        source = (root / path).read_text(encoding="utf-8")
        for level in LEVELS:
            names = names_of(source, load_level(level), parts, level)
            problems += [f"{path}:{line}: {level} has no {name}" for line, name in sorted(names.missing)]
            print(f"{path}: {level}: {len({name for _, name in names.touched})} names, {len(names.missing)} missing")
    return problems


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["fetch"]:
        fetch(Path(arguments[1]) if arguments[1:] else Path(tempfile.mkdtemp()))
        return 0
    if arguments[:1] != ["check"]:
        print(__doc__)
        return 2
    problems = check()
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
