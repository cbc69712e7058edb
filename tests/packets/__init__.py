"""Packet scenarios: what a scenario says (`scenario`), what programs the rules (`proxies`), what happens (`runner`)."""
