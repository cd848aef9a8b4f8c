"""Judging a peer by the specification: short conversations, each about one rule.

`case` says what a case is, `talk` what its script may do, `responder` holds the cases against a
responder, group by group, and `runner` runs them. `misbehaviour` makes our own responder break
exactly one rule, which is how each case is tested itself.
"""
