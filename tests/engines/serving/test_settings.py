import pytest

from laco_engines.serving.settings import ServeSettings
from laco_export.errors import UsageError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_key(host):
    assert ServeSettings(host=host).loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "box.lan", "localhost.evil.example", ""])
def test_elsewhere_a_key_is_needed(host):
    with pytest.raises(UsageError, match="no API key"):
        ServeSettings(host=host)
    assert not ServeSettings(host=host, api_key="secret").loopback


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({"port": -1}, "--port"),
        ({"port": 65536}, "--port"),
        ({"timeout_s": 0}, "--timeout"),
        ({"timeout_s": float("nan")}, "--timeout"),
        ({"drain_s": float("inf")}, "--drain"),
        ({"api_key": ""}, "API key"),
        ({"api_key": "two words"}, "API key"),
        ({"api_key": "schlüssel"}, "API key"),
        ({"api_key": "line\n"}, "API key"),
        ({"allowed_origins": ("app.example.org",)}, "--allow-origin"),
        ({"allowed_origins": ("https://app.example.org/",)}, "--allow-origin"),
        ({"allowed_origins": ("*",)}, "--allow-origin"),
        ({"prompt_lookup": "fast"}, "--prompt-lookup"),
    ],
)
def test_wrong_values_name_their_flag(fields, flag):
    with pytest.raises(UsageError, match=flag):
        ServeSettings(**fields)
