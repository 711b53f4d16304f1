"""The table of parts is complete: pins, licences, names."""

import re

import pytest
from real_parts.packages import DEBIAN
from real_parts.parts import PARTS

PACKAGES = [package for part in PARTS.values() for package in part.packages]


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_every_package_is_pinned(package):
    assert re.fullmatch(r"[0-9a-f]{64}", package.sha256)
    ending = "_all.deb" if package.registry == DEBIAN else "-py3-none-any.whl"
    assert package.file_name.endswith(ending) and package.version in package.file_name


def test_no_pin_stands_twice():
    assert len({package.sha256 for package in PACKAGES}) == len(PACKAGES)


def test_every_part_says_its_licence_and_origin():
    for name, part in PARTS.items():
        assert name == part.name and all((part.holds, part.licence, part.origin, part.packages))


def test_another_form_is_another_record():
    from dataclasses import replace

    part = PARTS["encoder"]
    assert part.record() != replace(part, form=part.form + 1).record()
    assert part.record()["packages"][0]["sha256"] == part.packages[0].sha256
