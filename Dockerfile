# The page with everything in it. For the CPU, name PyTorch's CPU index and save gigabytes:
#   docker build --build-arg TORCH_INDEX_URL=<PyTorch's CPU wheel index> -t hrn-opt .
# Without it torch comes with CUDA:
#   docker build -t hrn-opt .
FROM python:3.11-slim

ARG TORCH_INDEX_URL=""

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    HRN_OPT_HOST=0.0.0.0 \
    HRN_OPT_PORT=8080

RUN useradd --create-home --uid 1000 hrn
WORKDIR /source

# The layers that change least come first: the pins, then the package.
COPY requirements.txt constraints.txt ./
RUN pip install ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} -r requirements.txt

COPY pyproject.toml LICENSE NOTICE README.md ./
COPY hrn_opt ./hrn_opt
RUN pip install --no-deps .

USER 1000
WORKDIR /home/hrn
# Its own, so that a named volume mounted here is writable: HRN's pack lies in it.
RUN mkdir -p .cache/hrn_opt
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['HRN_OPT_PORT'] + '/healthz', timeout=4)"]
ENTRYPOINT ["hrn-opt"]
CMD ["serve"]
