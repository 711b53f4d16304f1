"""Packages that are planted."""

import hashlib
import io
import tarfile
import zipfile

import pytest


@pytest.fixture
def make_wheel(tmp_path):
    """``make_wheel(members, version="1.0")``: a wheel of the package ``planted``, as ``(Package, path)``."""
    from real_parts.packages import PYPI, Package

    def make(members, version="1.0"):
        shelf = tmp_path / "shelf"
        shelf.mkdir(exist_ok=True)
        path = shelf / f"planted-{version}-py3-none-any.whl"
        information = f"planted-{version}.dist-info"
        with zipfile.ZipFile(path, "w") as wheel:
            for name, content in members.items():
                wheel.writestr(name, content)
            wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: planted\nVersion: {version}\n")
            wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{information}/RECORD", "")
        return Package(PYPI, "planted", version, path.name, hashlib.sha256(path.read_bytes()).hexdigest(), 0.1), path

    return make


@pytest.fixture
def make_deb(tmp_path):
    """``make_deb(files)``: a Debian package with those files."""

    def make(files):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:xz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(f"./{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        path = tmp_path / "planted_1.0_all.deb"
        members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}
        with open(path, "wb") as file:
            file.write(b"!<arch>\n")
            for name, content in members.items():
                file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
                file.write(content + b"\n" * (len(content) % 2))
        return path

    return make
