"""What the site's API counts and lists."""

from tests.site.ads.models import CarAd


def validated() -> list[int]:
    return list(CarAd.objects.filter(is_validated=True).order_by("id").values_list("id", flat=True))


def pending() -> list[int]:
    return list(CarAd.objects.filter(is_validated=False).order_by("id").values_list("id", flat=True))
