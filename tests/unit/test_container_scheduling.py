"""What Docker's clients say of a container's place: out of Env, into labels, and to the scheduler."""

import json

import pytest

from nacre.cloud.containers.scheduling import (
    ID_LABEL,
    LABELS,
    NotSchedulable,
    Placement,
    conditions_of,
    prepare,
    reschedule_of,
)

LINE = [
    "constraint:system_overload_10min==/[0-2][0-5]/",
    "constraint:architecture==x86_64",
    "constraint:virtual=virtualbox",
    "constraint:selinux_enforced=false",
]
"""The documents' own docker run line."""


def of_env(*env: str, **host_config: object) -> Placement:
    return prepare({"Env": list(env), "Image": "redis"}, host_config)


def test_the_documents_line() -> None:
    made = of_env("A=1", *LINE, "B=constraint:x==y", "C")
    assert made.config["Env"] == ["A=1", "B=constraint:x==y", "C"]
    assert made.config["Image"] == "redis"
    assert json.loads(made.config["Labels"][LABELS["constraint"]]) == [entry.removeprefix("constraint:") for entry in LINE]
    assert [str(expression) for expression in made.conditions.constraints] == [
        "system_overload_10min==/[0-2][0-5]/",
        "architecture==x86_64",
        "virtual==virtualbox",
        "selinux_enforced==false",
    ]
    assert made.warnings == (
        "virtual=virtualbox: a single = is taken as ==",
        "selinux_enforced=false: a single = is taken as ==",
    )
    assert made.config["Labels"][ID_LABEL] == made.swarm_id
    assert len(made.swarm_id) == 64
    assert conditions_of(made.config, {}) == made.conditions


def test_labels_come_first_and_an_id_of_another_container_is_replaced() -> None:
    labels = {LABELS["affinity"]: '["container==db"]', ID_LABEL: "f" * 64, "mine": "1"}
    config = {"Env": ["affinity:image==redis", "whitelist:node==a|b"], "Labels": labels}
    made = prepare(config, {})
    assert json.loads(made.config["Labels"][LABELS["affinity"]]) == ["container==db", "image==redis"]
    assert made.config["Labels"]["mine"] == "1"
    assert made.swarm_id not in ("", "f" * 64)
    assert config["Labels"] is labels
    assert labels[ID_LABEL] == "f" * 64
    again = prepare(made.config, {}, swarm_id=made.swarm_id)
    assert again.swarm_id == made.swarm_id
    assert again.config == made.config


def test_other_containers_that_must_be_on_the_same_host() -> None:
    made = of_env(VolumesFrom=["data:ro"], Links=["db:database"], NetworkMode="container:web")
    assert [(each.flag, each.container) for each in made.conditions.dependencies] == [
        ("--volumes-from=data:ro", "data"),
        ("--link=db:database", "db"),
        ("--net=container:web", "web"),
    ]


def test_ports_matter_in_the_hosts_own_network_only() -> None:
    config = {"ExposedPorts": {"80/tcp": {}}}
    assert prepare(config, {"NetworkMode": "default"}).conditions.exposed == ()
    assert prepare(config, {"NetworkMode": "host"}).conditions.exposed == ("80/tcp",)


def test_reschedule_policies() -> None:
    made = of_env("reschedule:on-node-failure")
    assert made.reschedule == "on-node-failure"
    assert reschedule_of(made.config["Labels"]) == "on-node-failure"
    assert of_env().reschedule == of_env("reschedule:off").reschedule == "off"


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (["reschedule:always"], "invalid reschedule policy: always"),
        (["reschedule:off", "reschedule:on-node-failure"], "too many reschedule policies"),
        (["constraint:storage"], "One of operator ==, != is expected"),
        (["affinity:9==a"], "Key '9' is invalid"),
        (["whitelist:node=="], "Value '' is invalid"),
        ([f"constraint:label{number}==x" for number in range(33)], "There are more than 32 expressions of one kind"),
    ],
)
def test_what_is_refused(env: list[str], message: str) -> None:
    with pytest.raises(NotSchedulable) as refused:
        of_env(*env)
    assert refused.value.message == message


def test_a_label_that_is_no_list_is_refused() -> None:
    with pytest.raises(NotSchedulable, match="constraints is not a JSON list"):
        prepare({"Labels": {LABELS["constraint"]: "storage==ssd"}}, {})
