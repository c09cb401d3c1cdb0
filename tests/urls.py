"""The URLs of the tests that run inside pytest's own process."""

from django.contrib import admin
from django.urls import path

urlpatterns = [path("admin/", admin.site.urls)]
