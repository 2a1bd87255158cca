"""The media of the site, as its uploads and its image generator store them."""

import os
import time
from pathlib import Path

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone

from tests.site.ads.models import AddImageModel, CarAd, CarMarkModel
from tests.site.users.models import ProfileModel, UserModel

PICTURE = ContentFile(b"a picture", name="фото (1).png")


def store(*, days_old: float) -> list[str]:
    """Store a file for each field that names one, and return their paths below MEDIA_ROOT."""
    user = UserModel.objects.earliest("id")
    profile = ProfileModel(user=user)
    profile.avatar.save("upload.png", PICTURE, save=False)
    generated = default_storage.save("avatars/generated/avatar_5943d3ce8170.png", PICTURE)
    profile.avatar_url = f"/api/media/{generated}"
    profile.save()
    mark = CarMarkModel.objects.earliest("id")
    mark.logo.save("logo.png", PICTURE)
    image = AddImageModel(ad=CarAd.objects.earliest("id"))
    image.image.save("фото (1).png", PICTURE, save=False)
    drawn = default_storage.save(f"{timezone.now():%Y-%m-%d}/generated-images/фото (1).png", PICTURE)
    image.image_url = f"https://cars.example{default_storage.url(drawn)}?v=1"
    image.save()
    stored = [profile.avatar.name, generated, mark.logo.name, image.image.name, drawn]
    moment = time.time() - days_old * 86400
    for name in stored:
        os.utime(Path(default_storage.path(name)), (moment, moment))
    return stored
