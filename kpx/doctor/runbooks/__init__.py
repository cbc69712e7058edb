"""The runbooks: one module each, whose checks are functions from `Facts` to what they found. Nothing is read here."""
