"""What the Kubernetes API says: typed objects and one stream of events, from an API server or from a folder of YAML."""
