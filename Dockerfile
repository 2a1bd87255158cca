# One image for all processes of the suite: docker run IMAGE pocketwatch publish
#
# A tag can be moved to other content. To pin it, name the digest that you have checked:
# docker build --build-arg PYTHON_IMAGE=python:3.13.15-slim-trixie@sha256:… .
ARG PYTHON_IMAGE=python:3.13.15-slim-trixie
FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# Without pip: the final image gets nothing that installs or builds.
RUN python -m venv --without-pip /opt/pocketwatch
COPY requirements.lock requirements-build.lock ./
RUN pip install --require-hashes -r requirements-build.lock
RUN pip --python /opt/pocketwatch/bin/python install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY templates templates
COPY pocketwatch pocketwatch
COPY publishers publishers
COPY consumers consumers
COPY console console
# Isolation would download the build dependencies again, without hashes.
RUN pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /dist . \
 && pip --python /opt/pocketwatch/bin/python install --no-index --no-deps /dist/*.whl

FROM ${PYTHON_IMAGE}
ENV PATH=/opt/pocketwatch/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --uid 10001 --no-create-home --home-dir /srv pocketwatch \
 && install --directory --owner=pocketwatch --group=pocketwatch /srv/media /srv/static /srv/logs
COPY --from=build /opt/pocketwatch /opt/pocketwatch
USER pocketwatch
WORKDIR /srv
CMD ["pocketwatch", "--help"]
