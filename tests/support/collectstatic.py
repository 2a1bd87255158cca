"""Django's own collectstatic, as a release runs it: python -m tests.support.collectstatic SOURCE STATIC_ROOT"""

import sys

import django
from django.conf import settings
from django.core.management import call_command


def main(source: str, root: str) -> None:
    settings.configure(
        INSTALLED_APPS=["django.contrib.staticfiles"],
        STATIC_URL="/static/",
        STATIC_ROOT=root,
        STATICFILES_DIRS=[source],
        STORAGES={"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}},
    )
    django.setup()
    call_command("collectstatic", interactive=False, verbosity=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
