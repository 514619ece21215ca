"""Where the shipped policies are: inside the installed package, or beside it in a checkout."""

from pathlib import Path

import gateway


def shipped_policies() -> Path:
    """The folder of the policies that come with Gatepost; `lists/` is in it."""
    package = Path(gateway.__file__).parent
    installed = package / "shipped"
    return installed if installed.is_dir() else package.parent / "policies"
