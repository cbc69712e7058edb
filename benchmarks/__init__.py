"""What measures the figures in the README: the daemon as it ships, beside the floor that the kernel sets.

Everything runs in network namespaces of its own: a node, a pod that asks and the pods that answer. The daemon is a
process of its own, follows an API server over HTTP, and is judged from outside, by the answers that the pod gets.
"""
