from laco_engines.packages import PACKAGES, Package, installed_version


def test_every_package_is_found_or_missing_without_an_import():
    assert all(installed_version(package) for package in PACKAGES if package.needed)
    assert installed_version(Package("no-such-package", "no_such.module", "")) is None
