"""Networks that are believed: as typed, as shown, as a listener's settings."""

import ipaddress
from pathlib import Path

import pytest
import yaml

from gateway.build import settings_of
from gateway.config import load_config
from gateway.config.load import show
from gateway.files import DiskFiles
from tests.support.configured import MINIMAL, furnish


@pytest.mark.parametrize(
    ("typed", "networks"),
    [
        ("[10.0.0.0/8, 2001:db8::/32]", ["10.0.0.0/8", "2001:db8::/32"]),
        ("192.0.2.7", ["192.0.2.7/32"]),
        ('"2001:db8::1"', ["2001:db8::1/128"]),
    ],
)
def test_trusted_networks(tmp_path: Path, typed: str, networks: list[str]) -> None:
    furnish(tmp_path)
    file = tmp_path / "gatepost.yaml"
    extra = f"    proxy_protocol: {{from: {typed}}}\n    xclient: {{from: {typed}}}\n"
    file.write_text(MINIMAL.replace("key: mx.key}\n", "key: mx.key}\n" + extra))
    config = load_config(file, DiskFiles())
    settings = settings_of(config, config.listeners[0])
    assert settings.proxies == settings.xclient == tuple(map(ipaddress.ip_network, networks))
    shown = yaml.safe_load(show(config))
    assert shown["listeners"][0]["proxy_protocol"] == {"from": networks}
    file.write_text(show(config))
    assert load_config(file, DiskFiles()) == config


def test_nobody_is_trusted_by_default(tmp_path: Path) -> None:
    furnish(tmp_path)
    file = tmp_path / "gatepost.yaml"
    file.write_text(MINIMAL)
    config = load_config(file, DiskFiles())
    settings = settings_of(config, config.listeners[0])
    assert settings.proxies == settings.xclient == ()
    assert settings.memory == config.limits.memory
