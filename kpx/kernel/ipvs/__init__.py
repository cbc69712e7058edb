"""IPVS: virtual servers and their real servers, over generic netlink, and the connections that it tracks."""
