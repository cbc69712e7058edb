"""The facts of this node, as they are read from the kernel, from the proxy and from the cluster."""
