"""What a command uses where nothing is named: the configuration that lies here, else the shipped policies.

These are inside the installed package, or beside it in a checkout.
"""

from pathlib import Path

import gateway

_CONFIGURATION = Path("gatepost.yaml")


def shipped_policies() -> Path:
    """The folder of the policies that come with Gatepost; `lists/` is in it."""
    package = Path(gateway.__file__).parent
    installed = package / "shipped"
    return installed if installed.is_dir() else package.parent / "policies"


def here(config: Path | None, *instead: Path | None) -> Path | None:
    """The configuration that was named, or where nothing was named instead the one that lies here."""
    if config is not None or any(each is not None for each in instead) or not _CONFIGURATION.is_file():
        return config
    return _CONFIGURATION
