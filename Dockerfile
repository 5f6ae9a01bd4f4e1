# This Meltano project as an image: see docs/containers.md.
FROM python:3.13-slim

WORKDIR /project
COPY . .
# What is installed is pinned in pyproject.toml.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[meltano]' \
    && meltano install \
    && rm -rf /root/.cache \
    && mkdir -p .meltano/run /data \
    && chown 10001:10001 .meltano/run /data

# All that is written to: /data is to stay, /tmp and .meltano/run are not.
ENV PYTHONDONTWRITEBYTECODE=1 \
    TMPDIR=/tmp \
    XDG_STATE_HOME=/tmp/state \
    MELTANO_DATABASE_URI=sqlite:////data/meltano.db \
    TARGET_DUCKDB_FILEPATH=/data/warehouse.duckdb \
    TARGET_DUCKDB_BATCH_FILEPATH=/data/warehouse.duckdb

USER 10001:10001
VOLUME ["/data", "/tmp", "/project/.meltano/run"]
ENTRYPOINT ["meltano", "--environment=prod"]
CMD ["run", "tap-mixpanel-parallel", "target-duckdb"]
