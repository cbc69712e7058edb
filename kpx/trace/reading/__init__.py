"""What the walk needs of this node, read from the kernel as it is asked for."""
