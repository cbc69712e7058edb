# kpx as an image: `docker build -t kpx:0.1.0 .`
FROM debian:bookworm-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv python3-dev gcc libc6-dev
RUN python3 -m venv /opt/kpx
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY kpx ./kpx
# pip goes, and the half of the Kubernetes client that nothing imports. The file system may be read-only, so modules are
# compiled now, but for the client's hundreds of models and calls: kpx decodes the API's objects itself.
RUN export PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
    && /opt/kpx/bin/pip install --no-cache-dir --no-compile --use-pep517 . \
    && /opt/kpx/bin/pip uninstall --yes pip setuptools \
    && rm -r /opt/kpx/lib/python3*/site-packages/kubernetes/aio \
    && python3 -m compileall -q -j 0 -x 'kubernetes/client/(api|models)/' /opt/kpx/lib

FROM debian:bookworm-slim
# iptables brings both variants. kpx uses the one that the node's kubelet uses, found out when it starts; `iptables`
# itself is whatever the distribution makes it, so name iptables-nft or iptables-legacy when you look by hand.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 iptables nftables kmod \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/*.log
COPY --from=build /opt/kpx /opt/kpx
ENV PATH=/opt/kpx/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8
# A DaemonSet that calls kube-proxy finds it where kube-proxy's own image has it.
RUN ln -s /opt/kpx/bin/kube-proxy /usr/local/bin/kube-proxy
ENTRYPOINT ["kpx"]
CMD ["daemon"]
