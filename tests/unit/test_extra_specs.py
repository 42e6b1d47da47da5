"""Extra specs as microversion 2.86 checks them."""

import pytest

from nacre.cloud.compute.extra_specs import check
from nacre.cloud.errors import Invalid


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hw:cpu_policy", "shared"),
        ("hw:numa_cpus.1", "0-3,^2"),
        ("hw:max_cpu_cores", "4"),
        ("hw:mem_page_size", "2MiB"),
        ("quota:cpu_shares", "2048"),
        ("resources:VCPU", "2"),
        ("resources_net1:CUSTOM_BANDWIDTH", "10"),
        ("trait:CUSTOM_GOLD", "required"),
        ("trait2:HW_CPU_X86_AVX", "forbidden"),
        ("aggregate_instance_extra_specs:ssd", "true"),
        ("capabilities:cpu_info:features", "<in> avx"),
        ("foo:bar", "anything"),
        ("plain", "anything"),
    ],
)
def test_what_nova_knows_and_what_is_ones_own_is_taken(name: str, value: str) -> None:
    check({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hw:cpu_policy", "sharred"),
        ("hw:cpu_pollicy", "shared"),
        ("hw:numa_nodes", "0"),
        ("hw:numa_nodes", "two"),
        ("hw:pmu", "perhaps"),
        ("quota:cpu_shares", "-1"),
        ("resources:vcpu", "2"),
        ("trait:CUSTOM_GOLD", "preferred"),
        ("hw_rng:allowed", ""),
    ],
)
def test_what_is_none_of_novas_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(Invalid) as refused:
        check({"fine": "1", name: value})
    assert refused.value.field == f"extra_specs.{name}"
    assert name in refused.value.message
