"""What every pane stands on: routes as data, authentication, policy, errors, microversions, pagination, request ids."""

from nacre.panes.edge.call import Call, Reply
from nacre.panes.edge.microversion import Microversions, Version
from nacre.panes.edge.route import Route, Service

__all__ = ["Call", "Microversions", "Reply", "Route", "Service", "Version"]
