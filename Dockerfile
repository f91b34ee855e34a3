# The service of one library. Everything that must be kept is in /data: the catalog, the index, and the models of the hub.
# The packages are those of requirements.lock, by hash; with CUDA they take about 5 GB.

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_DEFAULT_TIMEOUT=180
RUN python -m venv /opt/speakerdb
COPY requirements.lock /src/
RUN /opt/speakerdb/bin/pip install --require-hashes --requirement /src/requirements.lock
COPY pyproject.toml README.md LICENSE /src/
COPY speakerdb /src/speakerdb
COPY migrations /src/migrations
COPY opensearch /src/opensearch
# The build backend is in the lock, so nothing is fetched here.
RUN /opt/speakerdb/bin/pip install --no-deps --no-build-isolation --no-index /src

FROM python:3.11-slim
COPY --from=build /opt/speakerdb /opt/speakerdb
RUN useradd --system --uid 10001 --home-dir /data speakerdb && install --directory --owner speakerdb --group speakerdb /data
ENV PATH=/opt/speakerdb/bin:$PATH SPEAKERDB_DATA_DIR=/data HF_HOME=/data/huggingface PYTHONUNBUFFERED=1
USER speakerdb
WORKDIR /data
VOLUME ["/data"]
# On SIGTERM it finishes what it does, or gives it back, within ten seconds; nothing is lost.
STOPSIGNAL SIGTERM
EXPOSE 8765
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8765/v1/health', timeout=5)"]
ENTRYPOINT ["speakerdb"]
CMD ["serve"]
