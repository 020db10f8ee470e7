# Prometheus from Debian's packages, for machines that reach no image registry:
#
#   docker build -t hodei-prometheus:debian -f deploy/debian/prometheus.Dockerfile deploy/debian
#   PROMETHEUS_IMAGE=hodei-prometheus:debian docker compose -f deploy/compose.yaml up -d
#
# As far as deploy/compose.yaml goes it is the official image: the same user (65534:65534) and folders.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
RUN set -eu; \
    export DEBIAN_FRONTEND=noninteractive; \
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; \
    chmod +x /usr/sbin/policy-rc.d; \
    apt-get update; \
    apt-get install --yes --no-install-recommends prometheus; \
    rm -rf /var/lib/apt/lists/*; \
    install -d -o nobody -g nogroup /prometheus
USER 65534:65534
WORKDIR /prometheus
VOLUME /prometheus
EXPOSE 9090
ENTRYPOINT ["prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
