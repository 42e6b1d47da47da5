"""Metering labels and rules: an admin's, with counters that the routers' hosts are asked for."""

from tests.functional.test_network_networks import N, error, make
from tests.support import Client

M = "metering/metering-labels"
R = "metering/metering-label-rules"


def test_labels_and_rules(admin: Client, member: Client) -> None:
    label = make(admin, "metering_label", M, name="out", description="d")
    assert (label["shared"], label["description"]) == (False, "d")
    values = {"metering_label_id": label["id"], "direction": "egress"}
    rule = make(admin, "metering_label_rule", R, **values, remote_ip_prefix="192.0.2.0/24")
    assert (rule["excluded"], rule["source_ip_prefix"]) == (False, None)
    refused = [
        ({}, 400),
        ({"remote_ip_prefix": "192.0.2.0/24"}, 409),
        ({"remote_ip_prefix": "nowhere"}, 400),
        ({"remote_ip_prefix": "192.0.2.0/24", "source_ip_prefix": "10.0.0.0/8"}, 400),
        ({"source_ip_prefix": "10.0.0.0/8", "destination_ip_prefix": "2001:db8::/32"}, 400),
        ({"source_ip_prefix": "10.0.0.0/8", "metering_label_id": "none"}, 404),
    ]
    for change, status in refused:
        assert error(admin("POST", f"{N}/{R}", {"metering_label_rule": {**values, **change}}))[0] == status, change
    for path in (M, f"{M}/{label['id']}", R, f"{M}/{label['id']}/counters"):
        assert error(member("GET", f"{N}/{path}")) == (403, "PolicyNotAuthorized")
    assert admin("GET", f"{N}/{M}/{label['id']}/counters").json == {"metering_counters": []}
    assert error(admin("GET", f"{N}/{M}/none/counters"))[0] == 404
    assert admin("DELETE", f"{N}/{M}/{label['id']}").status == 204
    assert admin("GET", f"{N}/{R}").json["metering_label_rules"] == []
