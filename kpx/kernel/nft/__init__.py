"""nftables over netlink: objects as values, transactions applied whole, dumps and notifications; no ``nft`` program.

- `datatypes`, `selectors`, `expressions`, `rules`: what rules are written in (``rule("services", ip_daddr, ...)``)
- `objects`, `sets`, `elements`, `intervals`: tables, chains, rules, sets, maps and what they hold
- `transaction`, `connection`: changes as values, applied; reads
- `listener`: what others change; `probe`: what the kernel lacks; `errors`: what can go wrong
"""
