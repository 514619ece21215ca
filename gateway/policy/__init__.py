"""Floor 4: policy files to verdicts. A verdict is a pure function of (policy, facts)."""
