"""Any TXT record is a key within bounds or refused with a word and a reason of ours."""

import base64

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from gateway.checks.dkim_key import MAX_RSA_BITS, Key, Refused, RSAPublicKey, usable
from gateway.mail.terms import Result

LIMIT_MS = 50
_RSA = base64.b64encode(
    rsa.generate_private_key(public_exponent=65537, key_size=1024)
    .public_key()
    .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
)
_ED = base64.b64encode(ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw())
SEEDS = [
    b"v=DKIM1; k=rsa; p=" + _RSA,
    b"p=" + _RSA,
    b"v=DKIM1; h=sha256:sha1; s=email:*; t=y:s; n=note; p=" + _RSA,
    b"v=DKIM1; k=ed25519; p=" + _ED,
    b"v=DKIM1; p=",
]
TOKENS = [b";", b"=", b"p=", b"k=rsa", b"k=ed25519", b"h=", b"s=", b"t=s", b"v=DKIM1", b"A" * 64, b"//8=", b"MIIB"]


def one(data: bytes) -> None:
    for key_type in ("rsa", "ed25519"):
        keys, why, word = list[Key](), "", Result.POLICY
        try:
            keys = usable([data, data], key_type, "sha256", 1024)
        except Refused as refused:
            why, word = refused.why, refused.result
        assert bool(keys) != bool(why)
        assert why.isprintable()
        assert word in {Result.PERMERROR, Result.POLICY}
        for key in keys:
            assert isinstance(key.key, RSAPublicKey) == (key_type == "rsa")
            if isinstance(key.key, RSAPublicKey):
                assert 1024 <= key.key.key_size <= MAX_RSA_BITS
            assert not key.verifies(b"x" * 64, bytes(32), "sha256")
