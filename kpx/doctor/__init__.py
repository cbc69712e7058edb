"""The runbooks for Services as checks: what is wrong on this node, why it matters, and what mends it."""
