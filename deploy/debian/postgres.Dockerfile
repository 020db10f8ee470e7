# Postgres 15 from Debian's packages, for machines that reach no image registry:
#
#   docker build -t hodei-postgres:debian -f deploy/debian/postgres.Dockerfile deploy/debian
#   POSTGRES_IMAGE=hodei-postgres:debian docker compose -f deploy/compose.yaml up -d
#
# As far as deploy/compose.yaml goes it is the official image: the same user (999:999), data folder and POSTGRES_* variables.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
ENV PATH=/usr/lib/postgresql/15/bin:$PATH \
    LANG=C.UTF-8 \
    PGDATA=/var/lib/postgresql/data
RUN set -eu; \
    export DEBIAN_FRONTEND=noninteractive; \
    groupadd --system --gid 999 postgres; \
    useradd --system --uid 999 --gid 999 --home-dir /var/lib/postgresql --shell /bin/sh postgres; \
    mkdir -p /etc/postgresql-common; \
    echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf; \
    apt-get update; \
    apt-get install --yes --no-install-recommends postgresql-15; \
    rm -rf /var/lib/apt/lists/*; \
    install -d -o postgres -g postgres -m 0700 "$PGDATA"; \
    install -d -o postgres -g postgres -m 3775 /var/run/postgresql
COPY postgres-entrypoint /usr/local/bin/
USER 999:999
VOLUME /var/lib/postgresql/data
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres-entrypoint"]
CMD ["postgres"]
