from server.models import control  # noqa: F401  registers the tables
from server.models.base import ControlBase
from server.models.migration import run_environment

run_environment(ControlBase.metadata)
