# The artifact with its environment, for CPUs; the run itself needs no network.
#
#   docker build --tag tclap . && mkdir out
#   docker run --rm --network none --volume "$PWD/out:/out" tclap
#   docker run --rm --network none --volume "$PWD/out:/out" --volume /data/ESC-50-master:/esc50:ro tclap \
#       make reproduce PROFILE=esc50 ESC50_ROOT=/esc50
#
# Outputs are written to /out, by user 1000 unless --build-arg UID=$(id -u) says otherwise. Weights are mounted like
# data: WEIGHTS=/weights/FILE, or the hub's cache at /home/tclap/.cache/huggingface.

FROM python:3.11-slim AS system
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bsdextrautils git make \
    && rm -rf /var/lib/apt/lists/*
# PyTorch's own index has wheels without CUDA, several GB smaller; empty: the wheels of PyPI.
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ENV PIP_EXTRA_INDEX_URL=$PIP_EXTRA_INDEX_URL PIP_NO_CACHE_DIR=1
ARG UID=1000
RUN useradd --create-home --uid "$UID" tclap && install --directory --owner tclap /out
USER $UID
RUN mkdir /home/tclap/checkout

FROM system
WORKDIR /home/tclap/checkout
COPY --chown=tclap Makefile pyproject.toml requirements.lock ./
RUN touch LICENSE README.md && make .venv/ready
COPY --chown=tclap . .
# A newer checkout of the same lock must not look as if the environment were older than it.
RUN touch .venv/ready
ENV HF_HUB_OFFLINE=1 TCLAP_ROOT=/out
CMD ["make", "reproduce"]
