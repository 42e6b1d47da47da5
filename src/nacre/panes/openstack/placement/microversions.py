"""Placement's microversions. Source: https://docs.openstack.org/placement/latest/placement-api-microversion-history.html.

Providers, inventories and allocations are the scheduler's to write, so what a version changes in their writes has no effect here, and
allocation candidates (1.10 and what builds on it) are not served.
"""

from nacre.panes.edge import Microversions, Version

TABLE = {
    Version(1, 0): "Resource providers, inventories, usages and allocations.",
    Version(1, 1): "Aggregates of a resource provider.",
    Version(1, 2): "Resource classes.",
    Version(1, 3): "Providers by member_of; not served.",
    Version(1, 4): "Providers by the resources they have free.",
    Version(1, 5): "Deleting all inventories; a write.",
    Version(1, 6): "Traits.",
    Version(1, 7): "Resource classes are made by PUT; a write.",
    Version(1, 8): "Allocations are written with project_id and user_id; a write.",
    Version(1, 9): "Usages of a project.",
    Version(1, 10): "Allocation candidates; not served.",
    Version(1, 11): "A provider links to its allocations.",
    Version(1, 12): "A consumer's allocations show project_id and user_id.",
    Version(1, 13): "Allocations of several consumers at once; a write.",
    Version(1, 14): "Providers show their parent and root, and are listed by in_tree.",
    Version(1, 15): "Last-Modified and Cache-Control headers.",
    Version(1, 16): "A limit for allocation candidates; not served.",
    Version(1, 17): "Allocation candidates by traits; not served.",
    Version(1, 18): "Providers by required traits.",
    Version(1, 19): "Aggregates show the provider's generation.",
    Version(1, 20): "A new provider is in the answer; a write.",
    Version(1, 21): "Allocation candidates by member_of; not served.",
    Version(1, 22): "Providers by forbidden traits.",
    Version(1, 23): "Errors have a code.",
    Version(1, 24): "member_of may be repeated; not served.",
    Version(1, 25): "Granular requests for allocation candidates; not served.",
    Version(1, 26): "All of an inventory may be reserved; a write.",
    Version(1, 27): "All providers of a tree in the summaries of candidates; not served.",
    Version(1, 28): "Consumers have a generation.",
    Version(1, 29): "Nested providers among the candidates; not served.",
    Version(1, 30): "The reshaper; a write.",
    Version(1, 31): "Candidates by in_tree; not served.",
    Version(1, 32): "Forbidden aggregates; not served.",
    Version(1, 33): "Text as a suffix of request groups; not served.",
    Version(1, 34): "Mappings of request groups; not served.",
    Version(1, 35): "Traits of the root for candidates; not served.",
    Version(1, 36): "Request groups of the same subtree; not served.",
    Version(1, 37): "Providers may change their parent; a write.",
    Version(1, 38): "Consumers have a type.",
    Version(1, 39): "Providers by any of several traits; not served.",
}
MICROVERSIONS = Microversions("placement", TABLE)
