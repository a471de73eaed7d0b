# syntax=docker/dockerfile:1

# The web app.
FROM node:22-bookworm-slim AS web
WORKDIR /build/web
COPY web/package.json web/package-lock.json ./
RUN --mount=type=cache,target=/tmp/npm npm ci --cache /tmp/npm --no-audit --no-fund
# The whole tree, since the web app embeds tests/operations.
COPY . /build
RUN npm run build

# The server, with the web app embedded.
FROM rust:1.95-bookworm AS server
WORKDIR /build
COPY . .
COPY --from=web /build/web/dist web/dist
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin salespulse \
    && strip --strip-debug -o /salespulse target/release/salespulse

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /app --shell /usr/sbin/nologin salespulse \
    && install -d -o salespulse -g salespulse /app /app/data
COPY --from=server /salespulse /usr/local/bin/salespulse
USER salespulse
WORKDIR /app
# For the defaults of DATABASE_URL and SALESPULSE_SIGNING_KEYS, which are files in this directory.
VOLUME /app/data
ENV SALESPULSE_LISTEN=0.0.0.0:4000 SALESPULSE_LOG_FORMAT=json
EXPOSE 4000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["salespulse", "health"]
ENTRYPOINT ["salespulse"]
CMD ["serve"]
