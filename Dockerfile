# The page with everything in it. For the CPU, name PyTorch's CPU index and save gigabytes:
#   docker build --build-arg TORCH_INDEX_URL=<PyTorch's CPU wheel index> -t hrn-opt .
# Without it torch comes with CUDA:
#   docker build -t hrn-opt .
FROM python:3.11-slim

ARG TORCH_INDEX_URL=""

# HOME and HRN_OPT_HOME are named, so that they hold for every user that a container is started as, also for one that
# has no line in /etc/passwd.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    HOME=/home/hrn \
    HRN_OPT_HOME=/home/hrn/.cache/hrn_opt \
    HRN_OPT_HOST=0.0.0.0 \
    HRN_OPT_PORT=8080

# Its group is 0, as that of any number for which a cluster makes up a user: HRN's pack lies in a folder that both may
# write to, and a fresh named volume mounted there takes over who may.
RUN useradd --create-home --uid 1000 --gid 0 hrn && \
    mkdir -p "$HRN_OPT_HOME" && \
    chown -R 1000:0 "$HOME" && \
    chmod -R u=rwX,g=rwX,o=rX "$HOME"
WORKDIR /source

# The layers that change least come first: the pins, then the package. What is only for those who test or extend the
# packages is deleted in the layer that brought it, since a later one could not make the image smaller: 0.3 GB of tests,
# headers and test programs. torch_shm_manager is the one program that torch itself starts.
COPY requirements.txt constraints.txt ./
RUN pip install ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -r requirements.txt && \
    cd "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" && \
    find torch/bin -type f ! -name torch_shm_manager -delete && \
    rm -rf torch/include torch/share torch/test gradio/templates/node && \
    find . -type d -name tests -prune -exec rm -rf {} +

COPY pyproject.toml LICENSE NOTICE README.md ./
COPY hrn_opt ./hrn_opt
RUN pip install --no-deps .

# The licence is the program's own; NOTICE names those of what comes with it.
LABEL org.opencontainers.image.title="hrn-opt" \
      org.opencontainers.image.description="One photo of a face in, a textured 3D face out." \
      org.opencontainers.image.licenses="Apache-2.0"
# From the builder, last, since they differ from build to build: --build-arg REVISION="$(git rev-parse HEAD)".
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

USER 1000
WORKDIR /home/hrn
EXPOSE 8080
# Asks where the server listens, also where `serve --port 9000` was said, and passes over proxies.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["hrn-opt", "health"]
# Every command ends on SIGTERM from its first moments on, so that no other first process is needed.
ENTRYPOINT ["hrn-opt"]
CMD ["serve"]
