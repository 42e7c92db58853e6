"""The dashboards."""

from deploy.grafana.board import Board
from deploy.grafana.boards.analyses import ANALYSES
from deploy.grafana.boards.keys import KEYS
from deploy.grafana.boards.overview import OVERVIEW
from deploy.grafana.boards.providers import PROVIDERS
from deploy.grafana.boards.queues import QUEUES
from deploy.grafana.boards.usage import USAGE

BOARDS: tuple[Board, ...] = (OVERVIEW, KEYS, ANALYSES, PROVIDERS, USAGE, QUEUES)
