# The container image of HyperFormer. docs/docker.md says how it is built, run and made smaller.
#   docker build --build-arg COMMIT="$(git rev-parse HEAD)" -t hyperformer .
# BASE: Python 3.11 or newer on Debian or Ubuntu. TORCH_INDEX: an index with another build of torch, such as
# https://download.pytorch.org/whl/cpu for a laptop. The default is PyPI's torch, which includes CUDA.
ARG BASE=python:3.11-slim

FROM ${BASE} AS tools
# A site's own pip.conf and certificates come as build secrets: only these commands see them; no layer keeps them.
# hadolint ignore=DL3013
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/etc/pip-ca.pem \
    pip install --no-cache-dir "setuptools>=64" wheel

# Our package and its requirements. This stage is built again at every commit, in seconds. The next stage
# uses only the list of requirements, which seldom changes.
FROM tools AS code
COPY . /src
RUN python -m venv --without-pip /opt/venv \
 && pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir /wheel /src \
 && pip --python /opt/venv/bin/python install --no-cache-dir --no-index --no-deps --no-compile /wheel/*.whl \
 && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib \
 && /opt/venv/bin/python -c "from importlib.metadata import requires; \
lines = (line.partition(';') for line in requires('hyperformer')); \
print(*(name for name, _, extra in lines if 'dev' not in extra), sep='\n')" > /requirements.txt

FROM tools AS packages
ARG TORCH_INDEX=
RUN python -m venv --without-pip /opt/venv
COPY constraints.txt /
COPY --from=code /requirements.txt /
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/etc/pip-ca.pem \
    pip --python /opt/venv/bin/python install --no-cache-dir --no-compile -c /constraints.txt \
    ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} -r /requirements.txt
COPY docker/slim.py /
RUN python /slim.py /opt/venv /torch

FROM ${BASE}
# tini is process 1: it forwards the signal of `docker stop` to the command, and adopts orphaned processes.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
 && useradd --uid 1000 --user-group --home-dir /cache --no-create-home hyperformer \
 && install -d -m 1777 /work /cache
# The largest and least often changed layers first.
COPY --from=packages /torch/ /
COPY --from=packages /opt/venv /opt/venv
# The NVIDIA runtimes of clusters (enroot, podman) give GPUs to images that set these variables.
ENV PATH=/opt/venv/bin:$PATH PYTHONNOUSERSITE=1 PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=code /opt/venv /opt/venv
ARG COMMIT=
RUN echo "${COMMIT}" > /opt/venv/commit
LABEL org.opencontainers.image.title="HyperFormer" \
      org.opencontainers.image.description="Parameter-efficient multi-task fine-tuning of T5" \
      org.opencontainers.image.revision="${COMMIT}"
WORKDIR /work
USER 1000:1000
HEALTHCHECK --interval=5m --timeout=60s --start-period=1m CMD ["hyperformer-container", "check", "--quick"]
ENTRYPOINT ["tini", "--", "hyperformer-container"]
