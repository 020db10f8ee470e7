"""The installed version of the platform."""

from importlib.metadata import version

VERSION = version("hodei-jobs")
