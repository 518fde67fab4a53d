# docker build -t fusebox .
# docker run -p 8080:8080 -p 127.0.0.1:8081:8081 -v ./config:/etc/fusebox:ro -v fusebox:/var/lib/fusebox fusebox
#
# Mounted settings need, other than on a laptop: both addresses on 0.0.0.0 (inside the container; publish
# the admin port on loopback only), [state] directory = "/var/lib/fusebox" and, with SQLite, [storage]
# url = "sqlite:////var/lib/fusebox/fusebox.db". What comes without a mount is the shipped config with just
# these changes.

FROM python:3.11-bookworm AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/fusebox
COPY requirements/base.lock requirements/
RUN pip --python /opt/fusebox/bin/python install --no-cache-dir --require-hashes -r requirements/base.lock
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
RUN pip --python /opt/fusebox/bin/python install --no-cache-dir --no-deps .
COPY config config
RUN sed -i -e 's/^address = "127.0.0.1:/address = "0.0.0.0:/' \
           -e 's|^directory = "var|directory = "/var/lib/fusebox|' \
           -e 's|^url = "sqlite:///var/|url = "sqlite:////var/lib/fusebox/|' config/fusebox.toml \
    && /opt/fusebox/bin/fusebox check --config config/fusebox.toml

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin fusebox \
    && install -d -o fusebox -g fusebox -m 0700 /var/lib/fusebox
COPY --from=build /opt/fusebox /opt/fusebox
COPY --from=build /src/config /etc/fusebox
ENV PATH=/opt/fusebox/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    FUSEBOX_CONFIG=/etc/fusebox/fusebox.toml \
    FUSEBOX_ADMIN=http://127.0.0.1:8081
USER fusebox
VOLUME /var/lib/fusebox
EXPOSE 8080 8081
# SIGTERM drains for up to deadlines.drain_s (30 s): docker stop --timeout 40
STOPSIGNAL SIGTERM
# Around any HTTP_PROXY; 503 while starting and draining raises, so the exit code is 1.
HEALTHCHECK --interval=5s --timeout=3s --start-period=15s --retries=2 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(os.environ['FUSEBOX_ADMIN'] + '/readyz', timeout=2)"]
ENTRYPOINT ["fusebox"]
CMD ["serve"]
