"""Trace: the path of one packet through the rules that the kernel really holds, whoever made them.

The walk is pure: it reads rules, routes and sets through `facts.Facts`. `docs/trace.md` describes what it shows.
"""
