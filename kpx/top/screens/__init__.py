"""The screens: which page is shown, and what the keys do."""
