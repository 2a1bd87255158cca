# Stand-ins for the images of compose.yaml and Dockerfile: `debian` has the programs of all of them, and no /etc.

FROM debian AS base
ENV LANG=C.UTF-8 PATH=/usr/local/bin:/usr/lib/rabbitmq/bin:/usr/lib/postgresql/17/bin:/usr/sbin:/usr/bin
RUN chmod 1777 /tmp && ln -s ../run /var/run && mkdir -p /etc/ssl/certs /var/lib \
 && touch /etc/passwd /etc/shadow /etc/group /etc/gshadow && echo 'USERGROUPS_ENAB yes' >/etc/login.defs \
 && cat /usr/share/ca-certificates/mozilla/*.crt >/etc/ssl/certs/ca-certificates.crt \
 && echo root:x:0:0::/root:/bin/sh >>/etc/passwd && echo root:x:0: >>/etc/group

FROM base AS rabbitmq
ENV HOME=/var/lib/rabbitmq RUNNING_UNDER_SYSTEMD=1
RUN useradd --system rabbitmq && install --directory --owner=rabbitmq /var/lib/rabbitmq /var/log/rabbitmq /etc/rabbitmq
COPY <<END /etc/rabbitmq/enabled_plugins
[rabbitmq_management].
END
COPY <<END /etc/rabbitmq/conf.d/10-defaults.conf
log.console = true
log.file = false
END
USER rabbitmq
VOLUME /var/lib/rabbitmq
CMD ["rabbitmq-server"]

FROM base AS postgres
ENV PGDATA=/var/lib/postgresql/data
RUN useradd --system postgres && install --directory --mode=700 --owner=postgres $PGDATA \
 && install --directory --mode=3777 --owner=postgres /var/run/postgresql
COPY --chmod=755 <<"END" /usr/local/bin/start
#!/bin/sh
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --auth=trust --username="$POSTGRES_USER"
    printf '%s\n' "ALTER USER $POSTGRES_USER PASSWORD '$POSTGRES_PASSWORD'" "CREATE DATABASE $POSTGRES_DB" |
        postgres --single postgres
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
fi
exec "$@" -c 'listen_addresses=*'
END
USER postgres
VOLUME $PGDATA
STOPSIGNAL SIGINT
ENTRYPOINT ["start"]

FROM base AS redis
RUN useradd --system redis && install --directory --owner=redis /data
WORKDIR /data
VOLUME /data

# Its packages come from /wheels.
FROM base AS python
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
RUN python3 -m venv --without-pip /usr/local && pip --python /usr/local/bin/python install -q pip

# Takes emails, and keeps none.
FROM python AS mailpit
RUN pip install -q aiosmtpd
COPY --chmod=755 <<END /mailpit
#!/usr/local/bin/python
import signal, smtplib, sys
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
if sys.argv[1:] == ["readyz"]:
    smtplib.SMTP("127.0.0.1", 1025, timeout=3).quit()
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    Controller(Sink(), hostname="0.0.0.0", port=1025).start()
    signal.pause()
END
ENTRYPOINT ["/mailpit"]
