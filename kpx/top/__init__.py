"""`kpx top`: one node, live. One thread reads (`reading`), pages are made of what it read (`pages`), screens draw them.

Nothing here changes anything on the node.
"""
