FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/build && python -m venv /opt/signalpost
COPY requirements-build.lock requirements-image.lock ./
RUN /opt/build/bin/pip install -q --no-cache-dir --no-deps --require-hashes -r requirements-build.lock
RUN /opt/signalpost/bin/pip install -q --no-cache-dir --no-deps --require-hashes -r requirements-image.lock
COPY . .
RUN /opt/build/bin/hatchling build -t wheel -d /dist
RUN /opt/signalpost/bin/pip install -q --no-cache-dir --no-deps /dist/*.whl

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/signalpost signalpost
COPY --from=build /opt/signalpost /opt/signalpost
ENV PATH=/opt/signalpost/bin:$PATH PYTHONUNBUFFERED=1
USER signalpost
# Beat keeps its schedule here; nothing in it is worth keeping.
WORKDIR /var/lib/signalpost
ENTRYPOINT ["signalpost"]
CMD ["--help"]
