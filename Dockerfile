# The image for GPU machines (x86-64 with AVX2): docker build -t autotrain .
# docker run --rm --gpus all --shm-size=4g -v "$PWD:/job" --user "$(id -u):$(id -g)" -e HOME=/tmp autotrain probe task.py
# The driver on the host must know CUDA 13 (580 or newer), as torch's own builds do.
ARG BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04

# hadolint ignore=DL3006
FROM ${BASE} AS builder
# No versions: Ubuntu takes superseded ones out of its archive, so pinned ones would break the build within weeks.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        build-essential libjpeg-turbo8-dev libwebp-dev python3-dev python3-venv zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/autotrain
ENV PATH=/opt/autotrain/bin:$PATH
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY autotrain autotrain
RUN pip install --no-cache-dir --disable-pip-version-check .
# Pillow-SIMD shares Pillow's import name: it gets a folder of its own, which loader workers import it from.
RUN CC="cc -mavx2" pip install --no-cache-dir --disable-pip-version-check --no-deps --no-binary pillow-simd \
        --target /opt/pillow-simd pillow-simd==12.1.1.post0 \
    && PYTHONPATH=/opt/pillow-simd python -c "from PIL import features; assert features.check('jpg')"

# hadolint ignore=DL3006
FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        libjpeg-turbo8 libwebp7 libwebpdemux2 libwebpmux3 python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home autotrain \
    && install -d -o autotrain /job
COPY --from=builder /opt/autotrain /opt/autotrain
COPY --from=builder /opt/pillow-simd /opt/pillow-simd
ENV PATH=/opt/autotrain/bin:$PATH \
    AUTOTRAIN_PILLOW_SIMD=/opt/pillow-simd \
    PYTHONUNBUFFERED=1
RUN PYTHONPATH=/opt/pillow-simd python -c "from PIL import features; assert features.check('jpg')" \
    && python -c "import torch, torchvision; from autotrain.decode.simd import unavailable; assert unavailable() is None"
USER 10001
WORKDIR /job
ENTRYPOINT ["autotrain"]
CMD ["--help"]
