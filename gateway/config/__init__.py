"""`gatepost.yaml`: read, checked and typed (DESIGN sections 3 and 11). Every check that needs no network is done here.

`load_config` gives a frozen `Config` or raises `ConfigError` with all that is wrong; `schema` is the JSON Schema for
editors; `show` is the effective configuration as YAML that loads again to the same.
"""

from gateway.config.backend import Backend, BackendTls, Certificate, VerifyRecipients
from gateway.config.dnsbl import Dnsbl, DnsblZone
from gateway.config.hosts import HostPort
from gateway.config.load import control_of, load_config, policies_of, schema, show
from gateway.config.model import (
    Admin,
    Config,
    Deadlines,
    DnsConfig,
    DomainRoute,
    Journal,
    Limits,
    Listener,
)
from gateway.config.state import Redis, Sqlite

__all__ = [
    "Admin",
    "Backend",
    "BackendTls",
    "Certificate",
    "Config",
    "Deadlines",
    "DnsConfig",
    "Dnsbl",
    "DnsblZone",
    "DomainRoute",
    "HostPort",
    "Journal",
    "Limits",
    "Listener",
    "Redis",
    "Sqlite",
    "VerifyRecipients",
    "control_of",
    "load_config",
    "policies_of",
    "schema",
    "show",
]
