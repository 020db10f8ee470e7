# Redis 7 from Debian's packages, for machines that reach no image registry:
#
#   docker build -t hodei-redis:debian -f deploy/debian/redis.Dockerfile deploy/debian
#   REDIS_IMAGE=hodei-redis:debian docker compose -f deploy/compose.yaml up -d
#
# As far as deploy/compose.yaml goes it is the official image: the same user (999:999) and data folder.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
RUN set -eu; \
    export DEBIAN_FRONTEND=noninteractive; \
    groupadd --system --gid 999 redis; \
    useradd --system --uid 999 --gid 999 --home-dir /data --shell /usr/sbin/nologin redis; \
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; \
    chmod +x /usr/sbin/policy-rc.d; \
    apt-get update; \
    apt-get install --yes --no-install-recommends redis-server; \
    rm -rf /var/lib/apt/lists/*; \
    install -d -o redis -g redis /data
USER 999:999
WORKDIR /data
VOLUME /data
EXPOSE 6379
CMD ["redis-server"]
