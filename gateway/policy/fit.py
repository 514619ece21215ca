"""What a policy counts on and the configuration does not have: warnings, for both are right by themselves.

Called by the composition root at a start and reload, and by `gatepost policy check` and `test` of a configuration.
"""

from collections.abc import Iterator

from gateway.config import Config
from gateway.policy.loader import Policy
from gateway.policy.rules import Action
from gateway.yamlfile import Problem


def unfit(policy: Policy, config: Config) -> Iterator[Problem]:
    """Rules that quarantine without a mailbox for it, rules on certificates that no listener asks for."""
    asked = any(listener.client_certificates is not None for listener in config.listeners)
    for rule in policy.rules:
        if rule.action is Action.QUARANTINE and config.quarantine is None and not rule.observe:
            what = f"rule '{rule.id}' quarantines, and no quarantine mailbox is configured"
            hint = "such mail is deferred; add quarantine: MAILBOX to the configuration"
            yield Problem(rule.when_position, what, hint, "warning")
        named = sorted(fact for fact in rule.when.facts if fact.startswith("client.certificate"))
        if named and not asked:
            hint = "add client_certificates: {ca: FILE} to a listener of the configuration"
            what = f"no listener asks for certificates, so '{named[0]}' is the same for all"
            yield Problem(rule.when_position, what, hint, "warning")
