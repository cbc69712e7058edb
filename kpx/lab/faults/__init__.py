"""Faults that can be planted in a lab, to learn the runbooks and to test them."""
