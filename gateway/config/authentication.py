"""The sections `dmarc:` and `seal:`: how a domain's organization is found, and the key that seals (ARC)."""

from typing import Literal

from pydantic import ValidationInfo, model_validator

from gateway.config import certificate as pem
from gateway.config.hosts import Host
from gateway.config.paths import ReadFile, read_bytes
from gateway.yamlfile import Fault, Model


class Dmarc(Model):
    """How DMARC looks for a domain's organization."""

    organization: Literal["treewalk", "suffixes"] = "treewalk"
    """By the DNS tree walk of RFC 9989, or by the public suffix list as in RFC 7489, `pct` sampling included."""


class Seal(Model):
    """The ARC seal on every mail that is relayed, so that the backend may trust our results."""

    domain: Host
    """Who seals: the public key is published below this domain."""
    selector: Host
    """Its name there: SELECTOR._domainkey.DOMAIN."""
    key: ReadFile
    """PEM file of the private key: RSA of 1024 to 4096 bit, or Ed25519."""

    @model_validator(mode="after")
    def _usable(self, info: ValidationInfo) -> "Seal":
        name = f"{self.selector}._domainkey.{self.domain}"
        if len(name) > 253:
            raise Fault(f"{name[:60]}... is too long a name", "take a shorter selector", at=("selector",))
        if "." not in self.domain:
            raise Fault("a seal needs a domain of two labels at least", "write it as example.com", at=("domain",))
        pem.signing_key(read_bytes(self.key, info))
        return self
