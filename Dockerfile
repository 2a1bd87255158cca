# One image for all processes of the suite: docker run IMAGE pocketwatch publish
FROM python:3.11.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# Without pip: the final image gets nothing that installs or builds.
RUN python -m venv --without-pip /opt/pocketwatch
COPY requirements.lock ./
RUN pip --python /opt/pocketwatch/bin/python install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY templates templates
COPY pocketwatch pocketwatch
COPY publishers publishers
COPY consumers consumers
COPY console console
RUN pip --python /opt/pocketwatch/bin/python install --no-deps .

FROM python:3.11.13-slim-bookworm
ENV PATH=/opt/pocketwatch/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --uid 10001 --no-create-home --home-dir /srv pocketwatch \
 && install --directory --owner=pocketwatch --group=pocketwatch /srv/media /srv/static /srv/logs
COPY --from=build /opt/pocketwatch /opt/pocketwatch
USER pocketwatch
WORKDIR /srv
CMD ["pocketwatch", "--help"]
