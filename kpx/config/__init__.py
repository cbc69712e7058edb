"""kube-proxy's configuration: file, flags, defaults, validation, and what is written back out."""
