"""What an operator asks on a node: what the cluster wants, what the kernel holds, and the tables made of both."""
