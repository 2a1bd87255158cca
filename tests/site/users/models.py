from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models

from tests.site.models import BaseModel


class UserModel(AbstractBaseUser, PermissionsMixin, BaseModel):
    email = models.EmailField(unique=True)
    is_active = models.BooleanField(default=False)
    is_staff = models.BooleanField(default=False)
    is_superuser = models.BooleanField(default=False)

    USERNAME_FIELD = "email"
    objects = BaseUserManager["UserModel"]()

    class Meta:
        db_table = "auth_user"


class ProfileModel(BaseModel):
    name = models.CharField(max_length=255, blank=True)
    surname = models.CharField(max_length=255, blank=True)
    age = models.IntegerField(null=True)
    avatar = models.ImageField(upload_to="avatars/", blank=True)
    avatar_url = models.TextField(blank=True, null=True)
    user = models.OneToOneField(UserModel, on_delete=models.CASCADE, related_name="profile")

    class Meta:
        db_table = "profiles"
